// Heads of labels: losses and gradients by their formulas; ten steps of a BERT classifier are PyTorch's
// (tests/golden/classify.py) by method and problem; padding takes no part; where heads start, what is saved of them.
#include "tests/support/adapted.h"
#include "tests/support/bert_model.h"
#include "tests/support/device_suite.h"
#include "tests/support/folder.h"
#include "tests/support/golden_steps.h"

#include "experiments/adapt/peft.h"
#include "experiments/evaluate/label_measures.h"
#include "experiments/models/hub/export.h"
#include "experiments/models/hub/label_head.h"
#include "experiments/models/label_loss.h"
#include "graph/autodiff.h"
#include "graph/functions.h"
#include "graph/optimizer.h"

#include <catch2/catch_approx.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

#include <cmath>

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::experiments;
using Catch::Approx;
using Catch::Matchers::ContainsSubstring;
using tasks::ProblemType;
using tests::frozen_state;
using tests::furthest;
using tests::largest;
using tests::same;

namespace {

constexpr ProblemType kProblems[] = {ProblemType::single_label, ProblemType::multi_label, ProblemType::regression};

Model bert_for(const hub::Source& source, const HostTensor& tokens) {
  return Model(hub::model_config(source, {tokens.type.shape[1], 0}));
}

// What a model makes of padded rows: scores [B, K].
Value scores_of(const Model& model, Parameters& parameters, const Type& rows) {
  Graph& graph = parameters.graph();
  ForwardOptions options;
  options.lengths = graph.parameter("lengths", {DType::u32, {rows.shape[0]}});
  if (model.config().n_types > 0) options.token_types = graph.parameter("kinds", rows);
  return model.logits(parameters, graph.parameter("tokens", rows), options);
}

Program labelled_step(const Model& model, const Type& rows, ProblemType problem) {
  Program program{std::make_shared<Graph>(), {}};
  Parameters parameters(*program.graph, model.store());
  const Value scores = scores_of(model, parameters, rows);
  const Value loss = mean(label_loss(problem, scores, program.graph->parameter("labels", scores.type())), {0}, false);
  optimize(parameters, parameters.flat_gradient(loss), loss, tests::golden_steps_optimizer());
  program.outputs = {{"loss", loss}};
  return program;
}

Program scores_program(const Model& model, const Type& rows) {
  Program program{std::make_shared<Graph>(), {}};
  Parameters parameters(*program.graph, model.store());
  program.outputs = {{"scores", scores_of(model, parameters, rows)}};
  return program;
}

// Everything that a program of a model reads, from files and a golden's batch.
State state_for(const Model& model, const hub::Source& source, const Adaptation* adaptation,
                const Safetensors& golden) {
  State state = model.constants();
  state.merge(frozen_state(model, source, adaptation));
  for (const char* name : {"tokens", "kinds", "lengths", "labels"}) state[name] = golden.tensors.at(name);
  return state;
}

// The scores of a model read whole from files, with an adapter's folder or without.
HostTensor scores_from(const hub::Source& source, const std::filesystem::path& adapter, const Safetensors& golden) {
  Model model = bert_for(source, golden.tensors.at("tokens"));
  model.store().freeze([](const ParameterSpec&) { return true; });
  std::optional<Adaptation> adaptation;
  if (!adapter.empty()) adaptation.emplace(adapter, source, model).install_frozen(model);
  State state = state_for(model, source, nullptr, golden);
  if (adaptation)
    adaptation->write(model, [&](const std::string& name, const HostTensor& tensor) { state[name] = tensor; });
  return interpret(scores_program(model, golden.tensors.at("tokens").type), state).at("scores");
}

void check_classifier_steps(const std::string& method, ProblemType problem, const Target& target,
                            const tests::GoldenSteps& steps) {
  CAPTURE(method, name(problem));
  const auto source = hub::open_model(tests::bert_golden());
  const Safetensors golden =
      read_safetensors((tests::bert_golden() / fmt::format("{}_{}.safetensors", method, name(problem))).string());
  const tests::Folder folder;
  Model model = bert_for(*source, golden.tensors.at("tokens"));
  std::optional<Adaptation> adaptation;
  if (method == "full") {
    adaptation.emplace(AdaptConfig{.method = AdaptMethod::full, .num_labels = 3}, *source, model);
  } else {
    tests::write_golden_adapter(golden, "i.", folder / "before");
    adaptation.emplace(folder / "before", *source, model);
  }
  adaptation->install(model, target);
  State state = initial_optimizer_state(model.store(), tests::golden_steps_optimizer(), 5e-3);
  state["learning_rate"].round_to_storage();
  state[kParameters] = adaptation->start(model, {});
  state.merge(state_for(model, *source, &*adaptation, golden));
  const State after = steps(labelled_step(model, golden.tensors.at("tokens").type, problem), state);
  tests::check_golden_losses(golden, after);
  const State trained = model.store().unpack(after.at(kParameters));
  const HostTensor& expected = golden.tensors.at("scores");
  if (method == "full") {
    // What is written is a model of transformers': its tensors by their names.
    const auto changed = hub::open_model(tests::bert_golden());
    for (const auto& [name, tensor] : trained)
      changed->change(hub::source_name(model.config(), name), [&tensor](std::vector<float> numbers) {
        std::copy(tensor.values.begin(), tensor.values.end(), numbers.begin());
        return numbers;
      });
    hub::export_folder(*changed, folder / "after");
    const Safetensors found = read_safetensors((folder / "after/model.safetensors").string());
    size_t compared = 0;
    for (const auto& [name, tensor] : golden.tensors) {
      if (!name.starts_with("a.")) continue;
      CAPTURE(name);
      ++compared;
      // A bias of keys moves all scores of a query alike: its gradient is rounding, which Adam makes steps of. Of the
      // table of positions the model has as many rows as its texts.
      if (name.ends_with("key.bias") || name.ends_with("position_embeddings.weight")) continue;
      CHECK(furthest(found.tensors.at(name.substr(2)), tensor) <= 1e-4 * largest(tensor));
    }
    CHECK(compared == found.tensors.size());
    CHECK(furthest(scores_from(*hub::open_model(folder / "after"), {}, golden), expected) <= 1e-4 * largest(expected));
    return;
  }
  adaptation->save(folder / "after", trained, "base");
  const Safetensors found = read_safetensors((folder / "after" / kAdapterTensors).string());
  size_t compared = 0;
  for (const auto& [name, tensor] : golden.tensors) {
    if (!name.starts_with("a.")) continue;
    CAPTURE(name);
    REQUIRE(found.tensors.contains(name.substr(2)));
    ++compared;
    CHECK(furthest(found.tensors.at(name.substr(2)), tensor) <= 1e-4 * largest(tensor));
  }
  CHECK(compared == found.tensors.size());
  CHECK(furthest(scores_from(*source, folder / "after", golden), expected) <= 1e-4 * largest(expected));
}

}  // namespace

TEST_CASE("losses of labels are their formulas, and so are their gradients", "[labels]") {
  for (const ProblemType problem : kProblems) {
    CAPTURE(name(problem));
    Graph graph;
    const Type type = {DType::f32, {4, 3}};
    const Value scores = graph.parameter("scores", type), labels = graph.parameter("labels", type);
    State state{{"scores", HostTensor::random(type, -3, 3, 1)}, {"labels", HostTensor::random(type, -1, 1, 2)}};
    for (size_t i = 0; i < 12 && problem != ProblemType::regression; ++i)
      state["labels"].values[i] = problem == ProblemType::single_label ? double(i % 3 == i / 3 % 3) : double(i % 2);
    // A score of nothing, and scores that no exp would hold.
    state["scores"].values[4] = 0;
    state["scores"].values[5] = 200;
    state["scores"].values[8] = -200;
    const Value each = label_loss(problem, scores, labels);
    const Value loss = sum(each * HostTensor::random({DType::f32, {1}}, 1, 2, 3).values[0], {0}, false);
    const std::vector<Value> values = {each, differentiate(loss, std::span(&scores, 1))[0], loss};
    const auto run = [&] { return evaluate(graph, values, state); };
    const auto found = run();
    std::vector<std::vector<float>> rows, wanted;
    for (size_t b = 0; b < 4; ++b) {
      const auto row = [&](const char* which) {
        const auto at = state[which].values.begin() + std::ptrdiff_t(3 * b);
        return std::vector<float>(at, at + 3);
      };
      rows = {row("scores")};
      wanted = {row("labels")};
      // The host's measure, of f32 numbers, is the same loss.
      CHECK(found[0].values[b] == Approx(label_measures(problem, rows, wanted).loss).epsilon(1e-6).margin(1e-9));
    }
    for (size_t i = 0; i < 12; ++i) {
      CAPTURE(i);
      const double old = state["scores"].values[i], step = 1e-5;
      state["scores"].values[i] = old + step;
      const double above = run()[2].values[0];
      state["scores"].values[i] = old - step;
      const double below = run()[2].values[0];
      state["scores"].values[i] = old;
      CHECK(found[1].values[i] == Approx((above - below) / (2 * step)).epsilon(1e-5).margin(1e-7));
    }
  }
}

TEST_CASE("ten steps of a BERT classifier are PyTorch's, of every problem", "[adapt][labels]") {
  for (const ProblemType problem : kProblems)
    for (const char* method : {"full", "lora"}) check_classifier_steps(method, problem, {}, tests::interpreted_steps);
  check_classifier_steps("ia3", ProblemType::single_label, {}, tests::interpreted_steps);
}

TEST_CASE("ten steps of a BERT classifier on the device are PyTorch's", "[device][adapt][labels]") {
  SURTSEY_NEED_DEVICE();
  check_classifier_steps("full", ProblemType::single_label, device.target(), tests::device_steps(device));
  check_classifier_steps("lora", ProblemType::multi_label, device.target(), tests::device_steps(device));
  check_classifier_steps("lora", ProblemType::regression, device.target(), tests::device_steps(device));
}

TEST_CASE("padding behind a text changes no score of it", "[labels]") {
  const tests::Folder folder;
  const auto bert = hub::open_model(tests::bert_golden());
  const auto decoder = hub::open_model(tests::golden_folder("llama"));
  hub::give_label_head(*decoder, 3);
  for (const hub::Source* source : {bert.get(), decoder.get()}) {
    const Model model(hub::model_config(*source, {9, 0}));
    State state = model.constants();
    state[kParameters] = model.store().initialise(4);
    const auto scores = [&](const HostTensor& tokens, double length) {
      state["tokens"] = tokens;
      state["kinds"] = HostTensor::zeros(tokens.type);
      state["lengths"] = HostTensor({DType::u32, {1}}, {length});
      return interpret(scores_program(model, tokens.type), state).at("scores");
    };
    HostTensor text = HostTensor::random({DType::u32, {1, 5}}, 0, 23, 8);
    const HostTensor alone = scores(text, 5);
    for (const double padding : {0.0, 7.0}) {
      HostTensor padded = HostTensor::zeros({DType::u32, {1, 9}});
      std::fill(padded.values.begin(), padded.values.end(), padding);
      std::copy(text.values.begin(), text.values.end(), padded.values.begin());
      CHECK(furthest(scores(padded, 5), alone) <= 1e-12);
      CHECK(furthest(scores(padded, 9), alone) > 1e-6);  // what is no padding is seen
    }
  }
}

TEST_CASE("a head starts as the base has it, or drawn, and is saved with what trains beside it", "[adapt][labels]") {
  const tests::Folder folder;
  const AdaptConfig config{.target_modules = {"all-linear"}, .r = 2, .num_labels = 3};
  const auto golden = hub::open_model(tests::bert_golden());
  for (const char* architecture : {"BertForSequenceClassification", "BertModel", "BertForMaskedLM"}) {
    CAPTURE(architecture);
    const auto source = hub::open_model(tests::write_bert_model(folder, architecture));
    hub::give_label_head(*source, 3);
    const bool has = std::string(architecture) == "BertForSequenceClassification",
               pools = std::string(architecture) != "BertForMaskedLM";
    CHECK(source->is_new("head.weight") != has);
    CHECK(source->is_new("pooler.weight") != pools);
    Model model(hub::model_config(*source, {8, 0}));
    CHECK(model.config().head == HeadKind::classify);
    const Adaptation adaptation(config, *source, model);
    adaptation.install(model, {});
    const State start = model.store().unpack(adaptation.start(model, {.seed = 1}));
    const State other = model.store().unpack(adaptation.start(model, {.seed = 2}));
    CHECK((start.at("head.weight").values == other.at("head.weight").values) == has);
    if (has) {
      const std::vector<float> expected = golden->read_floats("head.weight");
      CHECK(std::equal(expected.begin(), expected.end(), start.at("head.weight").values.begin()));
    } else {
      CHECK(largest(start.at("head.bias")) == 0);
      CHECK(largest(start.at("head.weight")) < 0.1);
    }
    // A pooler that files have is adapted as any matrix; a new one trains whole.
    CHECK(start.contains("pooler.weight") != pools);
    CHECK(start.contains("adapter.bert.pooler.dense.lora_A.weight") == pools);
    adaptation.save(folder / "saved", start);
    const nlohmann::json said = nlohmann::json::parse(tests::slurp(folder / "saved" / kAdapterConfig));
    CHECK(said.at("task_type") == "SEQ_CLS");
    CHECK(said.at("modules_to_save") ==
          (pools ? nlohmann::json({"classifier"}) : nlohmann::json({"pooler", "classifier"})));
    const Safetensors file = read_safetensors((folder / "saved" / kAdapterTensors).string());
    CHECK(file.tensors.contains("base_model.model.classifier.bias"));
    CHECK(file.tensors.contains("base_model.model.bert.pooler.dense.weight") != pools);
    CHECK(adapter_labels(folder / "saved") == 3);
    const auto fresh = hub::open_model(tests::write_bert_model(folder, architecture));
    hub::give_label_head(*fresh, 3);
    const Model again(hub::model_config(*fresh, {8, 0}));
    CHECK(same(Adaptation(folder / "saved", *fresh, again).tensors(), start));
  }
}

TEST_CASE("a decoder classifies by its last token, and its head merges into its folder", "[adapt][labels]") {
  const tests::Folder folder;
  for (const char* family : {"gpt2", "llama"}) {
    CAPTURE(family);
    const auto source = hub::open_model(tests::golden_folder(family));
    hub::give_label_head(*source, 3);
    hub::name_labels(*source, {"a", "b", "c"}, name(ProblemType::single_label));
    Model model(hub::model_config(*source, {7, 0}));
    const Adaptation adaptation({.method = AdaptMethod::head, .num_labels = 3}, *source, model);
    adaptation.install(model, {});
    const Type rows{DType::u32, {2, 7}};
    Program program{std::make_shared<Graph>(), {}};
    Parameters parameters(*program.graph, model.store());
    ForwardOptions options;
    options.lengths = program.graph->parameter("lengths", {DType::u32, {2}});
    const Value hidden = model.hidden(parameters, program.graph->parameter("tokens", rows), options);
    program.outputs = {{"hidden", hidden}, {"scores", model.head(parameters, hidden, options)}};
    State state = model.constants();
    state[kParameters] = adaptation.start(model, {.seed = 2});
    state.merge(frozen_state(model, *source, &adaptation));
    state["tokens"] = HostTensor::random(rows, 0, 23, 5);
    state["lengths"] = HostTensor({DType::u32, {2}}, {5, 7});
    const auto outputs = interpret(program, state);
    const State trained = model.store().unpack(state.at(kParameters));
    const HostTensor& head = trained.at("head.weight");
    CHECK_FALSE(trained.contains("head.bias"));
    for (size_t b = 0; b < 2; ++b)
      for (size_t label = 0; label < 3; ++label) {
        double expected = 0;
        for (size_t c = 0; c < 16; ++c)
          expected += outputs.at("hidden").values[(b * 7 + (b == 0 ? 4 : 6)) * 16 + c] * head.values[label * 16 + c];
        CHECK(std::abs(outputs.at("scores").values[b * 3 + label] - expected) <= 1e-9);
      }
    adaptation.save(folder / "saved", trained);
    CHECK(read_safetensors((folder / "saved" / kAdapterTensors).string())
              .tensors.contains("base_model.model.score.weight"));
    // Over the language model an adapter is read without its head, and a head alone is refused.
    const auto plain = hub::open_model(tests::golden_folder(family));
    const Model language(hub::model_config(*plain, {7, 0}));
    CHECK_THROWS_WITH(Adaptation(folder / "saved", *plain, language), ContainsSubstring("`surtsey classify` reads"));
    Model adapted(hub::model_config(*source, {7, 0}));
    const Adaptation low({.target_modules = {"all-linear"}, .r = 2, .num_labels = 3}, *source, adapted);
    low.install(adapted, {});
    State below = adapted.store().unpack(low.start(adapted, {.seed = 1}));
    low.save(folder / "low", below);
    CHECK(below.erase("head.weight") == 1);
    CHECK(same(Adaptation(folder / "low", *plain, language).tensors(), below));
    // In the folder it is transformers' class of this family.
    for (const std::string& parameter : adaptation.merged_names())
      source->change(hub::source_name(model.config(), parameter), [&trained, parameter](std::vector<float> numbers) {
        std::copy(trained.at(parameter).values.begin(), trained.at(parameter).values.end(), numbers.begin());
        return numbers;
      });
    const auto out = folder / fmt::format("{}-out", family);
    hub::export_folder(*source, out);
    const nlohmann::json config = nlohmann::json::parse(tests::slurp(out / "config.json"));
    CHECK(config.at("architectures").at(0) ==
          (std::string(family) == "gpt2" ? "GPT2ForSequenceClassification" : "LlamaForSequenceClassification"));
    CHECK(config.at("id2label") == nlohmann::json({{"0", "a"}, {"1", "b"}, {"2", "c"}}));
    CHECK(config.at("label2id").at("c") == 2);
    CHECK(config.at("problem_type") == "single_label_classification");
    const auto back = hub::open_model(out);
    const std::vector<float> numbers = back->read_floats("head.weight");
    CHECK(std::equal(numbers.begin(), numbers.end(), head.values.begin()));
    CHECK(hub::model_config(*back).n_labels == 3);
  }
}

TEST_CASE("what a head of labels cannot be is said by name", "[adapt][labels]") {
  const auto bert = hub::open_model(tests::bert_golden());
  const Model model(hub::model_config(*bert, {8, 0}));
  const auto make = [&](AdaptConfig config) { Adaptation(std::move(config), *bert, model); };
  for (const AdaptMethod method : {AdaptMethod::prefix, AdaptMethod::prompt})
    CHECK_THROWS_WITH(make({.method = method, .num_labels = 3}), ContainsSubstring("virtual tokens stand before"));
  CHECK_THROWS_WITH(make({.num_labels = 2}), ContainsSubstring("no head of so many labels"));
  CHECK_THROWS_WITH(make({.target_modules = {"classifier"}, .num_labels = 3}),
                    ContainsSubstring("classifier, which trains whole"));
  CHECK_THROWS_WITH(make({.num_labels = 3, .problem_type = "ranking"}), ContainsSubstring("problem_type is 'ranking'"));
}
