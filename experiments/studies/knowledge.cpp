// Facts that change (the part on knowledge of E19): in the weights, or looked up. A model knows facts by heart; then a
// quarter of them gets another value. Who answers those right, and what becomes of the rest?
//
//   by_heart        closed book
//   agreeing        also reads passages, which in training always said what its weights knew
//   made_up         reads passages whose values in training were made up for each row
//   made_up_near    the same, beside passages that share half of the asked key
//   tuned_changes   by_heart, trained on with the changed facts
//   tuned_mixed     by_heart, trained on with the changed facts and as many old ones
//
// Facts are documents of an index (retrieve/), found by BM25 of their keys' words, also right after a change. Arms are
// a book and facts, "closed.changed". Book "found": what the index finds first, which shares words with the key;
// "apart": the first of it, and the first for another question.
#include <chrono>

#include "experiments/evaluate/interview.h"
#include "experiments/retrieve/retriever.h"
#include "experiments/retrieve/write.h"
#include "experiments/study/score_table.h"
#include "experiments/study/study.h"
#include "experiments/tasks/changing_facts.h"

namespace surtsey::experiments {
namespace {

using tasks::ChangingFactTask, tasks::FactLesson, tasks::FactTable, tasks::World;
using Passages = FactLesson::Passages;

constexpr const char *kByHeart = "by_heart", *kChanges = "tuned_changes", *kMixed = "tuned_mixed";

struct Way {
  std::string name;
  FactLesson lesson;
};
const std::vector<Way> kTrained = {{kByHeart, {}},
                                   {"agreeing", {.passages = Passages::agreeing}},
                                   {"made_up", {.passages = Passages::made_up}},
                                   {"made_up_near", {.passages = Passages::made_up, .near = true}}};
const std::vector<Way> kTuned = {{kChanges, {.world = World::after, .changed_share = 1}},
                                 {kMixed, {.world = World::after, .changed_share = .5}}};

struct Keys : StudyKeys {
  Keys()
      : StudyKeys({.widths = {{32}, {64}},
                   .n_layer = {2},
                   .learning_rates = {{.16}},
                   .steps = {600, 900},
                   .batch_size = {64, 128},
                   .seeds = {{0}, seeds(5), seeds(10)},
                   .test_items = {10'000}}) {}
  Key<int32_t> heads{this, "heads", {2, 4}, "n_head: a head must tell keys apart by what it reads of them", 1, 1024};
  Key<int32_t> facts{this, "facts", {128, 512}, "to know", 8, 65'536};
  Key<int32_t> key_words{this, "key_words", {16, 32}, "words of each half of a key", 2, 1024};
  Key<int32_t> values{this, "values", {32}, "that a fact can have", 2, 1024};
  Share changed_share{this, "changed_share", {.25}, "of the facts that change"};
  Key<Words> ways{this, "ways", {names_of(kTrained)}, "which are trained", names_of(kTrained)};
  Key<int32_t> passages{this, "passages", {2}, "before a question", 2, 64};
  Steps tune_steps{this, "tune_steps", {200}, "on the changed facts"};
  Rates tune_rates{this, "tune_rates", {{1e-3}, {1e-3, 3e-4}}, "constant learning rates of these: all count"};
  Share known{this, "known", {.9}, "claims: exact match from which facts are known"};
  Share stale{this, "stale", {.1}, "claims: exact match up to which they are not"};
  Share near_loss{this, "near_loss", {.1}, "claims: exact match that passages with half the key cost"};
  Share forgotten{this, "forgotten", {.6}, "claims: exact match of unchanged facts up to which they are forgotten"};

  tasks::ChangingFactOptions table() const { return {facts, key_words, values, changed_share}; }
};

void check_keys(const Keys& k) {
  check(k.sweep.widths.size() == 1, "widths: facts and steps are chosen for one size");
  check_heads(k.heads, k.sweep.widths.front());
  check_some(*k.tune_rates, "tune_rates");
  check_once(*k.tune_rates, "tune_rates");
  const auto table = std::make_shared<FactTable>(k.table());
  check(!table->changed().empty() && !table->unchanged().empty(), "changed_share: none of the facts changes, or all");
  ChangingFactTask(table, {}, k.passages);
}

// What stands before the question about each fact.
using Found = std::vector<std::vector<std::string>>;

// All facts as documents of an index, asked for every key: before the change, and right after it.
class Library {
 public:
  Library(const ChangingFactTask& task, int32_t most) {
    std::string name = (std::filesystem::temp_directory_path() / "surtsey-knowledge-XXXXXX").string();
    check(mkdtemp(name.data()) != nullptr, "no folder '{}' can be made for an index", name);
    const std::shared_ptr<void> removed(nullptr, [name](void*) { std::filesystem::remove_all(name); });
    const std::filesystem::path path = name + "/facts.index";
    const FactTable& table = task.table();
    const auto documents = [&](const std::vector<int32_t>& facts, World world) {
      std::vector<Document> list;
      for (const int32_t fact : facts) list.push_back({fmt::format("fact {}", fact), "", task.statement(fact, world)});
      return list;
    };
    std::vector<std::string> questions;
    for (const int32_t fact : table.all()) questions.push_back(task.key_text(fact));
    build_index(path, {.passage_tokens = usual_passage_tokens(nullptr)}, documents(table.all(), World::before),
                nullptr);
    Retriever retriever(path, std::nullopt, "");
    const auto ask = [&](World world) {
      found.assign(questions.size(), {});
      const auto lists = retriever.find(questions, {.top = most, .by = RetrieveBy::bm25});
      for (size_t i = 0; i < lists.size(); ++i)
        for (const FoundPassage& one : lists[i]) found[i].push_back(one.passage.text);
      int64_t right = 0;
      for (const int32_t fact : table.changed())
        right += found[static_cast<size_t>(fact)].at(0) == task.statement(fact, world) ? 1 : 0;
      measures.push_back(share_measure(
          world == World::before ? "first found is right before the change" : "first found is right after the change",
          right, std::ssize(table.changed())));
    };
    ask(World::before);
    const auto start = std::chrono::steady_clock::now();
    add_to_index(path, documents(table.changed(), World::after), nullptr);
    const std::chrono::duration<double> update = std::chrono::steady_clock::now() - start;
    measures.push_back({"seconds to update the index", update.count(), 0, 1});
    ask(World::after);
  }

  // The first that is found for the question, and for others.
  std::vector<std::string> apart(int32_t fact) const {
    const size_t own = static_cast<size_t>(fact), count = found[own].size();
    std::vector<std::string> texts;
    for (size_t i = 0; i < count; ++i) texts.push_back(found[(own + i * (found.size() / count)) % found.size()].at(0));
    return texts;
  }

  Found found;
  std::vector<Measure> measures;
};

// Asks by heart and, of readers, behind passages; on the way the facts by heart alone.
struct FactInterview : InterviewOf<Keys, ChangingFactTask> {
  FactInterview(const Keys& keys, std::shared_ptr<const ChangingFactTask> task,
                std::shared_ptr<std::optional<Library>> library, bool tuned)
      : InterviewOf(keys, std::move(task)), library(std::move(library)), tuned(tuned) {}

  std::shared_ptr<std::optional<Library>> library;  // of the study, made when it is first read
  bool tuned;
  std::vector<int64_t> steps(int64_t last) const override {
    std::vector<int64_t> list;
    for (int64_t step = 5; tuned && step < last; step = step * 8 / 5) list.push_back(step);
    list.push_back(last);
    return list;
  }

  void ask(Evaluator& evaluator, int64_t step, bool last, std::span<Cell> cells,
           std::vector<SampleLine>& samples) const override {
    const FactTable& table = task->table();
    const auto groups = {std::pair{"unchanged", &table.unchanged()}, {"changed", &table.changed()}};
    const auto add = [&](const std::string& arm, const ArmAnswers& answers) {
      const size_t first = samples.size();
      add_answer_lines(*task, cells, answers, samples);
      for (size_t i = first; i < samples.size(); ++i) samples[i].arm = arm;
    };
    const auto answers_to = [&](const std::vector<int32_t>& facts, World world, const auto& passages) {
      std::vector<tasks::Item> items;
      for (const int32_t fact : facts) items.push_back(task->question(fact, world, passages(fact)));
      return evaluator.answer(*task, std::move(items));
    };
    const auto none = [](int32_t) { return std::vector<std::string>(); };
    if (last && !tuned) add("closed.before", answers_to(table.all(), World::before, none));
    for (const auto& [group, facts] : groups) {
      const ArmAnswers closed = answers_to(*facts, World::after, none);
      if (last) add(fmt::format("closed.{}", group), closed);
      for (size_t e = 0; tuned && e < cells.size(); ++e)
        cells[e].measures.push_back(right_share(fmt::format("{} at {}", group, step), closed, e));
      if (!last || task->lesson().passages == Passages::none) continue;
      if (!*library) library->emplace(*task, *k.passages);
      const Library& read = **library;
      add(fmt::format("apart.{}", group),
          answers_to(*facts, World::after, [&](int32_t fact) { return read.apart(fact); }));
      add(fmt::format("found.{}", group),
          answers_to(*facts, World::after, [&](int32_t fact) { return read.found[size_t(fact)]; }));
      if (facts == &table.changed())
        for (Cell& cell : cells) cell.measures.insert(cell.measures.end(), read.measures.begin(), read.measures.end());
    }
  }
};

void experiments(const Keys& k, Experiments& list) {
  const auto table = std::make_shared<FactTable>(k.table());
  const auto library = std::make_shared<std::optional<Library>>();
  const auto add = [&](const Way& way, bool tuned) -> Experiment& {
    const auto task = std::make_shared<ChangingFactTask>(table, way.lesson, k.passages);
    Experiment& one = list.add("", way.name, task, k.sweep.widths.front());
    one.interview = std::make_shared<FactInterview>(k, task, library, tuned);
    one.model = recipe_config(k.sweep.n_layer, one.width, task->vocab_size(), task->block_size());
    one.model->n_head = k.heads;
    return one;
  };
  for (const Way& way : kTrained)
    if (has(*k.ways, way.name)) add(way, false);
  for (const Way& way : kTuned) {
    if (!has(*k.ways, kByHeart)) break;  // they go on from it
    Experiment& one = add(way, true);
    one.origin = Origin{kByHeart};
    one.steps = k.tune_steps;
    one.learning_rates = k.tune_rates;
    one.choose_rate = false;
    one.optimizer = graph::OptimizerConfig{.beta2 = .98, .weight_decay = 0, .clip_norm = 1};
    one.optimizer->schedule = {graph::Decay::none};
  }
}

std::vector<ClaimRow> claims(const Keys& k) {
  std::vector<Pick> trained;
  for (const std::string& name : *k.ways) trained.push_back(cells("", name));
  const auto right = [](const char* arm) { return exact_match(arm).named(arm); };
  const auto knows = [&](const char* variant, const std::string& book) {
    const std::string changed = book + ".changed", unchanged = book + ".unchanged";
    return every_seed(cells("", variant), all_of({is(right(changed.c_str()), at_least(k.known)),
                                                  is(right(unchanged.c_str()), at_least(k.known))}));
  };
  const Score cost = {
      "apart - found",
      [](const Cell& cell) { return cell.arm("apart.changed").exact_match - cell.arm("found.changed").exact_match; },
      {}};
  const Judge near = [=, bound = *k.near_loss](const StudyResult& result, double confidence) {
    const Cells models = cells("", "made_up").of(result);
    if (models.empty()) return Judgement{};
    return Judgement{at_least(t_interval(values(models, cost), confidence), bound),
                     evidence_of(models, {right("apart.changed"), right("found.changed")}), count_seeds(models)};
  };
  return {
      {"learned", "Before the change every model answers at least {known} of the facts right by heart, in every seed.",
       every_seed(trained, is(exact_match("closed.before"), at_least(k.known)))},
      {"stale", "After it no model answers more than {stale} of the changed facts right by heart, in any seed.",
       every_seed(trained, is(exact_match("closed.changed"), at_most(k.stale)))},
      {"agreeing_does_not_read",
       "A model whose passages always agreed with its weights answers at most {stale} of the changed facts right with "
       "the new statement before it, in every seed.",
       every_seed(cells("", "agreeing"), is(exact_match("apart.changed"), at_most(k.stale)))},
      {"made_up_reads",
       "A model trained on made-up passages answers at least {known} of the changed and of the unchanged facts right "
       "as soon as the index says them, beside passages of other questions, in every seed.",
       knows("made_up", "apart")},
      {"near_costs",
       "Beside passages with a word of the key, which the index finds, it answers fewer changed facts right, by at "
       "least {near_loss} in the mean over seeds.",
       near},
      {"near_trained_reads",
       "A model that saw such passages in training answers at least {known} of both right behind what the index finds, "
       "in every seed.",
       knows("made_up_near", "found")},
      {"tuning_forgets",
       "{tune_steps} steps on the changed facts alone teach at least {known} of them, and leave at most {forgotten} of "
       "the unchanged ones, in every seed.",
       every_seed(cells("", kChanges), all_of({is(right("closed.changed"), at_least(k.known)),
                                               is(right("closed.unchanged"), at_most(k.forgotten))}))},
      {"old_facts_help",
       "With as many old facts among them, at least {known} of both are right by heart, in every seed.",
       knows(kMixed, "closed")}};
}

std::vector<Figure> figures(const Keys&, const StudyResult& result) {
  Curves tuning("Training on, step by step", "By heart; means over seeds with 95% t intervals.", {"steps", true},
                {"share of facts answered right"});
  for (const Way& way : kTuned)
    for (const char* group : {"changed", "unchanged"})
      for (const Cell* cell : cells("", way.name).of(result))
        for (const Measure& one : cell->measures) {
          const std::string start = std::string(group) + " at ", line = fmt::format("{}, {}", way.name, group);
          tuning.line(line, {.dashed = group == std::string_view("unchanged"), .spread = true});
          if (one.name.starts_with(start)) tuning.add(line, std::stod(one.name.substr(start.size())), one.mean);
        }
  return {tuning.figure()};
}

std::vector<Grid> grids(const Keys&, const StudyResult& result) {
  std::vector<TableRow> rows;
  for (const auto* ways : {&kTrained, &kTuned})
    for (const Way& way : *ways) rows.emplace_back(way.name, cells("", way.name).of(result));
  std::vector<TableColumn> columns = {arm_column("before the change, by heart", "closed.before")};
  for (const char* book : {"closed", "apart", "found"})
    for (const char* group : {"changed", "unchanged"}) {
      const std::string arm = fmt::format("{}.{}", book, group);
      columns.push_back(arm_column(arm, arm));
    }
  return {
      score_table("Who answers right after the change",
                  "Shares of facts. closed: by heart; apart: behind what the index finds first for the question and "
                  "for another one; found: behind what it finds first for the question.",
                  rows, columns)};
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head = {"knowledge", "Facts that change",
             "Does a model answer right after facts have changed: by heart, with passages before it, trained on?"},
    .parts = {.check = check_keys, .experiments = experiments, .claims = claims, .figures = figures, .grids = grids},
    .caveats = {
        "Facts are {facts} keys of two words with one way to ask for them, easily found by their words: what is "
        "measured is what a model makes of what is found.",
        "Facts are the same in every seed. Cells of training on count its own steps and FLOPs alone.",
        "The quick scale is too short to learn to read: its readers take any value before them."}};

}  // namespace surtsey::experiments
