// Decoding with a key/value cache is the full forward pass, and draws follow their distribution.
#include "tests/support/device_suite.h"

#include "experiments/generate/decode.h"
#include "experiments/train/train_program.h"
#include "graph/random.h"

#include <algorithm>

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::experiments;
using namespace surtsey::tests;

namespace {

struct DecodeCase {
  const char* name;
  ModelConfig config;
};

ModelConfig decode_config() {
  ModelConfig config;
  config.n_layer = 2;
  config.n_head = 4;
  config.n_embd = 16;
  config.n_hidden = 24;
  config.block_size = 11;
  config.vocab_size = 13;
  config.initialisation = InitialisationScheme::recipe;
  return config;
}

std::vector<DecodeCase> decode_cases() {
  std::vector<DecodeCase> list;
  const auto add = [&](const char* name, auto&& change) {
    list.push_back({name, decode_config()});
    change(list.back().config);
  };
  add("learned positions", [](ModelConfig&) {});
  add("sinusoidal positions, a norm after the embeddings", [](ModelConfig& c) {
    c.position = Position::sinusoidal;
    c.embedding_norm = true;
  });
  add("no positions, a tied head", [](ModelConfig& c) {
    c.position = Position::none;
    c.tied = true;
  });
  add("rotary, RMSNorm, SwiGLU, grouped heads", [](ModelConfig& c) {
    c.position = Position::rotary;
    c.norm = Norm::rms_norm;
    c.activation = Activation::swiglu;
    c.n_kv_head = 2;
    c.bias = false;
  });
  add("a sliding window, post-norm", [](ModelConfig& c) {
    c.window = 3;
    c.norm_placement = NormPlacement::post;
  });
  add("one key/value head", [](ModelConfig& c) { c.n_kv_head = 1; });
  add("linear attention, no norm", [](ModelConfig& c) {
    c.attention = AttentionKind::linear;
    c.norm = Norm::none;
  });
  add("encoder and decoder", [](ModelConfig& c) {
    c.architecture = Architecture::encoder_decoder;
    c.source_size = 7;
  });
  add("encoder and decoder, rotary, grouped heads", [](ModelConfig& c) {
    c.architecture = Architecture::encoder_decoder;
    c.position = Position::rotary;
    c.n_kv_head = 2;
    c.source_size = 5;
  });
  return list;
}

bool has_source(const Model& model) { return model.config().architecture == Architecture::encoder_decoder; }

int32_t draw(const char* stream, size_t step, size_t index, int64_t count) {
  return int32_t(random_range(stream_seed(5, stream), uint32_t(step), uint32_t(index), uint32_t(count)));
}

// Prompts of 1 to `longest` tokens, the first of them of one.
std::vector<DecodeRow> prompts(const Model& model, size_t count, int64_t longest) {
  std::vector<DecodeRow> rows(count);
  for (size_t n = 0; n < count; ++n) {
    rows[n].length = n == 0 ? 1 : 1 + draw("length", 0, n, longest);
    for (int32_t t = 0; t < rows[n].length; ++t) {
      rows[n].tokens.push_back(draw("prompt", n, size_t(t), model.config().vocab_size));
    }
    if (!has_source(model)) continue;
    const int64_t most = model.config().source_length();
    const int64_t length = n == 0 ? most : 1 + draw("source length", 0, n, most);
    for (int64_t s = 0; s < length; ++s) {
      rows[n].source.push_back(draw("source", n, size_t(s), model.config().vocab_size));
    }
  }
  return rows;
}

// The state that Decoder writes, for the interpreter.
State decode_state(const Model& model, const DecodeConfig& config, const std::vector<DecodeRow>& rows) {
  const int64_t N = config.rows, L = config.columns, S = model.config().source_length();
  State state = model.constants();
  state["decode.tokens"] = HostTensor::zeros({DType::u32, {N, L}});
  state["decode.length"] = HostTensor::zeros({DType::u32, {N}});
  state["decode.stream"] = HostTensor::zeros({DType::u32, {N}});
  state["decode.broken"] = HostTensor::zeros({DType::u32, {N}});
  state["decode.source"] = HostTensor::zeros({DType::u32, {N, S}});
  state["decode.source_mask"] = HostTensor::zeros({DType::boolean, {N, S}});
  for (size_t n = 0; n < rows.size(); ++n) {
    std::copy(rows[n].tokens.begin(), rows[n].tokens.end(),
              state["decode.tokens"].values.begin() + std::ptrdiff_t(n) * L);
    std::copy(rows[n].source.begin(), rows[n].source.end(),
              state["decode.source"].values.begin() + std::ptrdiff_t(n) * S);
    std::fill_n(state["decode.source_mask"].values.begin() + std::ptrdiff_t(n) * S, rows[n].source.size(), 1.0);
    state["decode.length"].values[n] = rows[n].length;
    state["decode.stream"].values[n] = double(n);
  }
  for (const char* name : {"decode.filled", "decode.seed", "decode.origin"}) {
    state[name] = HostTensor::scalar(DType::u32, 0);
  }
  state["decode.position"] = HostTensor::scalar(DType::u32, 1);
  state["decode.temperature"] = HostTensor::scalar(DType::f32, 0);
  return state;
}

// A cache is full of numbers that must not be read.
void add_cache(State& state, const Program& program) {
  for (const auto& [name, value] : program.graph->parameters()) {
    if (!name.starts_with("cache.") || state.contains(name)) continue;
    state[name] = HostTensor::random(value.type(), -9, 9, 3);
  }
}

// Logits [N, T, V] of the whole rows.
Program forward_program(const Model& model, int64_t rows, int64_t length) {
  Program program{std::make_shared<Graph>(), {}};
  Parameters parameters(*program.graph, model.store());
  ForwardOptions options;
  if (has_source(model)) {
    const Shape shape = {rows, model.config().source_length()};
    options.source = program.graph->parameter("decode.source", {DType::u32, shape});
    options.source_mask = program.graph->parameter("decode.source_mask", {DType::boolean, shape});
  }
  const Value tokens = program.graph->parameter("decode.tokens", {DType::u32, {rows, length}});
  const Value read = slice(tokens, 1, 0, std::min(length, model.config().block_size));
  program.outputs = {{"logits", model.logits(parameters, read, options)}};
  return program;
}

struct Agreement {
  int64_t tokens = 0;  // written
  int64_t differ = 0;  // not the full forward's most likely, though by a gap of at least 2e-4
  double largest = 0;  // logit
  double worst = 0;    // of the logits of the last column, absolute
};

// Decodes on the device and holds every written token against a full forward of the text.
Agreement agreement(engine::Device& device, const Model& model, size_t members, DecodeConfig config,
                    const std::vector<DecodeRow>& rows) {
  engine::Session session(device, {.quiet = true});
  Decoder decoder(session, model, members, config);
  const engine::SessionProgram forward = session.add_program(
      "forward", for_members(forward_program(model, config.rows, config.columns), members, decode_member_state()));
  session.allocate();
  std::vector<double> parameters;
  for (size_t e = 0; e < members; ++e) {
    const HostTensor one = model.store().initialise(uint32_t(e) + 3);
    parameters.insert(parameters.end(), one.values.begin(), one.values.end());
  }
  session.write(kParameters, HostTensor(session.state_type(kParameters), parameters));
  for (const auto& [name, value] : model.constants()) {
    if (session.has_state(name)) session.write(name, value);
  }
  Agreement result;
  const auto N = size_t(config.rows), L = size_t(config.columns);
  const auto V = size_t(model.config().vocab_size);
  for (size_t first = 0; first < rows.size(); first += N) {
    std::vector<DecodeRow> part(rows.begin() + std::ptrdiff_t(first),
                                rows.begin() + std::ptrdiff_t(std::min(first + N, rows.size())));
    int32_t start = part[0].length;
    for (const DecodeRow& row : part) start = std::min(start, row.length);
    const auto written = decoder.decode(std::vector(members, part), start, int32_t(config.columns), 0);
    REQUIRE(decoder.finite());
    const std::vector<float> last = session.program("decode").read_floats("logits");
    forward.run();
    const std::vector<float> all = forward.read_floats("logits");
    const size_t T = std::min(L, size_t(model.config().block_size));
    for (size_t e = 0; e < members; ++e) {
      for (size_t n = 0; n < part.size(); ++n) {
        const size_t at = e * N + n;
        for (size_t t = 0; t < L; ++t) {
          const int32_t token = written[e][n * L + t];
          if (t < size_t(part[n].length)) {
            REQUIRE(token == part[n].tokens[t]);
            continue;
          }
          const float* logits = &all[(at * T + t - 1) * V];
          const float best = *std::max_element(logits, logits + V);
          ++result.tokens;
          result.differ += best - logits[token] >= 2e-4f ? 1 : 0;
        }
        for (size_t v = 0; v < V; ++v) {
          const double full = all[(at * T + L - 2) * V + v];
          result.largest = std::max(result.largest, full);
          result.worst = std::max(result.worst, std::abs(last[at * V + v] - full));
        }
      }
    }
  }
  return result;
}

}  // namespace

TEST_CASE("cached logits are the full forward's, whatever the prompt was cut into") {
  for (const DecodeCase& c : decode_cases()) {
    const Model model(c.config);
    const HostTensor parameters = model.store().initialise(3);
    for (const int64_t chunk : {0, 1, 4}) {
      CAPTURE(c.name, chunk);
      DecodeConfig config{.rows = 3, .columns = c.config.block_size + 1, .prefill = chunk};
      const Program prefill = prefill_program(model, config);
      const Program decode = decode_program(model, config);
      std::vector<DecodeRow> rows = prompts(model, 3, 6);
      const int64_t start = 6;  // the others' prompts go on with padding, which is given, too
      for (DecodeRow& row : rows) {
        row.tokens.resize(size_t(start), 2);
        row.length = int32_t(start);
      }
      State state = decode_state(model, config, rows);
      state[kParameters] = parameters;
      add_cache(state, prefill);
      if (has_source(model)) {
        const Program encode = encode_program(model, config);
        add_cache(state, encode);
        interpret(encode, state);
      }
      for (int64_t done = 0; done < start - 1; done += config.chunk()) interpret(prefill, state);
      state["decode.position"].values[0] = double(start);
      std::vector<HostTensor> logits;
      for (int64_t t = start; t < config.columns; ++t) {
        logits.push_back(interpret(decode, state).at("logits"));
      }
      const HostTensor full = interpret(forward_program(model, 3, config.columns), state).at("logits");
      const int64_t V = c.config.vocab_size, T = c.config.block_size;
      for (int64_t t = start; t < config.columns; ++t) {
        for (int64_t n = 0; n < 3; ++n) {
          size_t best = 0;
          for (int64_t v = 0; v < V; ++v) {
            const double expected = full.values[size_t((n * T + t - 1) * V + v)];
            const double actual = logits[size_t(t - start)].values[size_t(n * V + v)];
            REQUIRE(std::abs(actual - expected) < 1e-9 * (1 + std::abs(expected)));
            if (expected > full.values[size_t((n * T + t - 1) * V) + best]) best = size_t(v);
          }
          REQUIRE(state["decode.tokens"].values[size_t(n * config.columns + t)] == double(best));
        }
      }
    }
  }
}

TEST_CASE("greedy text on the device is the full forward's, alone and in ensembles", "[device]") {
  SURTSEY_NEED_DEVICE();
  size_t members = 1;
  for (const DecodeCase& c : decode_cases()) {
    CAPTURE(c.name, members);
    const Model model(c.config);
    const DecodeConfig config{.rows = 8, .columns = c.config.block_size + 1, .prefill = members == 1 ? 0 : 4};
    const Agreement found = agreement(device, model, members, config, prompts(model, 21, 8));
    CHECK(found.tokens > int64_t(members) * 21);
    CHECK(found.differ == 0);
    CHECK(found.worst < 1e-4);
    CHECK(found.largest > 0.1);
    members = 4 - members;  // 1 and 3 in turn
  }
}

// As many prompts as a claim wants; run by name or by [.thousand].
TEST_CASE("greedy text of a thousand prompts is the full forward's", "[.thousand][device]") {
  SURTSEY_NEED_DEVICE();
  ModelConfig config = recipe_config(2, 32, 20, 40);
  config.position = Position::rotary;
  const Model model(config);
  const Agreement found = agreement(device, model, 1, {.rows = 250, .columns = 41}, prompts(model, 1000, 20));
  WARN(fmt::format("{} tokens, {} differ, logits within {:.2g}", found.tokens, found.differ, found.worst));
  CHECK(found.tokens > 20000);
  CHECK(found.differ == 0);
  CHECK(found.worst < 1e-4);
}

// ---- draws ----

namespace {

// How often each token is drawn in 4000 rows of the same logits, shares .5, .25, .15, .1 in another
// order.
std::vector<int> counts(double temperature, const TokenFilter& filter, uint32_t seed) {
  constexpr int64_t kRows = 4000;
  const double shares[] = {0.15, 0.5, 0.1, 0.25};
  Program program{std::make_shared<Graph>(), {}};
  Graph& graph = *program.graph;
  const Value logits = graph.parameter("logits", {DType::f32, {kRows, 4}});
  const TokenDraw draw{scalar(graph, temperature), scalar(graph, seed, DType::u32), scalar(graph, 7, DType::u32),
                       iota(graph, {DType::u32, {kRows}}, 0)};
  program.outputs = {{"token", draw_tokens(logits, draw, filter)}};
  State state;
  state["logits"] = HostTensor::zeros({DType::f32, {kRows, 4}});
  for (size_t i = 0; i < state["logits"].values.size(); ++i) {
    state["logits"].values[i] = std::log(shares[i % 4]) + 3;
  }
  std::vector<int> result(4);
  const auto outputs = interpret(program, state);
  for (const double token : outputs.at("token").values) ++result[size_t(token)];
  return result;
}

}  // namespace

TEST_CASE("draws keep to temperature, top-k and top-p") {
  CHECK(counts(0, {}, 1) == std::vector<int>{0, 4000, 0, 0});
  // Five standard deviations of a binomial count.
  const auto follows = [](const std::vector<int>& found, const std::vector<double>& shares) {
    for (size_t i = 0; i < found.size(); ++i) {
      CAPTURE(i, found[i], shares[i]);
      CHECK(std::abs(found[i] - 4000 * shares[i]) <= 5 * std::sqrt(4000 * shares[i] * (1 - shares[i])));
    }
  };
  const std::vector<int> all = counts(1, {}, 1);
  follows(all, {0.15, 0.5, 0.1, 0.25});
  CHECK(counts(1, {}, 1) == all);
  CHECK(counts(1, {}, 2) != all);
  follows(counts(1, {.top_k = 4}, 3), {0.15, 0.5, 0.1, 0.25});
  follows(counts(1, {.top_k = 2}, 3), {0, 2.0 / 3, 0, 1.0 / 3});
  CHECK(counts(1, {.top_k = 1}, 3) == std::vector<int>{0, 4000, 0, 0});
  // .5 + .25 reaches .7 and misses .8.
  follows(counts(1, {.top_p = 0.7}, 3), {0, 2.0 / 3, 0, 1.0 / 3});
  follows(counts(1, {.top_p = 0.8}, 3), {1.0 / 6, 5.0 / 9, 0, 5.0 / 18});
  // Of two, .5 / .75 is enough for .6.
  CHECK(counts(1, {.top_k = 2, .top_p = 0.6}, 3) == std::vector<int>{0, 4000, 0, 0});
  // Temperature .5 squares the shares.
  follows(counts(0.5, {}, 4), {0.0225 / 0.345, 0.25 / 0.345, 0.01 / 0.345, 0.0625 / 0.345});
  CHECK_THROWS_AS(counts(1, {.top_k = -1}, 1), UserError);
  CHECK_THROWS_AS(counts(1, {.top_p = 0}, 1), UserError);
}

TEST_CASE("drawn text is the same alone and in a crowd, and never the same twice", "[device]") {
  SURTSEY_NEED_DEVICE();
  const Model model(decode_config());
  const auto texts = [&](int64_t rows, uint32_t seed, const TokenFilter& filter) {
    engine::Session session(device, {.quiet = true});
    Decoder decoder(session, model, 1, {.rows = rows, .columns = 12, .filter = filter});
    session.allocate();
    session.write(kParameters, model.store().initialise(3));
    decoder.set_sampling(1, seed);
    return decoder.decode({std::vector(6, DecodeRow{{1, 2}, 2})}, 2, 12, 0)[0];
  };
  const std::vector<int32_t> crowd = texts(6, 9, {});
  CHECK(texts(2, 9, {}) == crowd);
  CHECK(texts(6, 10, {}) != crowd);
  CHECK(texts(6, 9, {.top_k = 3, .top_p = 0.9}) != crowd);
  for (size_t n = 1; n < 6; ++n) {
    CHECK_FALSE(std::equal(crowd.begin(), crowd.begin() + 12, crowd.begin() + std::ptrdiff_t(12 * n)));
  }
}

TEST_CASE("a decoder refuses what it cannot do") {
  ModelConfig encoder = decode_config();
  encoder.architecture = Architecture::encoder;
  CHECK_THROWS_AS(decode_program(Model(encoder), {.columns = 5}), UserError);
  const Model model(decode_config());
  CHECK_THROWS_AS(decode_program(model, {.columns = 13}), UserError);
  CHECK_THROWS_AS(decode_program(model, {.columns = 1}), UserError);
  CHECK_THROWS_AS(decode_program(model, {.rows = 0, .columns = 5}), UserError);
  CHECK_THROWS_AS(prefill_program(model, {.columns = 5, .prefill = 5}), UserError);
}
