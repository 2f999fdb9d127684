// What does more computation at the time of the question buy? Models that are not fully trained answer greedily and by
// k samples: a vote over them (maj@k) and the chance that one is right (pass@k), against the tokens that they cost.
//
//   chain  running sums, one path to the answer: what is not known is not known the same way in every sample
//   paths  the same sum in an order that the answer chooses (tasks/paths.h): samples go different ways, and err in
//          different places
#include "experiments/evaluate/interview.h"
#include "experiments/results/voting.h"
#include "experiments/statistics/curves.h"
#include "experiments/study/study.h"
#include "experiments/tasks/chain.h"
#include "experiments/tasks/paths.h"

namespace surtsey::experiments {
namespace {

struct Keys : StudyKeys {
  Keys()
      : StudyKeys({.widths = {{16}, {16, 32, 64}, {16, 32, 64, 128, 256}},
                   .n_layer = {2},
                   .learning_rates = {{.16}},
                   .steps = {300},
                   .batch_size = {192},
                   .selection = false,
                   .test_items = {500, 1000, 5000},
                   .evaluation_rows = {500, 4000},
                   .checkpoint_interval = {0}}) {}
  Key<int32_t> length{this, "length", {8}, "digits in a chain problem", 2, 1000};
  Key<int32_t> paths_length{this, "paths_length", {5}, "digits in a paths problem", 2, 26};
  Steps paths_steps{this, "paths_steps", {500}, "optimizer steps of the paths task"};
  Key<Integers> samples = Key<Integers>(this, "samples", {{1, 2, 4, 8, 16}, {1, 2, 4, 8, 16, 32, 64}},
                                        "answers to a question: each k of maj@k and pass@k", 1, 10'000);
  // Wang et al. (2022) draw 40 samples at 0.5 to 0.7, the usual harness 64 at 0.2.
  Key<Numbers> temperatures{this, "temperatures", {{.5, 1}, {.5, 1}, {.2, .5, .7, 1}}, "of the samples", 0.01, 100};
  // A model that knows something and not all: the others are not in the claims.
  Share least{this, "least", {.2}, "claims: greedy accuracy from which a model is in them"};
  Share most{this, "most", {.9}, "claims: greedy accuracy up to which a model is in them"};
  Share margin{this, "margin", {.05}, "claims: a difference of accuracies that counts"};

  std::shared_ptr<tasks::Task> task(std::string_view name) const {
    if (name == "paths") return std::make_shared<tasks::PathsTask>(tasks::PathsOptions{.length = paths_length});
    return std::make_shared<tasks::ChainTask>(tasks::ChainOptions{.length = length, .arms = {"cot"}});
  }
};

void check_keys(const Keys& k) {
  check(k.sweep.learning_rates.size() == 1,
        "learning_rates: these models stop early on purpose, one rate is not chosen among others");
  check_rising(*k.samples, "samples");
  const double answers = double(k.samples->back()) * k.sweep.test_items;
  check(answers <= 1e7, "samples: {} of each of the {} test_items are {:g} answers, at most 1e7 are held",
        k.samples->back(), k.sweep.test_items, answers);
  check_rising(*k.temperatures, "temperatures");
  k.task("paths");
}

std::string arm_of(double temperature) { return fmt::format("T={}", temperature); }
std::string vote(int32_t count) { return fmt::format("maj@{}", count); }
std::string pass(int32_t count) { return fmt::format("pass@{}", count); }

// The greedy answer, and k samples of every question.
struct Asking : InterviewOf<Keys> {
  using InterviewOf::InterviewOf;

  void ask(Evaluator& evaluator, int64_t, bool, std::span<Cell> cells,
           std::vector<SampleLine>& samples) const override {
    const auto seed = static_cast<uint32_t>(k.sweep.test_seed);
    const ArmAnswers greedy = evaluator.answer(*task, 0, k.sweep.test_items, seed);
    add_answer_lines(*task, cells, greedy, samples);
    std::vector<tasks::Item> asked;
    for (const tasks::Item& item : greedy.items) asked.insert(asked.end(), most(), item);
    for (const double temperature : *k.temperatures) {
      evaluator.decoder().set_sampling(temperature, seed);
      const ArmAnswers drawn = evaluator.write(*task, asked);
      evaluator.decoder().set_sampling(0, 0);
      for (size_t e = 0; e < cells.size(); ++e) add_lines(cells[e].cell, temperature, greedy, drawn, e, samples);
    }
  }

 private:
  size_t most() const { return static_cast<size_t>(k.samples->back()); }

  // A line a sample, and a line a question with its votes.
  void add_lines(const std::string& cell, double temperature, const ArmAnswers& greedy, const ArmAnswers& drawn,
                 size_t member, std::vector<SampleLine>& samples) const {
    const auto sure = responses_of(greedy, member), responses = responses_of(drawn, member);
    for (size_t i = 0; i < greedy.items.size(); ++i) {
      std::vector<int32_t> finals;
      for (size_t s = i * most(); s < (i + 1) * most(); ++s) {
        finals.push_back(responses[s].back());
        samples.push_back(answer_line(*task, cell, greedy.items[i], i, responses[s]));
        samples.back().arm = arm_of(temperature) + " sample";
      }
      samples.push_back(voted_line(cell, temperature, greedy.items[i], i, finals, sure[i].back()));
    }
  }

  SampleLine voted_line(const std::string& cell, double temperature, const tasks::Item& item, size_t index,
                        const std::vector<int32_t>& finals, int32_t greedy) const {
    const int32_t target = item.answer().back(), winner = majority(finals);
    const auto right = std::count(finals.begin(), finals.end(), target);
    const auto count = static_cast<int64_t>(finals.size());
    SampleLine line;
    line.cell = cell;
    line.arm = arm_of(temperature);
    line.index = static_cast<int64_t>(index);
    line.prompt = task->decode(item.prompt());
    line.target = task->decode(std::vector{target});
    // A model that diverged writes nothing that could be voted on.
    line.response = is_written(std::span(&winner, 1)) ? task->decode(std::vector{winner}) : kNothingWritten;
    line.correct = line.chain_correct = winner == target;
    for (const int32_t chances : *k.samples) {
      line.measures.emplace_back(vote(chances), majority_at_k(finals, target, chances));
      line.measures.emplace_back(pass(chances), pass_at_k(count, right, chances));
    }
    const double voted = line.correct ? 1 : 0;
    const std::string most = vote(k.samples->back());
    line.measures.emplace_back(most + " - greedy", voted - (greedy == target ? 1 : 0));
    line.measures.emplace_back(most + " - single", voted - static_cast<double>(right) / static_cast<double>(count));
    return line;
  }
};

void experiments(const Keys& k, Experiments& list) {
  for (const int32_t width : k.sweep.widths) {
    for (const char* name : {"chain", "paths"}) {
      const auto task = k.task(name);
      Experiment& one = list.add(name, "cot", task, width);
      if (name == std::string_view("paths")) one.steps = k.paths_steps;
      one.interview = std::make_shared<Asking>(k, task);
    }
  }
}

std::vector<ClaimRow> claims(const Keys& k) {
  const std::string voted = arm_of(k.temperatures->back()) + "." + vote(k.samples->back());
  const auto every_model = [&](const char* task, const char* over, Bound bound) {
    return every_seed(cells(task, "cot").where(exact_match("cot"), k.least, k.most),
                      is(measure(voted + over).named("gain"), bound).beside(exact_match("cot").named("greedy")),
                      "no model knows something and not all");
  };
  const auto beats_single = [&](const char* task) {
    return ClaimRow{fmt::format("{}_beats_single", task),
                    fmt::format("{}, models whose greedy accuracy is in [{{least}}, {{most}}]: the vote over {} "
                                "samples at temperature {} is right more often than one sample, in every such model.",
                                task, k.samples->back(), k.temperatures->back()),
                    every_model(task, " - single", positive())};
  };
  return {beats_single("chain"),
          beats_single("paths"),
          {"chain_not_greedy", "chain: that vote beats the greedy answer by at most {margin}, in every such model.",
           every_model("chain", " - greedy", at_most(k.margin))},
          {"paths_beats_greedy", "paths: that vote is right more often than the greedy answer, in every such model.",
           every_model("paths", " - greedy", positive())}};
}

std::vector<Figure> figures(const Keys& k, const StudyResult& result) {
  std::vector<Figure> list;
  for (const char* task : {"chain", "paths"}) {
    Curves curves(fmt::format("{}: accuracy against tokens spent on a question", task),
                  "Means over seeds and questions. Solid: a vote. Dashed: at least one sample is right.",
                  {"tokens of the answers", true}, {"share of questions"});
    const Cells models = cells(task, "cot").of(result);
    if (!models.empty()) {
      curves.reference("greedy, one answer", mean_value(models, exact_match("cot")));
      curves.reference("guessing", models.front()->chance);
    }
    for (const double temperature : *k.temperatures) {
      for (const auto name : {vote, pass}) {
        const std::string line = arm_of(temperature) + (name == vote ? " maj@k" : " pass@k");
        curves.line(line, {.dashed = name == pass});
        for (const int32_t count : *k.samples)
          curves.add(line, models, double(count) * k.task(task)->answer_length(0),
                     measure(arm_of(temperature) + "." + name(count)));
      }
    }
    list.push_back(curves.figure());
  }
  return list;
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head =
        {"test_time", "More answers to one question",
         "Does a vote over sampled chains of thought beat one chain, and does it take several paths to the answer?"},
    .parts = {.check = check_keys, .experiments = experiments, .claims = claims, .figures = figures},
    .caveats = {
        "These models are stopped early: a model that is always right, or always guesses, gains nothing from a vote, "
        "and is left out of the claims.",
        "pass@k knows which sample is right, which no vote does: it bounds what choosing among the samples could "
        "reach.",
        "Differences are paired by question; the unit of their intervals is the question, not the training.",
        "The greedy answer costs one answer's tokens, a vote k of them: compare at the same place of the axis."}};

}  // namespace surtsey::experiments
