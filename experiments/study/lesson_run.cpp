#include "experiments/study/lesson_run.h"

#include "experiments/base/join.h"
#include "experiments/evaluate/answers.h"
#include "experiments/retrieve/retriever.h"
#include "experiments/retrieve/write.h"

#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <limits>

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;
using QueryClock = std::chrono::steady_clock;

// Of which the least counts: what else a machine does only adds to it.
constexpr int kTimings = 3;

double passed(QueryClock::time_point start) { return std::chrono::duration<double>(QueryClock::now() - start).count(); }

Measure one_value(std::string name, double value) { return {std::move(name), value, 0, 1}; }

AdaptConfig low_rank(int64_t rank, double scale = 2) {
  return {.method = AdaptMethod::lora,
          .weights = "f32",
          .target_modules = {"all-linear"},
          .r = rank,
          .lora_alpha = scale * double(rank)};
}

AdaptConfig with(AdaptConfig config, const std::function<void(AdaptConfig&)>& change) {
  change(config);
  return config;
}

std::vector<Teaching> all_teachings() {
  const AdaptConfig full{.method = AdaptMethod::full, .weights = "f32"};
  const auto of = [](AdaptMethod method) { return AdaptConfig{.method = method, .weights = "f32"}; };
  std::vector<Teaching> list = {
      {"full", full, 4e-3, 0, false, "every weight", "a model of its own"},
      {"full + replay", full, 4e-3, .1, false, "every weight", "a model of its own"},
      {"partial", with(of(AdaptMethod::partial), [](AdaptConfig& c) { c.num_layers = 1; }), 4e-3, 0, false,
       "last block and head", "in the model"},
      {"head", with(of(AdaptMethod::partial), [](AdaptConfig& c) { c.trainable = {"head.*", "norm.*"}; }), 1e-2, 0,
       false, "norm and head", "in the model"}};
  for (const int64_t rank : {1, 2, 4, 8, 16})
    list.push_back({fmt::format("lora r{}", rank), low_rank(rank), rank < 4 ? 8e-3 : 6e-3, 0, false,
                    "low-rank matrices", "an adapter file"});
  const auto changed = [&](const char* name, int64_t rank, const std::function<void(AdaptConfig&)>& change) {
    list.push_back({name, with(low_rank(rank), change), 6e-3, 0, false, "low-rank matrices", "an adapter file"});
  };
  // alpha / sqrt(r): 2 as the others have it.
  changed("rslora r16", 16, [](AdaptConfig& c) { c.use_rslora = true, c.lora_alpha = 8; });
  changed("dora r4", 4, [](AdaptConfig& c) { c.use_dora = true; });
  changed("qlora q8_0", 8, [](AdaptConfig& c) { c.weights = "q8_0"; });
  changed("qlora q4_0", 8, [](AdaptConfig& c) { c.weights = "q4_0"; });
  list.push_back({"adapters",
                  with(of(AdaptMethod::adapters),
                       [](AdaptConfig& c) {
                         c.adapter_kind = "houlsby";
                         c.reduction_factor = 4;
                         c.non_linearity = "gelu";
                       }),
                  1e-2, 0, false, "bottlenecks", "an adapter file"});
  const auto before = [&](const char* name, AdaptMethod method, double rate, const char* updates) {
    list.push_back({name, with(of(method), [](AdaptConfig& c) { c.num_virtual_tokens = 8; }), rate, 0, false, updates,
                    "an adapter file"});
  };
  before("prefix", AdaptMethod::prefix, 2e-2, "keys, values before a text");
  before("prompt", AdaptMethod::prompt, 3e-2, "embeddings before a text");
  list.push_back({"bitfit", of(AdaptMethod::bitfit), 1e-2, 0, false, "biases", "in the model"});
  list.push_back({"ia3", with(of(AdaptMethod::ia3), [](AdaptConfig& c) { c.target_modules = {}; }), 3e-2, 0, false,
                  "a scale a number", "an adapter file"});
  list.push_back({"scratch", full, 5e-3, 0, true, "every weight, from nothing", "a model of its own"});
  return list;
}

// An index of facts that nobody else sees.
class FactIndex {
 public:
  FactIndex(const tasks::LessonTask& task, tasks::World world, uint32_t seed)
      : task_(task), folder_(fs::temp_directory_path() / fmt::format("surtsey-lesson-{}-{}", getpid(), seed)) {
    fs::create_directories(folder_);
    build_index(path(), {.passage_tokens = usual_passage_tokens(nullptr)},
                documents(task.options().table->all(), world), nullptr);
    retriever_.emplace(path(), std::nullopt, "");
  }
  ~FactIndex() {
    std::error_code error;
    retriever_.reset();
    fs::remove_all(folder_, error);
  }
  FactIndex(const FactIndex&) = delete;

  // Seconds that it took.
  double change() {
    const auto start = QueryClock::now();
    add_to_index(path(), documents(task_.options().table->changed(), tasks::World::after), nullptr);
    return passed(start);
  }
  // What stands first for each fact's key.
  std::vector<std::string> find(const std::vector<int32_t>& facts) {
    std::vector<std::string> keys, texts;
    for (const int32_t fact : facts) keys.push_back(task_.key_text(fact));
    for (const auto& found : retriever_->find(keys, {.top = 1, .by = RetrieveBy::bm25}))
      texts.push_back(found.empty() ? "" : found.front().passage.text);
    return texts;
  }

 private:
  fs::path path() const { return folder_ / "facts.index"; }
  std::vector<Document> documents(const std::vector<int32_t>& facts, tasks::World world) const {
    std::vector<Document> list;
    for (const int32_t fact : facts) list.push_back({task_.key_text(fact), "", task_.statement(fact, world)});
    return list;
  }

  const tasks::LessonTask& task_;
  fs::path folder_;
  std::optional<Retriever> retriever_;
};

// Answers of all members to these items, as lines of an arm of this name.
void add_lines(const tasks::Task& task, const ArmAnswers& answers, std::span<const Cell> cells, const std::string& arm,
               std::vector<SampleLine>& lines) {
  const size_t first = lines.size();
  add_answer_lines(task, cells, answers, lines);
  for (size_t i = first; i < lines.size(); ++i) lines[i].arm = arm;
}

// Milliseconds of one of these questions, asked and answered beside as many others as go through at once.
double query_milliseconds(Evaluator& evaluator, const tasks::Task& task, const std::vector<tasks::Item>& items,
                          int32_t rows, size_t members) {
  std::vector<tasks::Item> asked;
  while (asked.size() < size_t(rows)) asked.push_back(items[asked.size() % items.size()]);
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kTimings; ++i) {
    const auto start = QueryClock::now();
    evaluator.write(task, asked);
    least = std::min(least, passed(start));
  }
  return 1e3 * least / double(asked.size() * members);
}

double query_tokens(const std::vector<tasks::Item>& items) {
  double tokens = 0;
  for (const tasks::Item& item : items) tokens += item.prompt_length + item.answer_length;
  return tokens / double(items.size());
}

void take_arms(std::span<Cell> cells, const std::vector<SampleLine>& lines) {
  for (const Recomputed& again : recompute(lines))
    for (Cell& cell : cells)
      if (cell.cell == again.cell) cell.arms = again.arms;
}

}  // namespace

bool Teaching::leaves_base() const {
  return config.method != AdaptMethod::full && config.method != AdaptMethod::partial &&
         config.method != AdaptMethod::bitfit;
}

bool Teaching::starts_as_base() const {
  return config.method == AdaptMethod::lora || config.method == AdaptMethod::ia3 ||
         config.method == AdaptMethod::adapters;
}

const std::vector<Teaching>& teachings() {
  static const std::vector<Teaching> list = all_teachings();
  return list;
}

const Teaching& teaching(const std::string& name) {
  std::vector<std::string> names;
  for (const Teaching& one : teachings()) {
    if (one.name == name) return one;
    names.push_back(one.name);
  }
  throw UserError(fmt::format("there is no way of teaching '{}': {}", name, join(names, ", ")));
}

PackResult teach(engine::Device& device, const TrainedBase& base, const LessonPlan& plan, const Teaching& way,
                 const Experiment& experiment, const std::vector<Member>& members) {
  tasks::LessonOptions options = plan.lesson;
  for (double* share : {&options.shares.fresh, &options.shares.facts}) *share *= 1 - way.replay;
  options.shares.old = way.replay * (plan.lesson.shares.fresh + plan.lesson.shares.facts);
  tasks::LessonTask lesson(options);
  const int32_t rows = std::min(plan.rows, plan.test_items);
  AdaptRequest request{.config = way.config,
                       .train = {.optimizer = recipe_optimizer(experiment.steps, 0),
                                 .members = members,
                                 .batch_size = experiment.batch_size,
                                 .steps = experiment.steps},
                       .rows = rows};
  if (way.scratch) request.starts = untrained_starts(base.model, members);
  AdaptedRun run(device, base, lesson, std::move(request));
  fmt::print(stderr, "{}: {} models\n", experiment.variant, members.size());

  PackResult result;
  std::vector<double> reached(members.size(), 0);  // the step; 0: not yet
  RunOptions asking;
  if (plan.ask_every > 0 && members.front().seed != plan.selection_seed) {
    asking.next_question = [&](int64_t step) {
      const int64_t next = (step / plan.ask_every + 1) * plan.ask_every;
      return step < experiment.steps ? std::min<int64_t>(next, experiment.steps) : next;
    };
    asking.ask = [&](int64_t step) {
      const int32_t arm = lesson.arm_index(plan.target_arm);
      std::vector<tasks::Item> items = lesson.test_items(arm, plan.test_items, plan.test_seed + 1);
      const ArmAnswers answers = run.evaluator().write(lesson, std::move(items));
      for (size_t e = 0; e < members.size(); ++e) {
        const double right = lesson.score(answers.items, answers.responses[e]).exact_match();
        if (reached[e] == 0 && right >= plan.target) reached[e] = double(step);
      }
    };
  }
  run.train(asking);
  const double seconds = run.seconds() / double(members.size());
  std::vector<Cell> cells = run.cells(experiment);
  const std::vector<double> held_out =
      run.evaluator().validation_loss(lesson, plan.selection_seed, plan.validation_items);
  for (size_t e = 0; e < cells.size(); ++e) {
    cells[e].validation_loss = held_out[e];
    cells[e].validation_only = members[e].seed == plan.selection_seed;
    cells[e].chance = lesson.chance();
  }
  if (cells.front().validation_only) return {std::move(cells), {}, {}};

  const auto ask = [&](const char* arm, const std::string& label) {
    const ArmAnswers answers = run.evaluator().answer(lesson, lesson.arm_index(arm), plan.test_items, plan.test_seed);
    add_lines(lesson, answers, cells, label, result.samples);
  };
  for (const char* arm : {"new", "old", "facts"}) ask(arm, arm);
  const std::vector<tasks::Item> asked = lesson.test_items(0, plan.test_items, plan.test_seed);
  const double milliseconds = query_milliseconds(run.evaluator(), lesson, asked, rows, members.size());
  if (plan.changes) {
    lesson.set_world(tasks::World::after);
    ask("changed", kChanged);
    ask("stale", kStale);
    std::vector<graph::HostTensor> learned = run.parameters();
    if (way.starts_as_base()) {
      run.start_again();
      ask("old", kOff);
    }
    run.start_from(std::move(learned));
    run.train();
    ask("changed", kUpdated);
  }
  take_arms(cells, result.samples);
  for (size_t e = 0; e < cells.size(); ++e) {
    cells[e].measures = {one_value(kTrainedShare, double(run.trained_count()) / double(base.parameter_count())),
                         one_value(kTaskBytes, double(run.task_bytes(e))), one_value(kUpdateSeconds, seconds),
                         one_value(kQueryMilliseconds, milliseconds),
                         one_value(kQueryTokens, query_tokens(asked) + double(run.adaptation().virtual_tokens()))};
    if (reached[e] > 0) cells[e].measures.push_back(one_value(kTargetSeconds, seconds * reached[e] / experiment.steps));
  }
  result.cells = std::move(cells);
  return result;
}

PackResult tell(engine::Device& device, const TrainedBase& base, const LessonPlan& plan, const ContextPlan& context,
                const Experiment& experiment, const std::vector<Member>& members) {
  const auto block = int32_t(base.model.block_size);
  BaseRun run(device, base, plan.rows, block);
  PackResult result;
  for (const Member& member : members) {
    Cell& cell = result.cells.emplace_back(empty_cell(experiment, member));
    cell.parameters = base.parameter_count();
    cell.chance = .1;
    const std::span<Cell> own(&cell, 1);
    const uint32_t seed = plan.test_seed + 16 * member.seed;  // members draw their own questions
    const auto task = [&](int32_t shots, tasks::PassageFormat format, tasks::World world) {
      tasks::LessonOptions options = plan.lesson;
      options.block = block, options.shots = shots, options.format = format, options.world = world;
      options.shares = {.reading = 1};
      return tasks::LessonTask(options);
    };
    const auto answered = [&](const tasks::LessonTask& lesson, std::vector<tasks::Item> items, const std::string& arm,
                              double more = 0) {
      cell.measures.push_back(one_value(fmt::format("{}, {}", kQueryTokens, arm), query_tokens(items)));
      const ArmAnswers answers = run.evaluator().answer(lesson, items);
      add_lines(lesson, answers, own, arm, result.samples);
      const double milliseconds = query_milliseconds(run.evaluator(), lesson, items, plan.rows, 1) + more;
      cell.measures.push_back(one_value(fmt::format("{}, {}", kQueryMilliseconds, arm), milliseconds));
    };
    const auto ask = [&](const tasks::LessonTask& lesson, const char* arm, const std::string& label) {
      answered(lesson, lesson.test_items(lesson.arm_index(arm), plan.test_items, seed), label);
    };
    const auto pairs = tasks::PassageFormat::pairs;
    const tasks::LessonTask plain = task(0, pairs, tasks::World::before);
    for (const char* arm : {"new", "old", "facts"}) ask(plain, arm, arm);
    for (const int32_t count : context.examples)
      ask(task(count, pairs, tasks::World::before), "new", fmt::format("new, {} examples", count));
    for (const int32_t count : context.passages) {
      ask(task(count, pairs, tasks::World::before), "facts", fmt::format("facts, {} passages", count));
      if (count != context.passages.back()) continue;
      const tasks::LessonTask after = task(count, pairs, tasks::World::after);
      for (const char* arm : {kChanged, kStale}) ask(after, arm, fmt::format("{}, {} passages", arm, count));
    }
    const int32_t middle = context.passages[(context.passages.size() - 1) / 2];
    for (const auto format : {tasks::PassageFormat::separated, tasks::PassageFormat::questions})
      ask(task(middle, format, tasks::World::before), "facts", fmt::format("facts, {} {}", middle, name(format)));

    FactIndex index(plain, tasks::World::before, member.seed);
    const auto retrieved = [&](const std::vector<int32_t>& facts, tasks::World world, const std::string& arm) {
      const std::vector<std::string> texts = index.find(facts);
      std::vector<int32_t> many;
      while (many.size() < size_t(plan.rows)) many.push_back(facts[many.size() % facts.size()]);
      double search = std::numeric_limits<double>::infinity();  // milliseconds
      for (int i = 0; i < kTimings; ++i) {
        const auto start = QueryClock::now();
        index.find(many);
        search = std::min(search, 1e3 * passed(start) / double(many.size()));
      }
      std::vector<tasks::Item> items;
      for (size_t i = 0; i < facts.size(); ++i)
        items.push_back(plain.question(facts[i], world, std::span(&texts[i], texts[i].empty() ? 0 : 1)));
      answered(plain, std::move(items), arm, search);
    };
    const tasks::FactTable& table = *plan.lesson.table;
    retrieved(table.all(), tasks::World::before, "facts, retrieved");
    cell.measures.push_back(one_value("index_seconds", index.change()));
    retrieved(table.changed(), tasks::World::after, "changed, retrieved");
    retrieved(table.changed(), tasks::World::before, "stale, retrieved");
  }
  take_arms(result.cells, result.samples);
  return result;
}

}  // namespace surtsey::experiments
