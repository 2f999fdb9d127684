// What a teacher's distributions teach that labels do not (E23; Hinton, Vinyals and Dean 2015, 1503.02531): a student
// of less than a tenth of the teacher's parameters has few examples, each with one label, which may be wrong.
//
//   teacher      the large model; new examples with noisy labels at every step
//   all_labels   a student on the same endless labels: what its size can do
//   labels       a student on few examples and their noisy labels
//   classes      the same, its labels without noise
//   smoothed     noisy labels, smoothed evenly: soft targets that know nothing of the example
//   soft_T2      what the teacher of the same seed says of the examples at this temperature, mixed with their labels
//
// Everybody is asked new examples (tasks/prototypes.h): the loss is that of noisy labels, right is the true class. What
// the posterior itself would lose is known.
#include "experiments/models/forward_program.h"
#include "experiments/study/score_table.h"
#include "experiments/study/study.h"
#include "experiments/tasks/prototypes.h"
#include "experiments/train/checkpoint.h"
#include "experiments/train/train_session.h"

namespace surtsey::experiments {
namespace {

using tasks::PrototypeLesson, tasks::PrototypeTask, tasks::SoftLabels;

constexpr const char* kTeacher = "teacher";

struct Keys : StudyKeys {
  Keys()
      : StudyKeys({.widths = {{16}},
                   .n_layer = {2},
                   .learning_rates = {{.16}, {.16, .08}},
                   .steps = {600, 800},
                   .batch_size = {64},
                   .seeds = {{0}, seeds(5), seeds(10)},
                   .test_items = {1000, 4000},
                   .evaluation_rows = {500}}) {
    explain("widths", "n_embd of the students, one");
    explain("batch_size", "examples a step");
  }
  Key<int32_t> teacher_width{this, "teacher_width", {64}, "n_embd of the teacher", 2, kMostWidth};
  Key<int32_t> examples{this, "examples", {500, 1000}, "of a student", 1, kMostItems};
  Share label_noise{this, "label_noise", {.3}, "of labels that are another class"};
  Share kept{this, "kept", {.5}, "of symbols that are those of the prototype"};
  Key<Numbers> temperatures{this, "temperatures", {{2}, {1, 2, 4}}, "of the teacher, a student each", 0.1, 1000};
  Share soft_share{this, "soft_share", {.9}, "of the loss that is against the teacher"};
  Share smoothing{this, "smoothing", {.3}, "of smoothed labels that all classes share"};
  Key<double> temperature{this, "temperature", {2}, "claims: the student that is judged", 0.1, 1000};
  Key<double> excess{this, "excess", {.05}, "claims: nats that the teacher may lose to the posterior", 0, 100};
  Share gap{this, "gap", {.3}, "claims: share of the student's gap to its teacher that closes"};
  Share clean_margin{this, "clean_margin", {.05}, "claims: accuracy that clean labels may give beyond soft ones"};

  int32_t width() const { return sweep.widths.front(); }
  std::shared_ptr<PrototypeTask> task(PrototypeLesson lesson, std::shared_ptr<const SoftLabels> soft = nullptr) const {
    return std::make_shared<PrototypeTask>(tasks::PrototypeOptions{.kept = kept, .label_noise = label_noise}, lesson,
                                           std::move(soft));
  }
  ModelConfig model(int32_t n_embd) const {
    const auto any = task({});
    return recipe_config(sweep.n_layer, n_embd, any->vocab_size(), any->block_size());
  }
};

std::string soft_variant(double temperature) { return fmt::format("soft_T{}", temperature); }

void check_keys(const Keys& k) {
  check(k.sweep.widths.size() == 1, "widths: one size of students");
  check_once(*k.temperatures, "temperatures");
  check(has(*k.temperatures, *k.temperature), "temperature: {} is not among temperatures ({})", *k.temperature,
        k.text("temperatures"));
  const int64_t student = analytic_parameter_count(k.model(k.width())),
                teacher = analytic_parameter_count(k.model(k.teacher_width));
  check(10 * student <= teacher, "widths: a student has {} parameters, more than a tenth of the teacher's {}", student,
        teacher);
}

// What models say of the classes of these sequences, [E][rows][classes], at a temperature.
std::vector<std::vector<std::vector<float>>> distributions_of(engine::Device& device, const Model& model,
                                                              const std::vector<graph::State>& members,
                                                              const std::vector<std::vector<uint32_t>>& tokens,
                                                              const PrototypeTask& task, double temperature) {
  const auto block = static_cast<size_t>(task.block_size()), vocabulary = static_cast<size_t>(task.vocab_size());
  const size_t rows = tokens.front().size() / block;
  engine::Session session(device, {.quiet = true});
  const engine::SessionProgram forward =
      session.add_program("forward", forward_program(model, static_cast<int64_t>(rows), members.size()));
  session.allocate();
  write_state(session, members.size() == 1 ? members[0] : ensemble_state(members, member_state_names()));
  write_state(session, model.constants());
  std::vector<uint32_t> all;
  for (const auto& one : tokens) all.insert(all.end(), one.begin(), one.end());
  session.write("tokens", all);
  forward.run();
  const std::vector<float> logits = forward.read_floats("logits");
  std::vector<std::vector<std::vector<float>>> said(members.size());
  for (size_t e = 0; e < members.size(); ++e) {
    for (size_t row = 0; row < rows; ++row) {
      // At the arrow, which stands before the last token.
      const size_t first = ((e * rows + row + 1) * block - 2) * vocabulary + static_cast<size_t>(task.class_token(0));
      const auto own = std::span(logits).subspan(first, static_cast<size_t>(task.options().classes));
      const float most = *std::max_element(own.begin(), own.end());
      std::vector<double> weights;
      double total = 0;
      for (const float one : own) total += weights.emplace_back(std::exp((one - most) / temperature));
      auto& probabilities = said[e].emplace_back();
      for (const double one : weights) probabilities.push_back(static_cast<float>(one / total));
    }
  }
  return said;
}

// Asks each teacher about the examples of its seed.
void ask_teachers(const Keys& k, engine::Device& device, const TrainedModels& teachers, const PrototypeTask& task,
                  SoftLabels& labels) {
  const Model model(k.model(k.teacher_width));
  std::vector<graph::State> members;
  std::vector<std::vector<uint32_t>> tokens;
  for (const Cell& teacher : teachers.cells) {
    const std::string folder = (teachers.folder / teacher.cell).string();
    members.push_back({{graph::kParameters, load_checkpoint(folder, model.store()).state.at(graph::kParameters)}});
    std::vector<uint32_t>& rows = tokens.emplace_back();
    for (int32_t i = 0; i < k.examples; ++i) {
      const std::vector<int32_t> example = task.example(teacher.seed, i);
      rows.insert(rows.end(), example.begin(), example.end());
      rows.push_back(static_cast<uint32_t>(task.padding_token()));  // nothing before it sees it
    }
  }
  const auto said = distributions_of(device, model, members, tokens, task, labels.soft.temperature);
  for (size_t i = 0; i < said.size(); ++i) labels.by_seed[teachers.cells[i].seed] = said[i];
}

void experiments(const Keys& k, Experiments& list) {
  list.add("", kTeacher, k.task({}), k.teacher_width);
  const int32_t few = k.examples;
  list.add("", "all_labels", k.task({}), k.width());
  list.add("", "labels", k.task({.examples = few}), k.width());
  list.add("", "classes", k.task({.examples = few, .clean = true}), k.width());
  list.add("", "smoothed", k.task({.examples = few, .smoothing = k.smoothing}), k.width());
  for (const double temperature : *k.temperatures) {
    const auto labels = std::make_shared<SoftLabels>();
    labels->soft = {temperature, k.soft_share};
    const auto task = k.task({.examples = few}, labels);
    Experiment& one = list.add("", soft_variant(temperature), task, k.width());
    one.origin = Origin{kTeacher, k.teacher_width};
    one.prepare = [&k, task, labels](auto& device, const TrainedModels& teachers) {
      ask_teachers(k, device, teachers, *task, *labels);
    };
  }
}

// (labels - soft) / (labels - teacher) of held-out losses, in each seed.
Judgement judge_gap(const Keys& k, const StudyResult& result, double confidence) {
  const Score held_out = loss("label");
  std::vector<double> closed;
  std::vector<std::string> evidence, lost;
  for (const Cell* soft : cells("", soft_variant(k.temperature)).of(result)) {
    const auto of_seed = [&](const char* variant) {
      for (const Cell* cell : cells("", variant).of(result))
        if (cell->seed == soft->seed) return held_out.value(*cell);
      return kNoValue;
    };
    const double labels = of_seed("labels"), teacher = of_seed(kTeacher);
    if (!std::isfinite(labels + teacher + held_out.value(*soft))) {
      lost.push_back(fmt::to_string(soft->seed));
      continue;
    }
    closed.push_back((labels - held_out.value(*soft)) / (labels - teacher));
    evidence.push_back(fmt::format("seed {}: {:.3f} ({:.4f} to {:.4f}, teacher {:.4f})", soft->seed, closed.back(),
                                   labels, held_out.value(*soft), teacher));
  }
  if (!lost.empty()) evidence.push_back(fmt::format("left out, as a model of it diverged: seed {}", join(lost, ", ")));
  if (closed.empty()) return {Verdict::kInconclusive, join(evidence, "; "), 0};
  return {at_least(t_interval(closed, confidence), k.gap), join(evidence, "; "), std::ssize(closed)};
}

std::vector<ClaimRow> claims(const Keys& k) {
  const Pick soft = cells("", soft_variant(k.temperature)), labels = cells("", "labels");
  const Score right = exact_match("class"), lost = loss("label");
  return {{"teacher_learns",
           "On new examples the teacher loses at most {excess} nats to the posterior, in the mean over them, in every "
           "seed.",
           every_seed(cells("", kTeacher), is(measure("label.excess_loss"), at_most(k.excess)))},
          {"gap_closes",
           "Soft targets of temperature {temperature} close at least {gap} of the gap in held-out loss between a "
           "student on the labels and the teacher, in the mean over seeds.",
           [&k](const StudyResult& result, double confidence) { return judge_gap(k, result, confidence); }},
          {"more_right", "That student names the class more often than the one on labels, in the mean over seeds.",
           mean_difference(soft, labels, right, positive())},
          {"beats_smoothing",
           "Its held-out loss is below that of a student on smoothed labels, in the mean over seeds: what helps is "
           "what the teacher knows of an example.",
           mean_difference(cells("", "smoothed"), soft, lost, positive())},
          {"as_clean_labels",
           "It names the class at most {clean_margin} less often than a student whose labels have no noise, in the "
           "mean over seeds.",
           mean_difference(soft, cells("", "classes"), right, at_least(-k.clean_margin))}};
}

const char* const kLabelled[] = {"all_labels", "labels", "classes", "smoothed"};

std::vector<Figure> figures(const Keys& k, const StudyResult& result) {
  Curves losses("Held-out loss against the teacher's temperature", "Means over seeds with 95% t intervals.",
                {"temperature", true}, {"nats a noisy label"});
  Curves answers("Right classes against the teacher's temperature", "Means over seeds with 95% t intervals.",
                 {"temperature", true}, {"share of new examples"});
  for (Curves* curves : {&losses, &answers}) {
    const Score score = curves == &losses ? loss("label") : exact_match("class");
    curves->line("soft targets", {.spread = true});
    for (const double temperature : *k.temperatures)
      curves->add("soft targets", cells("", soft_variant(temperature)).of(result), temperature, score);
    for (const char* variant : {kTeacher, "labels", "smoothed"})
      if (const Cells models = cells("", variant).of(result); !models.empty())
        curves->reference(variant, mean_value(models, score));
  }
  return {losses.figure(), answers.figure()};
}

std::vector<Grid> grids(const Keys& k, const StudyResult& result) {
  std::vector<TableRow> rows = {{kTeacher, cells("", kTeacher).of(result)}};
  for (const char* variant : kLabelled) rows.emplace_back(variant, cells("", variant).of(result));
  for (const double temperature : *k.temperatures)
    rows.emplace_back(soft_variant(temperature), cells("", soft_variant(temperature)).of(result));
  return {score_table(
      "What each learned", "On new examples: nats a noisy label, and right classes.", rows,
      {cell_column("parameters", &Cell::parameters),
       cell_column("loss", [](const Cell& cell) { return cell.arm("label").loss_per_token; }),
       measure_column("loss over the posterior's", "label.excess_loss"), arm_column("right classes", "class")})};
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head = {"distillation", "A teacher's distributions, or labels",
             "What does a model of less than a tenth of the size learn from a teacher's soft targets that it does not "
             "learn from noisy labels of the same examples?"},
    .parts = {.check = check_keys, .experiments = experiments, .claims = claims, .figures = figures, .grids = grids},
    .caveats = {"The teacher has seen new examples at every step, the students {examples}: soft targets also carry "
                "what it learned from the others. all_labels shows what a student makes of as many labels.",
                "A student asks the teacher about each example once, not at every step: FLOPs of its cells leave that "
                "out, and the training of the teacher.",
                "A loss on clean labels says nothing of noisy ones: compare classes by right answers alone.",
                "Probabilities of the teacher are over the classes; what it gives to other tokens is left out."}};

}  // namespace surtsey::experiments
