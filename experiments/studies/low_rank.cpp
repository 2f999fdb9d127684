// What can a change of low rank do? Does LoRA (Hu et al. 2021) find a planted change of its rank and not of one more;
// is it the same model merged into the weights; what rank and which matrices does a new operation take, and what a
// near one (another marker for an old operation); what is forgotten on the way, beside full fine-tuning?
// One base a seed learns two operations; ranks and learning rates of a seed then train as one ensemble over it.
#include "experiments/study/asked.h"
#include "experiments/study/score_table.h"
#include "experiments/study/study.h"
#include "experiments/study/teaching.h"
#include "experiments/tasks/operations.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kOld = "sum";
constexpr const char *kFull = "full", *kMerged = "merged_difference";
constexpr int32_t kMergedRows = 8;  // texts whose logits are compared

// What is taught: an operation that the base has never seen, or a marker for one that it knows.
struct Lesson {
  std::string task, arm;
  std::vector<double> shares;
};
// The base knows two, or it would not look at markers: difference is s_i = s_{i-1} - x_i.
const std::vector<tasks::Operation> kOperations = {
    {kOld, "A"}, {"difference", "D", 1, 9, 0}, {"affine", "B", 3, 1, 1}, {"again", "N"}};
const Lesson kBase{"base", kOld, {1, 1, 0, 0}}, kNew{"new", "affine", {0, 0, 1, 0}},
    kNear{"near", "again", {0, 0, 0, 1}};

const std::map<std::string, std::string> kPlaces = {
    {"all", "all-linear"}, {"attention", "*.self_attn.*"}, {"mlp", "*.mlp.*"}};

struct Keys : StudyKeys {
  Keys()
      : StudyKeys({.widths = {{32}, {48}, {128}},
                   .n_layer = {2},
                   .learning_rates = {{.5}, {.25, .5}},
                   .steps = {120, 250},
                   .batch_size = {64},
                   .seeds = {{0}, seeds(5)},
                   .selection = false,
                   .test_items = {200, 500},
                   .evaluation_rows = {200, 250}}) {
    explain("learning_rates", "of LoRA, times 1 / n_embd; all of a seed train as one ensemble");
  }
  Rates full_rates{this, "full_rates", {{.16}, {.08, .16}}, "of full fine-tuning, times 1 / n_embd"};
  Steps base_steps{this, "base_steps", {700, 1000}, "steps of the base"};
  Key<int32_t> base_batch{this, "base_batch", {64}, "sequences of such a step", 1, kMostBatch};
  Rate base_rate{this, "base_rate", {.16}, "its learning rate, times 1 / n_embd"};
  Key<int32_t> digits{this, "digits", {6}, "digits of a problem", 2, 100};
  Key<Integers> ranks{this, "ranks",   {{1, 4}, {1, 2, 4, 8}, {1, 2, 4, 8, 16, 32}}, "r of LoRA on all matrices",
                      1,    kMostWidth};
  Key<double> lora_alpha{this, "lora_alpha", {4}, "of the scale lora_alpha / sqrt(r) (rsLoRA)", 0, 1e6};
  Key<int32_t> planted_width{this, "planted_width", {32, 64}, "rows and columns of the planted change", 2, 4096};
  Key<int32_t> planted_rank{this, "planted_rank", {2, 4}, "its rank", 2, 4096};
  Steps planted_steps{this, "planted_steps", {800, 1500}, "steps of LoRA on it"};
  Steps ask_every{this, "ask_every", {20}, "steps between questions while a new operation is learned"};
  Key<int32_t> path_items{this, "path_items", {100, 200}, "of them, at a time, of each operation", 1, kMostItems};
  Key<Numbers> equal_at{
      this, "equal_at", {{.5, .9}, {.25, .5, .75, .9}}, "accuracies of the new operation where the old's counts", 0, 1};
  Key<double> found{this, "found", {1e-9}, "claims: squared error from which a planted change is found", 0, 1};
  Share near_least{this, "near_least", {.05}, "claims: how far above the least that its rank can reach a loss may be"};
  Key<double> merged{this, "merged", {1e-4}, "claims: difference of logits, merged and not", 0, 1000};
  Share solved{this, "solved", {.95}, "claims: exact match from which a task is learned"};
  Share unsolved{this, "unsolved", {.5}, "claims: exact match up to which it is not"};
  Share forgotten{this, "forgotten", {.05}, "claims: accuracy on the old operation that LoRA keeps more of"};

  std::shared_ptr<tasks::OperationsTask> data(const Lesson& lesson) const {
    return std::make_shared<tasks::OperationsTask>(
        tasks::OperationsOptions{.operations = kOperations, .shares = lesson.shares, .digits = digits});
  }
};

void check_keys(const Keys& k) {
  check_rising(*k.ranks, "ranks");
  check_rising(*k.equal_at, "equal_at");
  check_some(*k.full_rates, "full_rates");
  check(k.planted_rank < k.planted_width, "planted_rank is {}: planted_width {} has room for no rank above it",
        *k.planted_rank, *k.planted_width);
}

std::string rank_variant(const std::string& place, int64_t rank) { return fmt::format("{} r{}", place, rank); }

// One way to adapt: LoRA of several ranks at a place, or all weights (no ranks).
struct Way {
  std::string name;
  AdaptConfig config;
  std::vector<int64_t> ranks;
};

// Every rank with every rate of one seed, as one ensemble.
void adapt_seed(const Keys& k, const TrainedBase& base, const Lesson& lesson, const Way& way, engine::Device& device,
                const Experiment& experiment, const std::vector<Member>& rates, PackResult& result) {
  const auto task = k.data(lesson);
  const bool lora = !way.ranks.empty();
  AdaptRequest request{.config = way.config, .rows = k.sweep.evaluation_rows};
  request.train.optimizer = recipe_optimizer(k.sweep.steps, 0);
  request.train.batch_size = k.sweep.batch_size;
  request.train.steps = k.sweep.steps;
  request.train.members.clear();
  std::vector<std::string> variants;
  std::vector<size_t> whole;  // members that have all ranks
  for (const int64_t rank : lora ? way.ranks : std::vector<int64_t>{0}) {
    for (const Member& member : rates) {
      if (lora && rank == way.config.r) whole.push_back(request.train.members.size());
      request.train.members.push_back(member);
      variants.push_back(lora ? rank_variant(way.name, rank) : way.name);
      if (lora) request.ranks.push_back(rank);
    }
  }
  if (lora)
    request.programs = [count = variants.size()](auto& session, const Model& model) {
      add_logits(session, model, kMergedRows, count);
    };
  AdaptedRun run(device, base, *task, request);
  LearningPath path(*task, lesson.arm, kOld, k.path_items, uint32_t(k.sweep.selection_seed), k.ask_every);
  lesson.task == kNew.task ? path.follow(run, {}) : run.train();
  auto cells = ask_adapted(run, *task, {lesson.arm, kOld}, k.sweep, experiment, variants, result.samples);
  path.add_measures(cells, *k.equal_at);
  if (lora) {
    const auto found = merged_differences(device, run, base, whole, *task, task->arm_index(lesson.arm), kMergedRows);
    for (size_t i = 0; i < whole.size(); ++i) cells[whole[i]].measures.push_back({kMerged, found[i], 0, 1});
  }
  result.cells.insert(result.cells.end(), cells.begin(), cells.end());
}

void add_way(const Keys& k, std::shared_ptr<Bases> bases, Experiments& list, const Lesson& lesson, Way way,
             int32_t width) {
  const bool full = way.ranks.empty();
  Experiment& one =
      list.add(lesson.task, full ? way.name : rank_variant(way.name, way.ranks.front()), k.data(lesson), width);
  one.choose_rate = false;  // see choose_rates()
  if (full) one.learning_rates.clear();
  for (const double rate : full ? *k.full_rates : Numbers()) one.learning_rates.push_back(rate / width);
  // Of all ranks, and as if all weights trained: a plan is an upper bound.
  if (!full) one.steps *= static_cast<int32_t>(way.ranks.size());
  one.procedure = [&k, bases, lesson, way](auto& device, const auto& experiment, const auto& members) {
    PackResult result;
    for (const std::vector<Member>& rates : by_seed(members))
      adapt_seed(k, bases->of(device, experiment.width, rates[0].seed), lesson, way, device, experiment, rates, result);
    return result;
  };
}

void experiments(const Keys& k, Experiments& list) {
  const auto bases =
      std::make_shared<Bases>(recipe_bases({k.data(kBase), k.sweep.n_layer, k.base_steps, k.base_batch, k.base_rate}));
  for (const int32_t width : k.sweep.widths) {
    Experiment& base = list.add(kBase.task, "base", k.data(kBase), width);
    base.steps = k.base_steps;
    base.batch_size = k.base_batch;
    base.learning_rates = {k.base_rate / width};
    base.procedure = [&k, bases](auto& device, const auto& experiment, const auto& members) {
      return ask_bases(*bases, *k.data(kBase), k.sweep, device, experiment, members);
    };
    const auto lora = [&](const std::string& place, std::vector<int64_t> ranks) {
      AdaptConfig config{
          .target_modules = {kPlaces.at(place)}, .r = ranks.back(), .lora_alpha = k.lora_alpha, .use_rslora = true};
      return Way{place, config, std::move(ranks)};
    };
    const std::vector<int64_t> ranks(k.ranks->begin(), k.ranks->end());
    add_way(k, bases, list, kNew, {kFull, {.method = AdaptMethod::full}, {}}, width);
    add_way(k, bases, list, kNew, lora("all", ranks), width);
    for (const char* place : {"attention", "mlp"}) add_way(k, bases, list, kNew, lora(place, {ranks.back()}), width);
    for (const char* place : {"all", "attention", "mlp"})
      add_way(k, bases, list, kNear, lora(place, {ranks.front()}), width);
  }
  Experiment& planted = list.add("planted", planted_variant(1), k.data(kBase), k.planted_width);
  planted.learning_rates = {PlantedOptions().learning_rate};
  planted.steps = 0;  // not in a plan of models
  planted.procedure = [&k](auto& device, const auto& experiment, const auto& members) {
    const PlantedOptions options{.width = k.planted_width, .rank = k.planted_rank, .steps = k.planted_steps};
    return find_planted(options, device, experiment, members);
  };
}

void choose_rates(const Keys&, StudyRun& run) { select_least_loss(run.result().cells); }

Pick planted(int64_t rank) { return cells("planted", planted_variant(rank)); }
Pick lora(const Lesson& lesson, const std::string& place, int64_t rank) {
  return cells(lesson.task, rank_variant(place, rank));
}
// Of models that learned so much of the new operation.
Pick learned(Pick pick, double accuracy) {
  return pick.where({"", [=](const Cell& one) { return one.find_measure(old_when(accuracy)) ? 1. : 0.; }, {}}, 1);
}

std::vector<ClaimRow> claims(const Keys& k) {
  const int64_t least = k.ranks->front(), most = k.ranks->back();
  const auto over_least = measured([](const Cell& one) {
    return Measure{"", one.find_measure("loss")->mean / one.find_measure("least")->mean, 0, 1};
  });
  std::vector<Pick> smaller;
  for (int64_t rank = 1; rank < k.planted_rank; ++rank) smaller.push_back(planted(rank));
  const Pick full = cells(kNew.task, kFull), whole = lora(kNew, "all", most);
  const double target = k.equal_at->back();
  return {
      {"planted_found",
       "LoRA of rank {planted_rank} finds a planted change of its rank: squared error at most {found}, in every seed.",
       every_seed(planted(k.planted_rank), is(measure("loss"), at_most(k.found)))},
      {"planted_not_found",
       "No smaller rank finds it: its error is the least that this rank can reach, or up to "
       "{near_least} more, in every seed.",
       every_seed(smaller, is(over_least, within(1 + k.near_least / 2, k.near_least / 2 + 1e-6)))},
      {"bases", "Every base knows both operations that it was taught, exact match of at least {solved}.",
       every_seed(cells(kBase.task, "base"), all_of({is(exact_match(kOld), at_least(k.solved)),
                                                     is(exact_match("difference"), at_least(k.solved))}))},
      {"merged",
       "Merged into the weights, LoRA has the logits that it has beside them, within {merged}, in every seed.",
       every_seed({whole, lora(kNew, "attention", most), lora(kNew, "mlp", most), lora(kNear, "all", least)},
                  is(measure(kMerged), at_most(k.merged)))},
      {"new_needs_rank",
       fmt::format("LoRA of rank {} on all matrices learns a new operation (exact match of at least {{solved}}), "
                   "rank {} does not (at most {{unsolved}}), in every seed.",
                   most, least),
       every_part({{fmt::format("r{}", most), every_seed(whole, is(exact_match(kNew.arm), at_least(k.solved)))},
                   {fmt::format("r{}", least),
                    every_seed(lora(kNew, "all", least), is(exact_match(kNew.arm), at_most(k.unsolved)))}})},
      {"new_needs_matrices",
       fmt::format("At rank {}, all matrices learn more of it than attention alone, or MLPs alone, in every seed.",
                   most),
       above_in_pairs({{whole, lora(kNew, "attention", most)}, {whole, lora(kNew, "mlp", most)}},
                      exact_match(kNew.arm))},
      {"near_takes_little",
       fmt::format("LoRA of rank {} on all matrices learns another marker for the old operation, exact match of at "
                   "least {{solved}}, in every seed.",
                   least),
       every_seed(lora(kNear, "all", least), is(exact_match(kNear.arm), at_least(k.solved)))},
      {"forgets_less",
       fmt::format("When the new operation first reaches {:g}, LoRA of rank {} has kept at least {{forgotten}} "
                   "more of the old one than full fine-tuning, in the mean over seeds.",
                   target, most),
       mean_difference(learned(whole, target), learned(full, target), measure(old_when(target)), at_least(k.forgotten),
                       {measure(steps_to(target)).named("steps")})}};
}

std::vector<Figure> figures(const Keys& k, const StudyResult& result) {
  Curves found("A planted change against the rank of LoRA",
               "Means over seeds; dashed, the least that a rank can reach.", {"rank of LoRA"}, {"squared error", true});
  found.line("the least", {.dashed = true});
  for (int64_t rank = 1; rank <= k.planted_rank + 1; ++rank) {
    found.add("LoRA", planted(rank).of(result), double(rank), measure("loss"));
    found.add("the least", planted(rank).of(result), double(rank), measure("least"));
  }
  Curves taught("What a rank teaches", "Exact match after training, means over seeds with 95% intervals.",
                {"rank of LoRA", true}, {"exact match"}, {{"guessing", .1}});
  for (const Lesson& lesson : {kNew, kNear}) {
    for (const auto& [place, modules] : kPlaces) {
      const std::string line = fmt::format("{} operation, {}", lesson.task, place == "all" ? "all matrices" : place);
      taught.line(line, {.spread = true});
      for (const int32_t rank : *k.ranks)
        taught.add(line, lora(lesson, place, rank).of(result), double(rank), exact_match(lesson.arm));
    }
  }
  Curves kept("The old operation while the new one is learned",
              "Where the new one first reaches the value of the axis; means over the seeds that reach it.",
              {"exact match, new"}, {"exact match, old"});
  std::vector<std::pair<std::string, Pick>> ways = {{"full", cells(kNew.task, kFull)}};
  for (const int32_t rank : *k.ranks) ways.emplace_back(fmt::format("LoRA r {}", rank), lora(kNew, "all", rank));
  for (const auto& [name, pick] : ways)
    for (const double accuracy : *k.equal_at)
      kept.add(name, learned(pick, accuracy).of(result), accuracy, measure(old_when(accuracy)));
  return {taught.figure(), kept.figure(), found.figure()};
}

std::vector<Grid> grids(const Keys& k, const StudyResult& result) {
  std::vector<TableRow> rows = {{"new, full", cells(kNew.task, kFull).of(result)}};
  for (const Lesson& lesson : {kNew, kNear})
    for (const auto& [place, modules] : kPlaces)
      for (const int32_t rank : *k.ranks)
        rows.emplace_back(fmt::format("{}, {} r{}", lesson.task, place, rank), lora(lesson, place, rank).of(result));
  const std::string at = fmt::format("{:g}", k.equal_at->back());
  return {score_table("What is taught, and what is forgotten",
                      "Means over seeds with half of their 95% intervals; exact match.", rows,
                      {cell_column("parameters", [](const Cell& one) { return double(one.parameters); }),
                       cell_column("what is taught", [](const Cell& one) { return one.arms.front().exact_match; }),
                       arm_column(kOld, kOld), measure_column("steps to " + at, steps_to(k.equal_at->back())),
                       measure_column(std::string(kOld) + " then", old_when(k.equal_at->back())),
                       measure_column("merged and not: logits differ by", kMerged)})};
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head =
        {"low_rank", "Changes of low rank",
         "What does a change of low rank find, teach and forget, and which matrices and which rank does that take?"},
    .parts = {.check = check_keys, .experiments = experiments, .claims = claims, .figures = figures, .grids = grids},
    .caveats =
        {"Rates were chosen seed by seed by held-out loss, out of {learning_rates} (LoRA) and {full_rates} (full) "
         "over n_embd; the bases have one rate.",
         "Ranks are compared at one number of steps: with more of them a smaller rank may get further.",
         "What is forgotten is asked with the adapter on. Without it the base is what it was, to the bit.",
         "All cells of a seed share its base, and the planted changes are matrices without a model."},
    .finish = choose_rates};

}  // namespace surtsey::experiments
