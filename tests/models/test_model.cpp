// The transformer: names, counts, switches, what a token may see, and training under dropout.
#include "experiments/models/model.h"
#include "experiments/models/shapes.h"
#include "graph/autodiff.h"
#include "graph/functions.h"
#include "graph/optimizer.h"
#include "graph/vectorize.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include <cmath>

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::experiments;
using Catch::Approx;
using nlohmann::json;

namespace {

ModelConfig tiny() {
  ModelConfig config;
  config.n_layer = 2;
  config.n_head = 2;
  config.n_embd = 8;
  config.n_hidden = 12;
  config.block_size = 6;
  config.vocab_size = 7;
  return config;
}

std::vector<ModelConfig> variants() {
  std::vector<ModelConfig> list;
  const auto add = [&](auto&& change) {
    list.push_back(tiny());
    change(list.back());
  };
  add([](ModelConfig&) {});
  add([](ModelConfig& c) { c.architecture = Architecture::encoder; });
  add([](ModelConfig& c) { c.position = Position::sinusoidal; });
  add([](ModelConfig& c) { c.position = Position::none; });
  add([](ModelConfig& c) {
    c.position = Position::rotary;
    c.n_head = 4;
    c.n_kv_head = 2;
  });
  add([](ModelConfig& c) {
    c.norm = Norm::rms_norm;
    c.activation = Activation::swiglu;
    c.bias = false;
  });
  add([](ModelConfig& c) { c.norm_placement = NormPlacement::post; });
  add([](ModelConfig& c) { c.embedding_norm = true; });
  add([](ModelConfig& c) {
    c.tied = true;
    c.activation = Activation::gelu_tanh;
    c.n_hidden = 0;
  });
  add([](ModelConfig& c) { c.window = 2; });
  add([](ModelConfig& c) {
    c.attention = AttentionKind::linear;
    c.norm = Norm::none;
    c.n_kv_head = 1;
  });
  add([](ModelConfig& c) {
    c.attention = AttentionKind::linear;
    c.norm = Norm::none;
    c.position = Position::none;
    c.mlp = false;
    c.input_size = 3;
  });
  add([](ModelConfig& c) {
    c.bias = false;
    c.attention_bias = true;
    c.output_bias = true;
    c.n_embd = 6;  // padding between tensors
    c.n_hidden = 5;
  });
  add([](ModelConfig& c) {
    c.head_dim = 6;  // 2 heads of 6 in 8 channels
    c.n_kv_head = 1;
    c.position = Position::rotary;
  });
  add([](ModelConfig& c) {
    c.n_head = 3;  // which does not divide 8
    c.head_dim = 2;
    c.architecture = Architecture::encoder_decoder;
  });
  add([](ModelConfig& c) {
    c.architecture = Architecture::encoder_decoder;
    c.n_encoder_layer = 1;
    c.source_size = 9;
  });
  add([](ModelConfig& c) {
    c.architecture = Architecture::encoder_decoder;
    c.position = Position::rotary;
    c.n_kv_head = 1;
    c.tied = true;
  });
  // T5's: distances in buckets, one embedding, scores as they are, a tied head scaled down; and its gated successor.
  add([](ModelConfig& c) {
    c.architecture = Architecture::encoder_decoder;
    c.position = Position::relative;
    c.relative_buckets = 6;
    c.relative_distance = 5;
    c.shared_embedding = true;
    c.tied = true;
    c.head_dim = 3;
    c.norm = Norm::rms_norm;
    c.activation = Activation::relu;
    c.bias = false;
    c.scaling.attention_scale = 1;
    c.scaling.readout_multiplier = .5;
    c.source_size = 9;
  });
  add([](ModelConfig& c) {
    c.position = Position::relative;
    c.n_head = 4;
    c.n_kv_head = 2;
    c.activation = Activation::geglu;
  });
  // Qwen3's norms of heads, and a bias of attention's output alone.
  add([](ModelConfig& c) {
    c.position = Position::rotary;
    c.rotary_scaling = {.kind = RotaryKind::yarn, .factor = 2, .original = 4};
    c.norm = Norm::rms_norm;
    c.qk_norm = true;
    c.n_kv_head = 1;
    c.bias = false;
    c.attention_output_bias = true;
  });
  // BERT's: kinds of tokens, and a layer before the logits.
  add([](ModelConfig& c) {
    c.architecture = Architecture::encoder;
    c.norm_placement = NormPlacement::post;
    c.embedding_norm = true;
    c.n_types = 2;
    c.head = HeadKind::masked_language;
    c.tied = true;
  });
  return list;
}

struct BuiltModel {
  Program program{std::make_shared<Graph>(), {}};
  State state;
  Value logits;
  Value gradient;
};

constexpr int64_t kModelBatch = 2;

BuiltModel build_model(const Model& model, bool train) {
  BuiltModel b;
  Graph& graph = *b.program.graph;
  const ModelConfig& config = model.config();
  const int64_t T = config.block_size;
  Parameters parameters(graph, model.store());
  const auto input = [&](const char* name, Type type, double high) {
    b.state[name] = HostTensor::random(type, 0, high, uint32_t(b.state.size()) + 1);
    return graph.parameter(name, type);
  };
  const double V = double(config.vocab_size);
  const bool reads_vectors = config.input_size > 0;
  const Value tokens = reads_vectors ? input("tokens", {DType::f32, {kModelBatch, T, config.input_size}}, 1)
                                     : input("tokens", {DType::u32, {kModelBatch, T}}, V);
  ForwardOptions options;
  if (config.architecture == Architecture::encoder_decoder) {
    options.source = input("source", {DType::u32, {kModelBatch, config.source_length()}}, V);
  }
  if (train) {
    options.seed = input("seed", {DType::u32, {}}, 1000);
    options.step = graph.parameter("step", {DType::u32, {}});
  }
  b.logits = model.logits(parameters, tokens, options);
  const Value targets = input("targets", {DType::u32, {kModelBatch, T}}, V);
  const Value loss = cross_entropy(b.logits, targets).mean;
  b.gradient = parameters.flat_gradient(loss);
  b.program.outputs = {{"logits", b.logits}, {"loss", loss}, {"gradient", b.gradient}};
  OptimizerConfig optimizer;
  if (train) optimize(parameters, b.gradient, loss, optimizer);
  for (auto& [name, tensor] : initial_optimizer_state(model.store(), optimizer, 0.01)) {
    b.state[name] = tensor;
  }
  for (auto& [name, tensor] : model.constants()) b.state[name] = tensor;
  b.state[kParameters] = model.store().initialise(3);
  return b;
}

}  // namespace

TEST_CASE("every variant counts, runs, and differentiates in a random direction") {
  for (const ModelConfig& config : variants()) {
    INFO(to_json(config).dump());
    // Wide enough an initialisation that no gradient is lost in rounding.
    ModelConfig wide = config;
    wide.initialisation = InitialisationScheme::recipe;
    const Model model(wide);
    REQUIRE(analytic_parameter_count(wide) == model.parameter_count());
    BuiltModel b = build_model(model, false);
    const auto outputs = interpret(b.program, b.state);
    REQUIRE(outputs.at("logits").type.shape == Shape{kModelBatch, wide.block_size, wide.vocab_size});
    const HostTensor direction = HostTensor::random(model.store().flat_type(), -1, 1, 77);
    double slope = 0;
    for (size_t i = 0; i < direction.values.size(); ++i) {
      slope += direction.values[i] * outputs.at("gradient").values[i];
    }
    const HostTensor start = b.state.at(kParameters);
    const auto loss_at = [&](double t) {
      HostTensor& p = b.state.at(kParameters);
      for (size_t i = 0; i < p.values.size(); ++i) {
        p.values[i] = start.values[i] + t * direction.values[i];
      }
      State state = b.state;
      return interpret(b.program, state).at("loss").values[0];
    };
    const double expected = (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5;
    REQUIRE(slope == Approx(expected).epsilon(1e-6).margin(1e-8));
  }
}

TEST_CASE("a decoder sees the past alone, an encoder everything, a window its width") {
  const auto changed_rows = [](ModelConfig config, int64_t position) {
    config.initialisation = InitialisationScheme::recipe;
    BuiltModel b = build_model(Model(config), false);
    State other = b.state;
    double& token = other["tokens"].values[size_t(position)];
    token = token == 0 ? 1 : 0;
    const HostTensor before = interpret(b.program, b.state).at("logits");
    const HostTensor after = interpret(b.program, other).at("logits");
    const int64_t V = config.vocab_size;
    std::vector<int64_t> rows;
    for (int64_t t = 0; t < config.block_size; ++t) {
      bool changed = false;
      for (int64_t v = 0; v < V; ++v) {
        changed = changed || before.values[size_t(t * V + v)] != after.values[size_t(t * V + v)];
      }
      if (changed) rows.push_back(t);
    }
    return rows;
  };
  ModelConfig config = tiny();
  REQUIRE(changed_rows(config, 2) == std::vector<int64_t>{2, 3, 4, 5});
  config.n_layer = 1;
  config.window = 2;
  REQUIRE(changed_rows(config, 2) == std::vector<int64_t>{2, 3});
  config = tiny();
  config.architecture = Architecture::encoder;
  REQUIRE(changed_rows(config, 2) == std::vector<int64_t>{0, 1, 2, 3, 4, 5});
}

TEST_CASE("the recipe's model has the recipe's size and scales") {
  const ModelConfig config = recipe_config(2, 16, 16, 18);
  const Model model(config);
  const int64_t d = 16, V = 16, T = 18, L = 2;
  REQUIRE(model.parameter_count() == 2 * V * d + T * d + L * (12 * d * d + 6 * d) + d);
  REQUIRE(config.n_head == 2);
  REQUIRE(recipe_config(2, 64, 16, 18).n_head == 8);
  const auto deviation = [&](const char* name) { return model.store().spec(name).initialisation.scale; };
  REQUIRE(deviation("embed.token") == 0.5);
  REQUIRE(deviation("blocks.0.attention.q.weight") == Approx(0.25));
  REQUIRE(deviation("blocks.1.attention.out.weight") == Approx(0.25 / 2));
  REQUIRE(deviation("blocks.1.mlp.down.weight") == Approx(0.125 / 2));
  REQUIRE(deviation("head.weight") == Approx(0.25));
  REQUIRE(model.store().contains("blocks.0.mlp.up.bias"));
  REQUIRE_FALSE(model.store().contains("blocks.0.norm1.bias"));
  REQUIRE_FALSE(model.store().contains("blocks.0.mlp.down.bias"));
}

TEST_CASE("published models are known by name, as they were published") {
  // Parameters as their authors count them, without building the model and with it.
  const std::pair<const char*, int64_t> published[] = {{"GPT-2-124M", 124439808},
                                                       {"SmolLM2-135M", 134515008},
                                                       {"Qwen2.5-0.5B", 494032768},
                                                       {"TinyLlama-1.1B", 1100048384}};
  std::vector<std::string> names;
  for (const auto& [name, parameters] : published) {
    CAPTURE(name);
    names.emplace_back(name);
    ModelConfig config;
    config.head_dim = 3;  // of another shape
    apply_shape(config, name);
    CHECK(config.head_width() == 64);
    CHECK(analytic_parameter_count(config) == parameters);
    CHECK(Model(config).parameter_count() == parameters);
    CHECK(model_config_from_json(to_json(config)) == config);
  }
  CHECK(shape_names() == names);
  ModelConfig config;
  apply_shape(config, "smollm2-135m");
  CHECK(config.n_kv_head == 3);
}

TEST_CASE("head_dim stands apart from n_embd / n_head, and is absent where it is not given") {
  ModelConfig config = tiny();
  CHECK_FALSE(to_json(config).contains("head_dim"));  // configurations read as they did
  CHECK(config.head_width() == 4);
  config = model_config_from_json({{"head_dim", 6}}, config);
  CHECK(config.head_width() == 6);
  CHECK(to_json(config)["head_dim"] == 6);
  const Model model(config);
  CHECK(model.store().spec("blocks.0.attention.q.weight").shape == Shape{12, 8});
  CHECK(model.store().spec("blocks.0.attention.out.weight").shape == Shape{8, 12});
  CHECK_THROWS_AS(model_config_from_json({{"head_dim", 0}}, config), UserError);
  CHECK_THROWS_AS(model_config_from_json({{"n_head", 3}}, tiny()), UserError);
  CHECK(model_config_from_json({{"n_head", 3}, {"head_dim", 4}}, tiny()).query_width() == 12);
}

TEST_CASE("descriptors, cost and names") {
  ModelConfig config;
  apply_shape(config, "d12");
  REQUIRE(config.n_layer == 12);
  REQUIRE(config.n_embd == 768);
  REQUIRE(config.n_head == 12);
  for (const char* wrong : {"12", "d", "d0", "dx", "d12x", ""}) {
    REQUIRE_THROWS_AS(apply_shape(config, wrong), UserError);
  }
  // GPT-2 small: 124 439 808 parameters with a tied head.
  config.block_size = 1024;
  config.vocab_size = 50257;
  config.tied = true;
  REQUIRE(analytic_parameter_count(config) == 124439808);
  // Per token 2 (12 L C^2 + C V) + 4 L T C.
  const double per_token = 2 * (12.0 * 12 * 768 * 768 + 768.0 * 50257) + 4.0 * 12 * 1024 * 768;
  REQUIRE(forward_flops(config, 2, 1024) == Approx(2 * 1024 * per_token));
  REQUIRE(estimated_training_flops(1000, 50) == 300000);

  REQUIRE(hugging_face_name("embed.token") == "model.embed_tokens.weight");
  REQUIRE(hugging_face_name("blocks.3.attention.out.weight") == "model.layers.3.self_attn.o_proj.weight");
  REQUIRE(hugging_face_name("blocks.0.attention.q.bias") == "model.layers.0.self_attn.q_proj.bias");
  REQUIRE(hugging_face_name("blocks.10.norm2.weight") == "model.layers.10.post_attention_layernorm.weight");
  REQUIRE(hugging_face_name("norm.weight") == "model.norm.weight");
  REQUIRE(hugging_face_name("embed.position").empty());
  REQUIRE(hugging_face_name("blocks.0.cross.q.weight").empty());
}

TEST_CASE("a configuration goes through JSON and refuses what it does not know") {
  ModelConfig config = recipe_config(3, 32, 14, 18);
  config.position = Position::rotary;
  config.norm_placement = NormPlacement::post;
  REQUIRE(model_config_from_json(to_json(config)) == config);
  const auto message = [](const char* text) -> std::string {
    try {
      model_config_from_json(json::parse(text));
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  };
  REQUIRE(message(R"({"n_layers": 3})") == "[config] unknown key n_layers; did you mean n_layer?");
  REQUIRE(message(R"({"n_layer": "3"})") == "[config] n_layer wants an integer, not \"3\"");
  REQUIRE(message(R"({"n_layer": 0})").find("n_layer is 0") != std::string::npos);
  REQUIRE(message(R"({"n_head": 3})").find("does not divide") != std::string::npos);
  REQUIRE(message(R"({"position": "absolute"})").find("learned, sinusoidal, rotary, relative, none") !=
          std::string::npos);
  REQUIRE(message(R"({"dropout": 1})").find("dropout") != std::string::npos);
  REQUIRE(message(R"([])").find("not an object") != std::string::npos);
}

TEST_CASE("dropout changes with the step, is off in evaluation, and ensembles repeat single runs") {
  ModelConfig config = tiny();
  config.dropout = 0.2;
  config.initialisation = InitialisationScheme::recipe;
  const Model model(config);
  BuiltModel train = build_model(model, true);
  BuiltModel evaluation = build_model(model, false);
  const double clean = interpret(evaluation.program, evaluation.state).at("loss").values[0];

  auto names = per_member_state();
  const Program ensemble = vectorize(train.program, 2, names);
  std::vector<State> single = {train.state, train.state};
  single[1]["seed"].values[0] = 5;
  single[1]["learning_rate"].values[0] = 0.02;
  single[1][kParameters] = model.store().initialise(4);
  State joint = single[0];
  for (auto& [name, tensor] : joint) {
    if (!names.contains(name) && !name.starts_with("adam.")) continue;
    tensor.type.shape.insert(tensor.type.shape.begin(), 2);
    const auto& more = single[1].at(name).values;
    tensor.values.insert(tensor.values.end(), more.begin(), more.end());
  }
  std::vector<double> losses;
  for (int t = 0; t < 3; ++t) {
    const auto both = interpret(ensemble, joint);
    for (size_t e = 0; e < 2; ++e) {
      const double loss = interpret(train.program, single[e]).at("loss").values[0];
      REQUIRE(both.at("loss").values[e] == loss);
      if (e == 0) losses.push_back(loss);
    }
  }
  REQUIRE(losses[0] != clean);
  REQUIRE(losses[1] != losses[0]);
}

TEST_CASE("a model learns a batch by heart") {
  ModelConfig config = tiny();
  config.initialisation = InitialisationScheme::recipe;
  BuiltModel b = build_model(Model(config), true);
  const double first = interpret(b.program, b.state).at("loss").values[0];
  double last = first;
  for (int t = 0; t < 60; ++t) last = interpret(b.program, b.state).at("loss").values[0];
  REQUIRE(first > 1.5);
  REQUIRE(last < 0.5 * first);
}
