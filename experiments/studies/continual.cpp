// E20: three operations, one after the other. What is left of the first ones when the next was learned naively, with
// a share of earlier data replayed, with penalties on what moves (EWC, Kirkpatrick et al. 2017; L2-SP, Li et al.
// 2018), with an adapter a task over the first model (LoRA)? Accuracy, backward and forward transfer are those of
// study/transfer.h.
#include "experiments/evaluate/fisher.h"
#include "experiments/study/asked.h"
#include "experiments/study/score_table.h"
#include "experiments/study/study.h"
#include "experiments/study/transfer.h"
#include "experiments/tasks/operations.h"
#include "experiments/train/anchor.h"

namespace surtsey::experiments {
namespace {

const std::vector<tasks::Operation> kSequence = {{"first", "A"}, {"second", "B", 3, 1, 1}, {"third", "C", 7, 3, 2}};
const size_t kLength = kSequence.size();
constexpr size_t kBudgetCount = 2;  // the smaller, the larger

enum class Penalty { none, l2_sp, ewc };

struct Keys : StudyKeys {
  Keys()
      : StudyKeys({.widths = {{32}},
                   .n_layer = {2},
                   .batch_size = {64},
                   .seeds = {{0}, seeds(5)},
                   .selection = false,
                   .test_items = {200, 500},
                   .evaluation_rows = {200, 250}}) {}
  Key<int32_t> digits{this, "digits", {6}, "digits of a problem", 2, 100};
  Steps first_steps{this, "first_steps", {500}, "steps of the first operation"};
  Rate first_rate{this, "first_rate", {.16}, "its learning rate, times 1 / n_embd"};
  Steps short_steps{this, "short_steps", {150, 250}, "steps of each later operation"};
  Steps long_steps{this, "long_steps", {300, 600}, "the same at the larger budget"};
  Rate later_rate{this, "later_rate", {.08}, "their learning rate, times 1 / n_embd"};
  Key<Numbers> replay{this, "replay", {{.1, .25}, {.01, .1, .25}}, "shares of earlier operations", 0, 1};
  Key<Numbers> l2_sp{this, "l2_sp", {{.1}}, "weights of the pull to where an operation began", 0, 1e9};
  Key<Numbers> ewc{this, "ewc", {{100}}, "weights of the pull by the Fisher information", 0, 1e9};
  Key<int32_t> fisher_answers{this, "fisher_answers", {50, 200}, "answers that it is estimated from", 1, kMostItems};
  Key<int32_t> rank{this, "rank", {8}, "r of the adapters", 1, kMostWidth};
  Key<double> lora_alpha{this, "lora_alpha", {4}, "of their scale lora_alpha / sqrt(r) (rsLoRA)", 0, 1e6};
  Rates adapter_rates{this, "adapter_rates", {{.25}, {.25, .5}}, "their learning rates, times 1 / n_embd"};
  Share lost{this, "lost", {.8}, "claims: what naive learning loses of earlier operations, -BWT"};
  Share kept{this, "kept", {.15}, "claims: what replay may lose"};
  Share kept_short{this, "kept_short", {.25}, "claims: share of replay that keeps them at the small budget"};
  Share kept_long{this, "kept_long", {.1}, "claims: and at the large one"};
  Share solved{this, "solved", {.9}, "claims: exact match from which an operation is learned"};
  int32_t steps(size_t budget) const { return budget == 0 ? short_steps : long_steps; }
  std::shared_ptr<tasks::OperationsTask> data(std::vector<double> shares) const {
    return std::make_shared<tasks::OperationsTask>(
        tasks::OperationsOptions{.operations = kSequence, .shares = std::move(shares), .digits = digits});
  }
};

void check_keys(const Keys& k) {
  check_once(*k.replay, "replay");
  check_some(*k.adapter_rates, "adapter_rates");
  for (const double share : *k.replay) check(share > 0 && share < 1, "replay: {} is no share of a batch", share);
}

// What is learned at a place of the sequence: its operation, and of all earlier ones together `replay`.
std::vector<double> shares_at(size_t place, double replay) {
  std::vector<double> shares(kLength, 0);
  shares[place] = 1 - replay;
  for (size_t earlier = 0; earlier < place; ++earlier) shares[earlier] = replay / static_cast<double>(place);
  return shares;
}

struct Strategy {
  std::string name;
  size_t budget = 0;
  double replay = 0;
  Penalty penalty = Penalty::none;
  double weight = 0;
  bool adapters = false;

  std::string variant() const { return budget == 0 ? name : name + ", long"; }
};

std::string replay_name(double share) { return fmt::format("replay {:g}%", 100 * share); }

std::vector<Strategy> strategies(const Keys& k) {
  std::vector<Strategy> list;
  for (size_t budget = 0; budget < kBudgetCount; ++budget) {
    list.push_back({"naive", budget});
    for (const double share : *k.replay) list.push_back({replay_name(share), budget, share});
  }
  list.push_back({.name = "adapters", .budget = 1, .adapters = true});
  for (const double one : *k.l2_sp) list.push_back({fmt::format("L2-SP {:g}", one), 0, 0, Penalty::l2_sp, one});
  for (const double one : *k.ewc) list.push_back({fmt::format("EWC {:g}", one), 0, 0, Penalty::ewc, one});
  return list;
}

TrainConfig stage(const Keys& k, const Strategy& strategy, std::vector<Member> members) {
  const int32_t steps = k.steps(strategy.budget);
  return {.optimizer = recipe_optimizer(steps, 0),
          .members = std::move(members),
          .batch_size = k.sweep.batch_size,
          .steps = steps};
}

// All weights go on learning, all seeds as one ensemble.
PackResult learn_on(const Keys& k, SequenceStarts& starts, const Strategy& strategy, engine::Device& device,
                    const Experiment& experiment, const std::vector<Member>& members) {
  PackResult result;
  std::vector<graph::HostTensor> models;
  std::vector<TransferTable> tables;
  double seconds = 0;
  const TrainedBase& base = starts.of(device, experiment.width, members.front().seed).base;
  const Model model(base.model);
  for (const Member& member : members) {
    const SequenceStarts::Start& first = starts.of(device, experiment.width, member.seed);
    models.push_back(model.store().pack(first.base.parameters));
    tables.push_back(first.table);
  }
  std::vector<Anchor> anchors(members.size(), no_anchor(model.store()));
  const graph::HostTensor ones(model.store().flat_type(), std::vector<double>(size_t(model.store().flat_size()), 1));
  for (size_t place = 1; place < kLength; ++place) {
    const auto task = k.data(shares_at(place, strategy.replay));
    AdaptRequest request{.config = {.method = AdaptMethod::full}, .train = stage(k, strategy, members)};
    request.starts = models;
    request.rows = k.sweep.evaluation_rows;
    const bool pulls = strategy.penalty != Penalty::none, ewc = strategy.penalty == Penalty::ewc;
    if (pulls) {
      request.train.gradient = anchored_gradient;
      std::vector<graph::HostTensor> fisher;
      if (ewc)
        fisher = fisher_diagonals(device, model, models, *task, static_cast<int32_t>(place) - 1, k.fisher_answers,
                                  uint32_t(k.sweep.selection_seed));
      for (size_t e = 0; e < models.size(); ++e) {
        if (!ewc) anchors[e] = no_anchor(model.store());  // L2-SP: to the start of this operation alone
        graph::HostTensor weight = ewc ? fisher[e] : ones;
        for (double& one : weight.values) one *= strategy.weight;
        add_penalty(anchors[e], weight, models[e]);
      }
    }
    AdaptedRun run(device, base, *task, request);
    if (pulls) write_anchors(run.session(), anchors);
    run.train();
    models = run.parameters();
    seconds += run.seconds();
    const std::vector<ArmRow> rows =
        exact_matches(run.evaluator(), *task, members.size(), k.sweep.test_items, uint32_t(k.sweep.test_seed));
    for (size_t e = 0; e < members.size(); ++e) tables[e].learned.push_back(rows[e]);
    if (place + 1 == kLength)
      result.cells = ask_adapted(run, *task, task->arms(), k.sweep, experiment,
                                 std::vector(members.size(), strategy.variant()), result.samples);
  }
  for (size_t e = 0; e < members.size(); ++e) {
    Cell& cell = result.cells[e];
    cell.steps *= int64_t(kLength) - 1;
    cell.tokens *= int64_t(kLength) - 1;
    cell.flops *= double(kLength) - 1;
    cell.train_seconds = seconds / static_cast<double>(members.size());
    cell.measures = transfer_measures(tables[e]);
  }
  return result;
}

// An adapter an operation over the first model, which stays as it is: all rates of a seed as one ensemble.
PackResult learn_adapters(const Keys& k, SequenceStarts& starts, const Strategy& strategy, engine::Device& device,
                          const Experiment& experiment, const std::vector<Member>& members) {
  PackResult result;
  for (const Member& member : members) {
    std::vector<Member> rates;
    for (const double rate : *k.adapter_rates) rates.push_back({member.seed, rate / experiment.width});
    const SequenceStarts::Start& first = starts.of(device, experiment.width, member.seed);
    Cell& cell = result.cells.emplace_back(empty_cell(experiment, member));
    cell.steps = 0;
    TransferTable table = first.table;
    for (size_t place = 1; place < kLength; ++place) {
      const auto task = k.data(shares_at(place, 0));
      AdaptRequest request{
          .config = {.target_modules = {"all-linear"}, .r = k.rank, .lora_alpha = k.lora_alpha, .use_rslora = true},
          .train = stage(k, strategy, rates)};
      request.rows = k.sweep.evaluation_rows;
      AdaptedRun run(device, first.base, *task, request);
      run.train();
      std::vector<SampleLine> lines;
      std::vector<Cell> tried = ask_adapted(run, *task, {kSequence[place].name}, k.sweep, experiment,
                                            std::vector(rates.size(), strategy.variant()), lines);
      const Cell best = best_of(std::move(tried), std::move(lines), cell.cell, result.samples);
      cell.chance = best.chance;
      cell.parameters += best.parameters;
      cell.steps += best.steps;
      cell.tokens += best.tokens;
      cell.flops += best.flops;
      cell.train_seconds += best.train_seconds;
      cell.arms.push_back(best.arms.front());
      cell.measures.push_back({"rate of " + kSequence[place].name, best.learning_rate, 0, 1});
      // The adapters of earlier operations, and the base under those that come, are what they were.
      table.learned.push_back(table.learned.back());
      table.learned.back()[place] = best.arms.front().exact_match;
    }
    for (Measure& one : transfer_measures(table)) cell.measures.push_back(std::move(one));
  }
  return result;
}

void experiments(const Keys& k, Experiments& list) {
  const std::shared_ptr<const tasks::Task> first = k.data(shares_at(0, 0));
  const auto starts = std::make_shared<SequenceStarts>(
      recipe_bases({first, k.sweep.n_layer, k.first_steps, k.sweep.batch_size, k.first_rate}), *first, k.sweep);
  for (const int32_t width : k.sweep.widths) {
    for (const Strategy& strategy : strategies(k)) {
      Experiment& one = list.add("", strategy.variant(), k.data({}), width);
      one.steps = static_cast<int32_t>(kLength - 1) * k.steps(strategy.budget);
      one.learning_rates = {(strategy.adapters ? k.adapter_rates->front() : *k.later_rate) / width};
      one.procedure = [&k, first, starts, strategy](auto& device, const auto& experiment, const auto& members) {
        return (strategy.adapters ? learn_adapters : learn_on)(k, *starts, strategy, device, experiment, members);
      };
    }
  }
}

Pick of(const std::string& name, size_t budget) { return cells("", Strategy{name, budget}.variant()); }

std::vector<ClaimRow> claims(const Keys& k) {
  const Score bwt = measure("BWT");
  const Test keeps = is(bwt, at_least(-k.kept));
  std::vector<Test> own;
  for (size_t place = 1; place < kLength; ++place)
    own.push_back(
        is(measure(fmt::format("{} after {}", kSequence[place].name, kSequence[place].name)), at_least(k.solved)));
  return {
      {"naive_forgets",
       "Learned naively, later operations cost earlier ones at least {lost} of their exact match (BWT), at both "
       "budgets, in every seed.",
       every_seed({of("naive", 0), of("naive", 1)}, is(bwt, at_most(-k.lost)))},
      {"replay_keeps_short",
       "With a share of {kept_short} of earlier data and {short_steps} steps an operation, they cost at most "
       "{kept}, in every seed.",
       every_seed(of(replay_name(k.kept_short), 0), keeps)},
      {"replay_keeps_long",
       "With a share of {kept_long} and {long_steps} steps, they cost at most {kept}, in every seed.",
       every_seed(of(replay_name(k.kept_long), 1), keeps)},
      {"budget_keeps",
       "With a share of {kept_long}, BWT is higher at {long_steps} than at {short_steps} steps an operation, in the "
       "mean over seeds.",
       mean_difference(of(replay_name(k.kept_long), 1), of(replay_name(k.kept_long), 0), bwt, positive())},
      {"adapters_learn",
       "Adapters of rank {rank} over the first model, which forget nothing by construction, learn each later "
       "operation to exact match of at least {solved} in {long_steps} steps, in every seed.",
       every_seed(of("adapters", 1), all_of(own))}};
}

std::vector<Figure> figures(const Keys& k, const StudyResult& result) {
  const Score bwt = measure("BWT");
  Curves first("The first operation while others are learned", "Exact match after each operation, means over seeds.",
               {"operations learned"}, {"exact match of the first"});
  for (const Strategy& strategy : strategies(k)) {
    const std::string name = strategy.variant();
    if (strategy.penalty == Penalty::none && strategy.budget == 0) continue;
    for (size_t i = 0; i < kLength; ++i)
      first.add(name, cells("", name).of(result), double(i) + 1,
                measure(fmt::format("{} after {}", kSequence[0].name, kSequence[i].name)));
  }
  Curves replay("What replay keeps", "Backward transfer, means over seeds with 95% intervals; 0 is nothing lost.",
                {"share of earlier data"}, {"backward transfer"});
  for (size_t budget = 0; budget < kBudgetCount; ++budget) {
    const std::string line = fmt::format("{} steps an operation", k.steps(budget));
    replay.line(line, {.spread = true});
    replay.add(line, of("naive", budget).of(result), 0.0, bwt);
    for (const double share : *k.replay) replay.add(line, of(replay_name(share), budget).of(result), share, bwt);
  }
  return {replay.figure(), first.figure()};
}

std::vector<Grid> grids(const Keys& k, const StudyResult& result) {
  std::vector<TableRow> rows;
  for (const Strategy& one : strategies(k)) rows.emplace_back(one.variant(), cells("", one.variant()).of(result));
  std::vector<TableColumn> columns;
  for (const char* one : {"ACC", "learned", "BWT", "FWT"}) columns.push_back(measure_column(one, one));
  const std::string last = " after " + kSequence.back().name;
  for (const auto& one : kSequence) columns.push_back(measure_column(one.name, one.name + last));
  return {
      score_table("What is learned and what is left",
                  "Means over seeds with half of their 95% intervals. learned: of later operations, each when it was "
                  "learned; BWT: what later ones did to earlier ones; FWT: what earlier ones did for later ones.",
                  rows, columns)};
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head = {"continual", "One operation after the other",
             "What is left of what a model knew when it has learned the next, and what helps?"},
    .parts = {.check = check_keys, .experiments = experiments, .claims = claims, .figures = figures, .grids = grids},
    .caveats = {
        "EWC and L2-SP are shown for the weights {ewc} and {l2_sp}, without a claim: others may do better.",
        "Every operation has a marker of its own, so nothing in a prompt is ambiguous; what is lost is lost to "
        "training.",
        "Adapters are told which operation is asked: their backward transfer is 0 because nothing of the first "
        "model moves, and their forward transfer is that of the first model.",
        "Replay draws new problems of earlier operations, not stored ones: a share, not a buffer's size.",
        "Full training has one rate, {later_rate} over n_embd; adapters have the one of {adapter_rates} with the "
        "least held-out loss."}};

}  // namespace surtsey::experiments
