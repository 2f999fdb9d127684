// The data of the in-context study against exact enumeration, its closed forms, and training on
// data that the device makes.
#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "experiments/device_data/regression.h"
#include "experiments/evaluate/task_vectors.h"
#include "experiments/sweeps/ensemble_run.h"
#include "experiments/tasks/permutation.h"
#include "experiments/tasks/recall.h"
#include "experiments/train/checkpoint.h"
#include "tests/support/support_device.h"

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Approx;
using graph::DType;
using graph::HostTensor;
using graph::State;
using tasks::Split;

namespace {

using Tokens = std::vector<int32_t>;

Tokens tokens_of(std::span<const int32_t> tokens) { return {tokens.begin(), tokens.end()}; }

}  // namespace

TEST_CASE("recall: a sequence binds each key once, and questions ask what was or was not seen") {
  const tasks::RecallTask task({.keys = 5, .values = 7, .pairs = 9, .most_prior = 2});
  REQUIRE(task.vocab_size() == 12);
  const tasks::Batch batch = task.sample(Split::kTrain, 3, 4, 200);
  std::set<Tokens> different;
  std::map<int32_t, int64_t> values;
  for (size_t row = 0; row < 200; ++row) {
    const auto tokens = std::span(batch.tokens).subspan(row * 18, 18);
    std::map<int32_t, int32_t> bound;
    for (size_t t = 0; t < 18; t += 2) {
      REQUIRE((tokens[t] >= 0 && tokens[t] < 5));
      REQUIRE((tokens[t + 1] >= 5 && tokens[t + 1] < 12));
      REQUIRE(bound.emplace(tokens[t], tokens[t + 1]).first->second == tokens[t + 1]);
      REQUIRE(batch.targets[row * 18 + t] == tokens[t + 1]);
      REQUIRE(batch.weights[row * 18 + t] == 1);
      REQUIRE(batch.weights[row * 18 + t + 1] == 0);
    }
    for (const auto& [key, value] : bound) values[value] += 1;
    different.insert(tokens_of(tokens));
  }
  REQUIRE(different.size() > 195);
  double bindings = 0;
  for (const auto& [value, count] : values) bindings += double(count);
  REQUIRE(values.size() == 7);
  for (const auto& [value, count] : values) {
    REQUIRE(std::abs(double(count) - bindings / 7) < 5 * std::sqrt(bindings * 6 / 49));
  }

  for (int32_t arm = 0; arm < 3; ++arm) {
    const auto items = task.test_items(arm, 50, 1);
    const auto others = task.test_items((arm + 1) % 3, 50, 1);
    for (size_t i = 0; i < items.size(); ++i) {
      const auto prompt = items[i].prompt();
      const int32_t key = prompt.back();
      int32_t prior = 0;
      for (size_t t = 0; t + 1 < prompt.size(); t += 2) {
        if (prompt[t] != key) continue;
        ++prior;
        REQUIRE(prompt[t + 1] == items[i].answer().front());
      }
      REQUIRE(prior == arm);
      // The same sequence in every arm.
      const size_t common = std::min(prompt.size(), others[i].prompt().size());
      REQUIRE(tokens_of(prompt.first(common)) == tokens_of(others[i].prompt().first(common)));
    }
  }
  const auto item = task.test_items(1, 1, 9).front();
  REQUIRE(task.encode(task.decode(item.prompt())) == tokens_of(item.prompt()));
  REQUIRE(task.decode(Tokens{0, 5, 4, 11}) == "a 0 e 6");
}

TEST_CASE("permutations: the posterior is that of exact enumeration") {
  const tasks::PermutationTask task({.symbols = 4, .tasks = 5, .shots = 2, .task_seed = 11});
  // Every task with every ordered choice of inputs is equally likely: count what follows a prompt.
  std::map<Tokens, std::vector<double>> follows;
  std::map<Tokens, double> sequences;
  for (const auto& permutation : task.permutations()) {
    for (int32_t a = 0; a < 4; ++a) {
      for (int32_t b = 0; b < 4; ++b) {
        for (int32_t c = 0; c < 4; ++c) {
          if (a == b || b == c || a == c) continue;
          Tokens text;
          for (const int32_t input : {a, b, c}) {
            text.push_back(input);
            text.push_back(4);
            auto& counts = follows.try_emplace(text, 4, 0.0).first->second;
            counts[size_t(permutation[size_t(input)])] += 1;
            text.push_back(permutation[size_t(input)]);
          }
          sequences[text] += 1.0 / (5 * 24);
        }
      }
    }
  }
  for (const auto& [prompt, counts] : follows) {
    double total = 0;
    for (const double count : counts) total += count;
    const std::vector<double> predicted = task.predictive(prompt);
    CAPTURE(task.decode(prompt));
    for (size_t y = 0; y < 4; ++y) REQUIRE(predicted[y] == Approx(counts[y] / total).margin(1e-12));
  }
  // The generator draws these sequences, and no other, as often as that.
  constexpr int32_t kDraws = 20'000;
  const tasks::Batch batch = task.sample(Split::kTrain, 1, 2, kDraws);
  std::map<Tokens, double> drawn;
  for (size_t row = 0; row < size_t(kDraws); ++row) {
    drawn[tokens_of(std::span(batch.tokens).subspan(row * 9, 9))] += 1;
  }
  for (const auto& [text, count] : drawn) REQUIRE(sequences.contains(text));
  for (const auto& [text, share] : sequences) {
    const double deviation = std::sqrt(kDraws * share * (1 - share));
    REQUIRE(std::abs(drawn[text] - kDraws * share) < 5 * deviation);
  }
  // The mean excess loss of a model over all items is its KL divergence from the posterior.
  const std::vector<double> model = {0.4, 0.3, 0.2, 0.1};
  double excess = 0, divergence = 0, regret = 0, best = 0;
  for (const auto& [text, share] : sequences) {
    tasks::Item item;
    item.sequence = text;
    item.prompt_length = 5;  // one shot
    item.answer_length = 1;
    const auto measures = task.measures(item, std::vector{0}, -std::log(model[size_t(text[5])]));
    const std::map<std::string, double> by_name(measures.begin(), measures.end());
    excess += share * by_name.at("excess_loss");
    regret += share * by_name.at("regret");
    const std::vector<double> exact = task.predictive(item.prompt());
    for (size_t y = 0; y < 4; ++y) {
      if (exact[y] > 0) divergence += share * exact[y] * std::log(exact[y] / model[y]);
    }
    best += share * (*std::max_element(exact.begin(), exact.end()) - exact[0]);
  }
  REQUIRE(excess == Approx(divergence).epsilon(1e-12));
  REQUIRE(regret == Approx(best).epsilon(1e-12));
  REQUIRE(regret > 0.1);
}

TEST_CASE("tasks in context refuse options that make no sense") {
  REQUIRE_THROWS_AS(tasks::RecallTask({.keys = 1}), UserError);
  REQUIRE_THROWS_AS(tasks::RecallTask({.pairs = 3, .most_prior = 3}), UserError);
  REQUIRE_THROWS_AS(tasks::PermutationTask({.symbols = 3, .tasks = 7, .shots = 2}), UserError);
  REQUIRE_THROWS_AS(tasks::PermutationTask({.symbols = 3, .tasks = 2, .shots = 3}), UserError);
  REQUIRE_NOTHROW(tasks::PermutationTask({.symbols = 3, .tasks = 6, .shots = 2}));
  // A thousand keys in four pairs: none occurs four times.
  const tasks::RecallTask rare({.keys = 1000, .values = 2, .pairs = 4, .most_prior = 3});
  REQUIRE_THROWS_AS(rare.test_items(3, 1, 0), UserError);
  const tasks::PermutationTask two({.symbols = 3, .tasks = 1, .shots = 1});
  const int32_t image = two.permutations()[0][0];
  REQUIRE(two.predictive(Tokens{0, 3})[size_t(image)] == 1);
  REQUIRE_THROWS_AS(two.predictive(Tokens{0, 3, image}), UserError);
  REQUIRE_THROWS_AS(two.predictive(Tokens{0, 3, (image + 1) % 3, 1, 3}), UserError);
}

namespace {

// The weights with which one layer takes the best gradient step, times `factor`: queries and keys
// read x, values read y, and the layer divides by T where the step divides by N + d + 1.
HostTensor gradient_step_weights(const Model& model, const RegressionOptions& options, double factor) {
  State tensors = model.store().unpack(model.store().initialise(0));
  for (auto& [name, tensor] : tensors) std::fill(tensor.values.begin(), tensor.values.end(), 0.0);
  const auto C = size_t(model.config().n_embd), d = size_t(options.dimension);
  const auto set = [&](const char* name, size_t columns, size_t row, size_t column, double value) {
    tensors.at(name).values[row * columns + column] = value;
  };
  for (size_t i = 0; i <= d; ++i) set("embed.input", d + 1, i, i, 1);
  for (size_t i = 0; i < d; ++i) {
    set("blocks.0.attention.q.weight", C, i, i, 1);
    set("blocks.0.attention.k.weight", C, i, i, 1);
  }
  set("blocks.0.attention.v.weight", C, d, d, 1);
  const double T = options.context + 1;
  set("blocks.0.attention.out.weight", C, d, d, factor * T / (T + options.dimension));
  set("head.weight", C, 0, d, 1);
  return model.store().pack(tensors);
}

}  // namespace

TEST_CASE("regressions are linear, their gradient step is one, and its loss is the closed form") {
  const RegressionOptions options{.dimension = 2, .context = 3};
  const LinearRegression data(options);
  constexpr int64_t kRows = 40'000;
  graph::Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& graph = *program.graph;
  const Model model(linear_attention_config(options, 1, 4));
  graph::Parameters parameters(graph, model.store());
  const auto seed = graph.parameter("seed", {DType::u32, {}});
  const auto step = graph.parameter("step", {DType::u32, {}});
  const auto draw = data.draw(graph, kRows, seed, step, "regression.test");
  program.outputs = {{"tokens", draw.tokens},
                     {"target", draw.target},
                     {"gradient_step", draw.gradient_step},
                     {"prediction", model.logits(parameters, draw.tokens)}};
  State state;
  state["seed"] = HostTensor::scalar(DType::u32, 5);
  state["step"] = HostTensor::scalar(DType::u32, 6);
  state[graph::kParameters] = gradient_step_weights(model, options, 1);
  const auto outputs = graph::interpret(program, state);
  const auto& tokens = outputs.at("tokens").values;
  double first = 0, second = 0, fourth = 0, loss = 0, squares = 0;
  for (size_t row = 0; row < size_t(kRows); ++row) {
    const double* at = &tokens[row * 12];  // four tokens of (x, x, y)
    // Two examples give the weights; the third and the query must agree.
    const double determinant = at[0] * at[4] - at[1] * at[3];
    const double w0 = (at[2] * at[4] - at[1] * at[5]) / determinant;
    const double w1 = (at[0] * at[5] - at[2] * at[3]) / determinant;
    const double target = outputs.at("target").values[row];
    if (std::abs(determinant) > 0.1) {
      REQUIRE(at[6] * w0 + at[7] * w1 == Approx(at[8]).margin(1e-4));
      REQUIRE(at[9] * w0 + at[10] * w1 == Approx(target).margin(1e-4));
    }
    REQUIRE(at[11] == 0);
    double prediction = 0;
    for (size_t i = 0; i < 3; ++i) {
      const double* one = at + 3 * i;
      prediction += one[2] * (one[0] * at[9] + one[1] * at[10]) / (3 + 2 + 1);
    }
    REQUIRE(outputs.at("gradient_step").values[row] == Approx(prediction).margin(1e-5));
    // One layer with the right weights is that step.
    REQUIRE(outputs.at("prediction").values[row * 4 + 3] == Approx(prediction).margin(1e-5));
    for (const size_t i : {0u, 1u, 3u, 4u, 6u, 7u, 9u, 10u}) {
      first += at[i];
      second += at[i] * at[i];
      fourth += at[i] * at[i] * at[i] * at[i];
    }
    const double error = (prediction - target) * (prediction - target);
    loss += error;
    squares += error * error;
  }
  constexpr double kNumbers = 8.0 * kRows;
  REQUIRE(std::abs(first / kNumbers) < 5 / std::sqrt(kNumbers));
  REQUIRE(std::abs(second / kNumbers - 1) < 5 * std::sqrt(2 / kNumbers));
  REQUIRE(std::abs(fourth / kNumbers - 3) < 5 * std::sqrt(96 / kNumbers));
  const double mean_loss = loss / kRows;
  const double deviation = std::sqrt(squares / kRows - mean_loss * mean_loss);
  REQUIRE(gradient_step_loss(options) == Approx(1));  // 2 * 3 / (3 + 2 + 1)
  REQUIRE(gradient_step_loss({.dimension = 10, .context = 10}) == Approx(110.0 / 21));
  REQUIRE(std::abs(mean_loss - 1) < 5 * deviation / std::sqrt(double(kRows)));
}

TEST_CASE("a device measures the gradient step that one layer takes, and one that is too short", "[device]") {
  engine::Device device = tests::open_test_device();
  const RegressionOptions options{.dimension = 4, .context = 6, .test_sequences = 65'536, .evaluation_rows = 2048};
  const LinearRegression data(options);
  const Model model(linear_attention_config(options, 1, 6));
  engine::Session session(device, {.quiet = true});
  data.add_programs(session, model, 2);
  session.allocate();
  std::vector<State> members(2);
  members[0][graph::kParameters] = gradient_step_weights(model, options, 1);
  members[1][graph::kParameters] = gradient_step_weights(model, options, 0.7);
  session.write(graph::kParameters, ensemble_state(members, member_state_names()).at(graph::kParameters));
  const auto measures = data.measure(session, 2, 3);
  const auto of = [&](size_t member, const char* name) {
    for (const Measure& one : measures[member]) {
      if (one.name == name) return one;
    }
    FAIL("there is no measure " << name);
    return Measure{};
  };
  const Measure right = of(0, "loss_over_optimum"), wrong = of(1, "loss_over_optimum");
  CHECK(right.n == 65'536);
  CHECK(std::abs(right.mean - 1) < 5 * right.standard_error);
  CHECK(of(0, "loss").mean == Approx(of(0, "gradient_step_loss").mean).epsilon(1e-4));
  CHECK(of(0, "cosine").mean == Approx(1).epsilon(1e-5));
  // (1 - .7)^2 of the step's square is lost: its expectation is d N / (N + d + 1), the optimum d (d
  // + 1) / (N + d + 1).
  CHECK(std::abs(wrong.mean - (1 + 0.09 * 6 / 5)) < 5 * wrong.standard_error);
  CHECK(of(1, "cosine").mean == Approx(1).epsilon(1e-5));
  CHECK(of(0, "gradient_step_loss").mean == of(1, "gradient_step_loss").mean);
}

TEST_CASE("a pack learns from generated data, the same alone and in company", "[device]") {
  engine::Device device = tests::open_test_device();
  const RegressionOptions regression{
      .dimension = 2, .context = 4, .test_sequences = 8192, .validation_sequences = 2048, .evaluation_rows = 1024};
  const LinearRegression data(regression);
  SweepOptions options;
  Experiment experiment;
  experiment.task = "regression";
  experiment.variant = "one_layer";
  experiment.generated = &data;
  experiment.model = linear_attention_config(regression, 1, 4);
  experiment.width = 4;
  experiment.n_layer = 1;
  experiment.steps = 300;
  experiment.batch_size = 64;
  experiment.learning_rates = {0.02};
  const std::filesystem::path nowhere;  // no checkpoints are asked for
  const auto run = [&](const std::vector<Member>& members) {
    return run_pack(device, {.options = options, .experiment = experiment, .members = members, .folders = {nowhere}});
  };
  const PackResult company = run({{0, 0.02}, {1, 0.02}, {0, 0.002}});
  const PackResult alone = run({{1, 0.02}});
  REQUIRE(company.cells.size() == 3);
  REQUIRE(alone.cells.size() == 1);
  REQUIRE(alone.samples.empty());
  const auto ratio = [](const Cell& cell) { return cell.find_measure("loss_over_optimum")->mean; };
  // Guessing 0 has d = 2, the optimum 6 / 7.
  CHECK(ratio(company.cells[0]) < 1.4);
  CHECK(ratio(company.cells[0]) > 0.9);
  CHECK(ratio(company.cells[0]) != ratio(company.cells[1]));
  CHECK(ratio(company.cells[2]) > ratio(company.cells[0]));  // too low a rate for 300 steps
  for (const Measure& measure : alone.cells[0].measures) {
    CAPTURE(measure.name);
    CHECK(company.cells[1].find_measure(measure.name)->mean == measure.mean);
  }
  CHECK(company.cells[1].validation_loss == alone.cells[0].validation_loss);
  CHECK(alone.cells[0].flops > 0);
  CHECK(pack_cost(device.info().target, experiment, {{1, 0.02}}).flops == alone.cells[0].flops);
  CHECK(measure_step(device, experiment, {{1, 0.02}}, 2) > 0);
}

namespace {

std::shared_ptr<const tasks::PermutationTask> permutations(const tasks::PermutationOptions& options) {
  return std::make_shared<tasks::PermutationTask>(options);
}

}  // namespace

TEST_CASE("task vectors are read from prompts of one task and put into others") {
  const auto task = permutations({.symbols = 6, .tasks = 3, .shots = 2});
  const TaskVectors vectors(task, 200, 2);
  const auto pairs = vectors.draw(4);
  REQUIRE(pairs.size() == 200);
  std::set<int32_t> drawn;
  for (const TaskVectors::Pair& pair : pairs) {
    drawn.insert(pair.permutation);
    const auto& image = task->permutations()[size_t(pair.permutation)];
    REQUIRE(pair.few_shot.size() == 8);
    for (size_t t = 0; t < 6; t += 3) {
      REQUIRE(pair.few_shot[t + 1] == 6);
      REQUIRE(pair.few_shot[t + 2] == image[size_t(pair.few_shot[t])]);
      REQUIRE(pair.few_shot[t] != pair.few_shot[6]);
    }
    REQUIRE(pair.few_shot_answer == image[size_t(pair.few_shot[6])]);
    REQUIRE(pair.zero_shot.size() == 2);
    REQUIRE(pair.zero_shot_answer == image[size_t(pair.zero_shot[0])]);
    REQUIRE(pairs[pair.other].permutation != pair.permutation);
  }
  REQUIRE(drawn.size() == 3);
  REQUIRE_THROWS_AS(TaskVectors(permutations({.symbols = 6, .tasks = 1, .shots = 2}), 10, 2), UserError);
}

TEST_CASE("a stream that is the same is patched without effect, another is not", "[device]") {
  engine::Device device = tests::open_test_device();
  // Without examples both prompts are "x >": only the streams behind the embeddings differ, by x.
  const auto task = permutations({.symbols = 10, .tasks = 6, .shots = 0});
  const TaskVectors vectors(task, 300, 2);
  const Model model(recipe_config(2, 16, task->vocab_size(), task->block_size()));
  engine::Session session(device, {.quiet = true});
  vectors.add_programs(session, model, 2);
  session.allocate();
  std::vector<State> members(2);
  for (uint32_t e = 0; e < 2; ++e) members[e][graph::kParameters] = model.store().initialise(e);
  session.write(graph::kParameters, ensemble_state(members, member_state_names()).at(graph::kParameters));
  const auto measures = vectors.measure(session, 2, 1);
  const auto pairs = vectors.draw(1);
  for (const auto& list : measures) {
    std::map<std::string, double> by_name;
    for (const Measure& one : list) by_name[one.name] = one.mean;
    REQUIRE(by_name.size() == 8);
    CHECK(by_name.at("patched.0") == by_name.at("zero_shot"));
    CHECK(by_name.at("control.0") == by_name.at("zero_shot"));
    CHECK(by_name.at("patched.2") != by_name.at("zero_shot"));
  }
  // After the last block the answer is that of the prompt the vector comes from: the model's answer
  // to x' where x was asked. It is right as often as that answer happens to be the image of x.
  const auto answers = session.read_output_words("task_vectors", "answer");  // control.2 of all
  for (size_t e = 0; e < 2; ++e) {
    int64_t right = 0;
    for (size_t n = 0; n < pairs.size(); ++n) {
      right += answers[e * 300 + n] == uint32_t(pairs[n].zero_shot_answer) ? 1 : 0;
    }
    CHECK(measures[e].back().name == "control.2");
    CHECK(measures[e].back().mean == Approx(double(right) / 300));
    // Equal queries of the other prompt give equal answers.
    std::map<int32_t, uint32_t> by_query;
    for (size_t n = 0; n < pairs.size(); ++n) {
      const int32_t query = pairs[pairs[n].other].few_shot[0];
      CHECK(by_query.emplace(query, answers[e * 300 + n]).first->second == answers[e * 300 + n]);
    }
  }
}

TEST_CASE("training on generated data resumes to the same bits", "[device]") {
  engine::Device device = tests::open_test_device();
  const RegressionOptions regression{.dimension = 2, .context = 4};
  const LinearRegression data(regression);
  const Model model(linear_attention_config(regression, 1, 4));
  TrainConfig config;
  config.optimizer = recipe_optimizer(40);
  config.members = {{3, 0.01}, {4, 0.01}};
  config.batch_size = 32;
  config.steps = 40;
  config.generated = &data;
  const auto scratch =
      std::filesystem::temp_directory_path() / fmt::format("surtsey-generated-{}", std::random_device{}());
  const auto train = [&](bool in_parts) {
    engine::Session session(device, {.quiet = true});
    Trainer trainer(session, model, config);
    session.allocate();
    trainer.initialise();
    if (in_parts) {
      trainer.run({.until = 16});
      trainer.save(scratch.string(), nlohmann::json::object());
      trainer.initialise();
      REQUIRE(trainer.load(scratch.string()) == 16);
    }
    trainer.run();
    return std::vector{trainer.parameters(0).values, trainer.parameters(1).values};
  };
  const auto whole = train(false), parts = train(true);
  std::filesystem::remove_all(scratch);
  CHECK(whole == parts);
  CHECK(whole[0] != whole[1]);
}

TEST_CASE("measures are written, read, and computed again from the samples") {
  StudyResult result;
  result.study = "s";
  Cell& cell = result.cells.emplace_back();
  cell.cell = "one";
  std::vector<SampleLine> samples;
  for (int i = 0; i < 5; ++i) {
    SampleLine line{"one", "0_shot", i, "a >", "b", "b", true, true, "", "", 0.5, {}};
    line.measures = {{"regret", i * 0.1}, {"optimum", 1.0}};
    samples.push_back(parse_sample(to_json_line(line), "line"));
  }
  const Recomputed again = recompute(samples).at(0);
  cell.arms = again.arms;
  cell.measures = again.measures;
  const Measure* regret = cell.find_measure("0_shot.regret");
  REQUIRE(regret != nullptr);
  REQUIRE(regret->mean == Approx(0.2));
  REQUIRE(regret->standard_error == Approx(std::sqrt(0.025 / 5)));
  REQUIRE(regret->n == 5);
  REQUIRE(cell.find_measure("0_shot.optimum")->standard_error == Approx(0).margin(1e-9));
  REQUIRE(cell.find_measure("regret") == nullptr);
  StudyResult read = parse_result(to_json(result), "result");
  REQUIRE(read.cells[0].measures.size() == 2);
  REQUIRE(disagreements(read, samples).empty());
  for (auto change : {+[](Measure& one) { one.mean += 1e-6; }, +[](Measure& one) { one.standard_error += 1e-4; }}) {
    StudyResult wrong = read;
    change(wrong.cells[0].measures[0]);
    REQUIRE(disagreements(wrong, samples).size() == 1);
  }
  read.cells[0].measures.clear();
  REQUIRE(disagreements(read, samples).size() == 4);
}
