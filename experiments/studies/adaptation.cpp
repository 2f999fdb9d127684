// E19: one trained model, one new operation and a set of new facts, and every way of teaching it: by all its weights,
// by some of them, by weights beside them, by what stands before a question, by what is looked up for it. What each
// learns, keeps, takes and costs; and when the facts change, who answers as things now are.
#include "experiments/study/lesson_tables.h"
#include "experiments/study/study.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kBase = "base";  // the variant of its training
const std::vector<double> kUses = {1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7};

Words all_ways() { return names_of(teachings()); }

struct Keys : StudyKeys {
  Keys()
      : StudyKeys({.widths = {{32}, {32}, {64}},
                   .n_layer = {2},
                   .steps = {200, 600, 2000},
                   .batch_size = {64},
                   .test_items = {200, 500, 2000},
                   .evaluation_rows = {200, 250},
                   .ensemble_size = {64}}) {
    explain("widths", "n_embd of the base: one");
    explain("steps", "optimizer steps of a lesson");
  }
  Key<Words> ways{this,
                  "ways",
                  {{"full", "full + replay", "lora r8", "prompt", "ia3"}, all_ways()},
                  "of teaching by weights",
                  all_ways()};
  Key<Words> mapped{this, "mapped", {{"lora r8", "full + replay"}}, "of them, those of the map", all_ways()};
  Key<Numbers> rate_factors = Key<Numbers>(this, "rate_factors", {{1}, {.5, 1, 2}},
                                           "learning rates tried, times the rate that stands with each way", 1e-6, 1e6);
  Steps base_steps{this, "base_steps", {1200, 2000, 6000}, "optimizer steps of the base"};
  Rate base_rate{this, "base_rate", {.16}, "its peak learning rate, times 1 / n_embd"};
  Key<int32_t> facts{this, "facts", {16}, "of the lesson; a quarter of them changes", 4, 4096};
  Key<int32_t> keys{this, "keys", {16}, "words that can be keys of facts", 4, 4096};
  Key<int32_t> values{this, "values", {16}, "values that a fact can have", 2, 4096};
  Key<int32_t> digits{this, "digits", {4}, "of a text of an operation", 2, 16};
  Share reading{this, "reading", {.6}, "of the base's texts, that are questions behind passages"};
  Key<Integers> passages{this, "passages", {{4, 16}, {1, 2, 4, 8, 16}}, "facts that stand before a question", 1, 34};
  Key<Integers> examples{this, "examples", {{1, 3}, {1, 2, 3}}, "of the operation that stand before a question", 1, 3};
  Key<Integers> map_facts{this, "map_facts", {{4, 16}}, "numbers of facts in the map", 4, 4096};
  Key<Integers> map_examples{this, "map_examples", {{}, {64, 256, 1024}}, "numbers of examples in the map",
                             1,    kMostItems};
  Share solved{this, "solved", {.95}, "claims: exact match from which something is learned"};
  Share kept{this, "kept", {.9}, "claims: exact match from which something is kept"};
  Share lost{this, "lost", {.5}, "claims: exact match up to which something is not learned, or lost"};
  Share unknown{this, "unknown", {.1}, "claims: share of changed facts that nothing has told, at most"};

  int32_t width() const { return sweep.widths.front(); }

  tasks::LessonOptions lesson(int32_t facts_asked) const {
    tasks::LessonOptions options;
    options.keys = keys;
    options.digits = digits;
    options.table =
        std::make_shared<tasks::FactTable>(tasks::ChangingFactOptions{.facts = facts_asked, .values = values});
    options.shares = {.fresh = .75, .facts = .25};
    return options;
  }
  LessonPlan plan(tasks::LessonOptions options) const {
    LessonPlan plan{.lesson = std::move(options), .test_items = sweep.test_items};
    plan.test_seed = static_cast<uint32_t>(sweep.test_seed);
    plan.selection_seed = static_cast<uint32_t>(sweep.selection_seed);
    plan.rows = sweep.evaluation_rows;
    return plan;
  }
  LessonPage page() const {
    return {.ways = ways,
            .mapped = mapped,
            .passages = passages,
            .examples = examples,
            .map_facts = map_facts,
            .map_examples = map_examples,
            .solved = solved,
            .kept = kept};
  }
  // What the base learns: the old operation, and to answer from what stands before a question.
  tasks::LessonOptions base_lesson() const {
    tasks::LessonOptions options = lesson(facts);
    options.shares = {.old = 1 - reading, .reading = reading};
    options.block = 4 * (2 * options.digits + 2);
    return options;
  }
};

void check_keys(const Keys& k) {
  check(k.sweep.widths.size() == 1, "widths: there is one base, of one width");
  check_some(*k.ways, "ways");
  check_once(*k.ways, "ways");
  check_rising(*k.passages, "passages");
  check_rising(*k.examples, "examples");
  for (const std::string& way : *k.mapped) check(has(*k.ways, way), "mapped: {} is not among ways", way);
  for (const int32_t count : *k.map_facts) check(count <= k.keys, "map_facts: {} facts of {} keys", count, *k.keys);
}

ModelConfig base_model(const Keys& k, const tasks::LessonTask& task) {
  ModelConfig model = recipe_config(k.sweep.n_layer, k.width(), task.vocab_size(), task.block_size());
  model.n_head = std::max(2, k.width() / 16);
  model.position = Position::rotary;  // texts may stand behind virtual tokens
  return model;
}

// Trained when it is first asked for.
struct SharedBase {
  std::optional<TrainedBase> trained;

  const TrainedBase& get(const Keys& k, engine::Device& device) {
    if (trained) return *trained;
    fmt::print(stderr, "the base\n");
    const tasks::LessonTask task(k.base_lesson());
    trained = train_base(device, base_model(k, task), task,
                         {.optimizer = recipe_optimizer(k.base_steps),
                          .members = {{0, k.base_rate / k.width()}},
                          .batch_size = k.sweep.batch_size,
                          .steps = k.base_steps});
    return *trained;
  }
};

Cell base_cell(const TrainedBase& base, const Experiment& experiment, const Member& member) {
  Cell cell = empty_cell(experiment, member);
  cell.parameters = base.parameter_count();
  cell.tokens = base.tokens;
  cell.flops = base.flops;
  cell.train_seconds = base.seconds;
  return cell;
}

void experiments(const Keys& k, Experiments& list) {
  const auto base = std::make_shared<SharedBase>();
  const auto task = std::make_shared<tasks::LessonTask>(k.base_lesson());
  Experiment& first = list.add("", kBase, task, k.width());
  first.model = base_model(k, *task);
  first.steps = k.base_steps;
  first.seeds = {0};
  first.learning_rates = {k.base_rate / k.width()};
  first.procedure = [&k, base](auto& device, const auto& experiment, const auto& members) {
    return PackResult{{base_cell(base->get(k, device), experiment, members.front())}, {}, {}};
  };
  Experiment told = first;
  told.variant = kTold;
  told.steps = 0;  // nothing is trained
  told.seeds = k.sweep.seeds;
  told.procedure = [&k, base](auto& device, const auto& experiment, const auto& members) {
    const LessonPlan plan = k.plan(k.lesson(k.facts));
    return tell(device, base->get(k, device), plan, {.examples = *k.examples, .passages = *k.passages}, experiment,
                members);
  };
  list.add(told);
  const auto lesson = std::make_shared<tasks::LessonTask>(k.lesson(k.facts));
  const auto add = [&](const Teaching& way, const std::string& variant, LessonPlan plan) -> Experiment& {
    Experiment& one = list.add("", variant, lesson, k.width());
    one.model = base_model(k, *lesson);  // a lesson's texts are shorter than the base's
    one.learning_rates.clear();
    for (const double factor : *k.rate_factors) one.learning_rates.push_back(factor * way.rate);
    one.procedure = [&k, base, plan, way](auto& device, const auto& experiment, const auto& members) {
      return teach(device, base->get(k, device), plan, way, experiment, members);
    };
    return one;
  };
  for (const std::string& name : *k.ways) {
    const Teaching& way = teaching(name);
    const std::string rates = name + ", rates";
    LessonPlan plan = k.plan(k.lesson(k.facts));
    add(way, rates, plan).seeds.clear();  // the models that choose one are all there are
    plan.changes = true;
    add(way, name, plan).rate_of = rates;
    if (!has(*k.mapped, name)) continue;
    plan.changes = false;
    plan.ask_every = 25;
    plan.target = k.solved;
    for (const int32_t count : *k.map_facts) {
      plan.lesson = k.lesson(count);
      plan.lesson.shares = {.facts = 1};
      plan.target_arm = "facts";
      add(way, facts_variant(name, count), plan).rate_of = rates;
    }
    for (const int32_t count : *k.map_examples) {
      plan.lesson = k.lesson(k.facts);
      plan.lesson.shares = {.fresh = 1};
      plan.lesson.examples = count;
      plan.target_arm = "new";
      add(way, examples_variant(name, count), plan).rate_of = rates;
    }
  }
}

// ---- claims ----

std::vector<Pick> picks(const std::vector<std::string>& ways) {
  std::vector<Pick> list;
  for (const std::string& way : ways) list.push_back(cells("", way));
  return list;
}

// In every situation of the map with facts that fit before a question, one use between changes is cheapest without
// training, and the most uses with it.
Judgement judge_crossing(const Keys& k, const StudyResult& result) {
  Parts parts;
  for (const Situation& one : situations(k.page(), result)) {
    if (one.ways.empty() || one.ways.front().name != kInContext || !one.name.starts_with("facts")) continue;
    const int32_t few = cheapest(one.ways, kUses.front()), many = cheapest(one.ways, kUses.back());
    if (few < 0 || many < 0) continue;
    const auto trains = [&](int32_t i) { return has(*k.mapped, one.ways[size_t(i)].name); };
    parts.add(pass_if(!trains(few) && trains(many)),
              fmt::format("{}: {}, then {}", one.name, one.ways[size_t(few)].name, one.ways[size_t(many)].name),
              std::ssize(k.sweep.seeds));
  }
  return parts.judgement();
}

std::vector<ClaimRow> claims(const Keys& k) {
  const auto every = [&](const char* way, const char* arm, Bound bound) {
    return every_seed(cells("", way), is(exact_match(arm), std::move(bound)));
  };
  std::vector<std::string> strong, light, weights;
  for (const std::string& way : *k.ways) {
    if (has(Words{"full", "lora r8"}, way)) strong.push_back(way);
    if (has(Words{"prompt", "prefix", "bitfit", "ia3", "head"}, way)) light.push_back(way);
    if (way != "scratch") weights.push_back(way);
  }
  const Score fresh = exact_match("new"), old = exact_match("old");
  return {
      {"learns",
       "All weights and LoRA of rank 8 learn the new operation (exact match of at least {solved}), every seed.",
       every_seed(picks(strong), is(fresh, at_least(k.solved)))},
      {"light", "Prompts, prefixes, biases, scales and the head alone do not (at most {lost}), in every seed.",
       every_seed(picks(light), is(fresh, at_most(k.lost)))},
      {"forgets", "With all weights trained on the new alone the old operation is lost (at most {lost}), every seed.",
       every("full", "old", at_most(k.lost))},
      {"replay", "With a tenth of old texts among the new it is kept (at least {kept}), in every seed.",
       every_seed(cells("", "full + replay"), is(old, at_least(k.kept)).beside(fresh.named("new")))},
      {"off", "With LoRA of rank 8 switched off it is there (at least {kept}), in every seed.",
       every("lora r8", kOff, at_least(k.kept))},
      {"reads", "The base answers facts that stand before the question (at least {solved}), as many as are tried.",
       every_seed(cells("", kTold),
                  is(exact_match(fmt::format("facts, {} passages", k.passages->back())), at_least(k.solved)))},
      {"examples",
       fmt::format("It does not pick the operation up from {} examples (at most {{lost}}).", k.examples->back()),
       every("told", fmt::format("new, {} examples", k.examples->back()).c_str(), at_most(k.lost))},
      {"retrieval", "After facts change, retrieval answers them as they now are (at least {solved}), at once.",
       every_seed(cells("", kTold), is(all_asked("changed, retrieved"), at_least(k.solved)))},
      {"stale", "No model that knows them by its weights does (at most {unknown}) before it is taught again.",
       every_seed(picks(weights), is(all_asked(kChanged), at_most(k.unknown)))},
      {"crossing",
       "Where facts fit before a question, one question a change is cheapest without training, ten million with it.",
       [&k](const StudyResult& result, double) { return judge_crossing(k, result); }}};
}

std::vector<Grid> grids(const Keys& k, const StudyResult& result) {
  Grid map{"Which way for which situation",
           "How often are you asked before things change again, and what is there to learn? Each entry is the way that "
           "costs least in all, bringing it up to date and answering, of those that answer right and keep the old "
           "operation; with what it costs, measured.",
           "questions between two changes", "what is new"};
  fill_map(map, situations(k.page(), result), kUses, "none reaches it");
  return {map, comparison_table(k.page(), result)};
}

std::vector<Figure> figures(const Keys& k, const StudyResult& result) {
  const Cells told = cells("", kTold).of(result);
  Curves curves("What stands before a question",
                "The base alone, nothing trained; that of the question is among the passages. Formats other than the "
                "first were never trained.",
                {"passages or examples"}, {"share of right answers"}, {{"guessing a digit", .1}});
  for (const int32_t count : *k.passages)
    curves.add("facts behind passages", told, count, exact_match(fmt::format("facts, {} passages", count)));
  const int32_t middle = (*k.passages)[(k.passages->size() - 1) / 2];
  for (const char* format : {"separated", "questions"})
    curves.add(fmt::format("facts, as {}", format), told, middle,
               exact_match(fmt::format("facts, {} {}", middle, format)));
  for (const int32_t count : *k.examples)
    curves.add("the operation behind examples", told, count, exact_match(fmt::format("new, {} examples", count)));
  return {curves.figure()};
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head = {"adaptation", "Ways of teaching a trained model",
             "One base, a new operation and new facts: who learns them, what is forgotten, what does it take, and who "
             "is right after the facts have changed?"},
    .parts = {.check = check_keys, .experiments = experiments, .claims = claims, .figures = figures, .grids = grids},
    .caveats = {
        "There is one base. Seeds are of the adapters, their data and the questions: they say nothing of other "
        "bases.",
        "The base was trained to answer from facts before a question, with values made up for each text. It was "
        "not trained to infer an operation from examples, and examples of one mean nothing to it.",
        "Models of a way train as one ensemble over one base: seconds are a model's share of that. Milliseconds "
        "are a question's share of {evaluation_rows} that are answered at once.",
        "Seconds in the map are those until the target was first reached, asked every 25 steps, at a rate chosen "
        "for the whole lesson.",
        "Retrieval finds a fact by the very word that is its key: nothing is misread, and no other passage is "
        "near."}};

}  // namespace surtsey::experiments
