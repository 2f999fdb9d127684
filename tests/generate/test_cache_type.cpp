// Keys and values in fewer bits: what is kept of them, what that changes in logits, and what it saves.
#include "tests/support/device_suite.h"

#include "experiments/adapt/adaptation.h"
#include "experiments/formats/quant.h"
#include "experiments/generate/cache_type.h"
#include "experiments/generate/decode.h"
#include "experiments/generate/slots.h"
#include "experiments/models/hub/import.h"
#include "experiments/models/hub/stored_weights.h"
#include "graph/compile.h"
#include "tests/support/support_device.h"
#include "tests/support/wide_heads.h"

#include <catch2/matchers/catch_matchers_string.hpp>

#include <algorithm>
#include <cmath>

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::experiments;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr int64_t kBlock = 32;

// Rows of a block: drawn ones of several sizes, and such as rounding or dividing could get wrong.
HostTensor rows_to_keep() {
  std::vector<double> numbers;
  const auto add = [&](const std::function<double(int64_t)>& number) {
    for (int64_t i = 0; i < kBlock; ++i) numbers.push_back(double(float(number(i))));
  };
  for (uint32_t row = 0; row < 200; ++row) {
    const HostTensor drawn = HostTensor::random({DType::f32, {kBlock}}, -1, 1, row);
    const double size = std::pow(10, double(row % 9) - 5);
    add([&](int64_t i) { return drawn.values[size_t(i)] * size; });
  }
  add([](int64_t) { return 0.0; });
  add([](int64_t) { return -0.0; });
  add([](int64_t) { return 3.0; });
  add([](int64_t i) { return i == 7 ? -1e4 : 1e-3 * double(i); });                       // an outlier
  add([](int64_t i) { return i == 0 ? 127 : double(i) - 15.5; });                        // halves, of a scale of 1
  add([](int64_t i) { return i == 0 ? 127 : i % 2 ? 0x1.fffffep-2 : -0x1.fffffep-2; });  // just below one
  add([](int64_t i) { return i == 0 ? -127 : 0.5 * double(i) - 8 + 0x1p-20; });
  add([](int64_t i) { return 1e-5 * double(i - 16); });                // a scale that is subnormal in f16
  add([](int64_t i) { return 1e-9 * double(i - 16); });                // one that is 0 in f16
  add([](int64_t i) { return 5e5 * double(i - 16); });                 // one near the largest
  add([](int64_t i) { return i == 3 ? 1.0 : 0x1p-140 * double(i); });  // subnormal numbers beside one that is not
  add([](int64_t i) { return 0x1p-140 * double(i); });                 // and alone
  const auto rows = int64_t(numbers.size()) / kBlock;
  return HostTensor({DType::f32, {rows, kBlock}}, numbers);
}

Program keep_program(const Storage& storage, const Type& type) {
  Program program{std::make_shared<Graph>(), {}};
  const Value x = program.graph->parameter("x", type);
  const std::vector<Value> kept = storage.keep(x);
  const std::vector<StoredPart> parts = storage.parts(type.shape);
  REQUIRE(kept.size() == parts.size());
  for (size_t i = 0; i < kept.size(); ++i) {
    CHECK(kept[i].type() == parts[i].type);
    // In state, as outputs are read back in f32.
    const Value state = program.graph->parameter("state" + parts[i].suffix, parts[i].type);
    program.graph->assign(state, kept[i]);
  }
  program.outputs = {{"again", storage.unpack(kept, type.shape.back())}};
  return program;
}

State with_states(const Program& program, const HostTensor& x) {
  State state = {{"x", x}};
  for (const auto& [name, value] : program.graph->parameters())
    if (!state.contains(name)) state.emplace(name, HostTensor::zeros(value.type()));
  return state;
}

}  // namespace

TEST_CASE("q8_0 in a graph has the whole numbers and the scales of the reference", "[device][cache_type][lane]") {
  SURTSEY_NEED_DEVICE();
  if (!device.target().f16_storage) SKIP("this device does not store 16 bits");
  const HostTensor x = rows_to_keep();
  const Storage storage = hub::storage_of(StoredType::q8_0);
  const std::vector<HostTensor> expected = storage.pack(x);
  const Program program = keep_program(storage, x.type);
  const auto found = tests::run_on_device(device, device.target(), program, with_states(program, x));
  const HostTensor &words = found.at("state state.words"), &scales = found.at("state state.scale");
  CHECK(scales.values == expected[1].values);
  constexpr size_t kWords = size_t(kBlock) / 4;
  for (size_t row = 0; row < scales.values.size(); ++row) {
    CAPTURE(row);
    // A processor that takes subnormal numbers for 0 keeps other numbers of a block that is 0 to its readers.
    if (scales.values[row] == 0) continue;
    for (size_t i = row * kWords; i < (row + 1) * kWords; ++i) CHECK(words.values[i] == expected[0].values[i]);
  }
  // What is read again: half a step off at most, and half a bit of f16 of the scale for each.
  const HostTensor& again = found.at("again");
  for (size_t i = 0; i < x.values.size(); ++i) {
    const size_t row = i / size_t(kBlock);
    const auto begin = x.values.begin() + std::ptrdiff_t(row * size_t(kBlock));
    const double largest = std::abs(
        *std::max_element(begin, begin + kBlock, [](double a, double b) { return std::abs(a) < std::abs(b); }));
    // The least number of f16 is 2^-24, and a scale is half of that off where it is of that size.
    CHECK(std::abs(again.values[i] - x.values[i]) <= largest * (0.5 / 127 + 0x1p-11) * (1 + 1e-6) + 127 * 0x1p-25);
  }
}

TEST_CASE("a value is kept in a graph as it is packed on the host", "[cache_type]") {
  for (const StoredType type : {StoredType::f32, StoredType::f16, StoredType::q8_0}) {
    CAPTURE(name(type));
    const HostTensor x = HostTensor::random({DType::f32, {3, 5, 64}}, -2, 2, 4);
    const Storage storage = hub::storage_of(type);
    const Program program = keep_program(storage, x.type);
    State state = with_states(program, x);
    interpret(program, state);
    const std::vector<HostTensor> packed = storage.pack(x);
    const std::vector<StoredPart> parts = storage.parts(x.type.shape);
    // By doubles, whose ties lie elsewhere: of numbers that are drawn none is one.
    for (size_t i = 0; i < parts.size(); ++i) CHECK(state.at("state" + parts[i].suffix).values == packed[i].values);
  }
  CHECK_FALSE(bool(hub::storage_of(StoredType::q4_0).keep));
}

// ---- what logits become ----

namespace {

// One block of attention alone, whose logits are linear in what attention puts out.
ModelConfig attention_alone() {
  ModelConfig config = decoder_config(1, 64, 4, 19, 24);
  config.head_dim = 32;
  config.n_kv_head = 2;
  config.position = Position::none;
  config.norm = Norm::none;
  config.mlp = false;
  config.bias = false;
  config.initialisation = InitialisationScheme::recipe;
  return config;
}

Model kept_in(const ModelConfig& config, const char* type, const Target& target) {
  Model model(config);
  model.keep_cache_as(cache_storage(type, config, target));
  return model;
}

Target any_target() { return target_preset("lavapipe"); }

constexpr int64_t kPrompt = 12, kColumns = 20;

HostTensor text_of_letters() {
  HostTensor tokens = HostTensor::zeros({DType::u32, {1, kColumns}});
  for (size_t i = 0; i < tokens.values.size(); ++i) tokens.values[i] = double(i * 7 % 19);
  return tokens;
}

// The logits after each of the columns from the prompt's last on, [columns][V]: the prompt in chunks, tokens as given.
std::vector<HostTensor> logits_by(const std::function<HostTensor(const char* program, State& state)>& run,
                                  const State& start) {
  State state = start;
  run("prefill", state);
  std::vector<HostTensor> logits;
  for (int64_t t = kPrompt; t < kColumns; ++t) {
    state["decode.position"] = HostTensor::scalar(DType::u32, double(t));
    logits.push_back(run("decode", state));
  }
  return logits;
}

State state_of(const Model& model, const Program& prefill, const Program& decode) {
  State state = model.constants();
  for (const Program* program : {&prefill, &decode})
    for (const auto& [name, value] : program->graph->parameters())
      if (!state.contains(name)) state.emplace(name, HostTensor::zeros(value.type()));
  state[kParameters] = model.store().initialise(3);
  state["decode.tokens"] = text_of_letters();
  state["decode.length"] = HostTensor({DType::u32, {1}}, {double(kColumns)});
  return state;
}

std::vector<HostTensor> interpreted(const Model& model) {
  const DecodeConfig config{.rows = 1, .columns = kColumns, .prefill = kPrompt - 1};
  const Program prefill = prefill_program(model, config), decode = decode_program(model, config);
  return logits_by(
      [&](const char* name, State& state) {
        auto outputs = interpret(std::string_view(name) == "prefill" ? prefill : decode, state);
        return outputs.contains("logits") ? outputs.at("logits") : HostTensor();
      },
      state_of(model, prefill, decode));
}

std::vector<HostTensor> on_device(engine::Device& device, const Model& model) {
  const DecodeConfig config{.rows = 1, .columns = kColumns, .prefill = kPrompt - 1};
  const Program prefill = prefill_program(model, config), decode = decode_program(model, config);
  engine::Session session(device, {.quiet = true});
  session.add_program("prefill", prefill);
  session.add_program("decode", decode);
  session.allocate();
  const State start = state_of(model, prefill, decode);
  for (const auto& [name, tensor] : start)
    if (session.has_state(name)) session.write(name, tensor);
  return logits_by(
      [&](const char* name, State& state) {
        session.write("decode.position", state.at("decode.position"));
        session.program(name).run();
        return std::string_view(name) == "decode" ? session.program(name).read("logits") : HostTensor();
      },
      start);
}

double furthest(const std::vector<HostTensor>& a, const std::vector<HostTensor>& b) {
  double most = 0;
  for (size_t t = 0; t < a.size(); ++t)
    for (size_t i = 0; i < a[t].values.size(); ++i) most = std::max(most, std::abs(a[t].values[i] - b[t].values[i]));
  return most;
}

double largest_of(const HostTensor& tensor) {
  double most = 0;
  for (const double value : tensor.values) most = std::max(most, std::abs(value));
  return most;
}

// How far logits may go where every number that is kept is at most `share` of the largest of its group off.
//   scores   q dk / sqrt(D):           |q| |dk| / sqrt(D) <= |q| share K  (|dk| <= sqrt(D) share K)      =: e
//   weights  of a softmax whose scores are e off: by factors between exp(-2e) and exp(2e)
//   out      |dv| + (exp(2e) - 1) V    = V (share + exp(2e) - 1), for a value of V at most
//   logits   a row of head out, by the sum of its magnitudes
double bound(const Model& model, double share) {
  const State tensors = model.store().unpack(model.store().initialise(3));
  const auto product = [](const HostTensor& a, const HostTensor& b) {  // a [M, K] b [K, N]
    Graph graph;
    const Value x = graph.parameter("a", a.type), y = graph.parameter("b", b.type);
    return evaluate(graph, std::vector{matmul(x, y)}, {{"a", a}, {"b", b}})[0];
  };
  const auto turned = [](const HostTensor& a) {
    Graph graph;
    return evaluate(graph, std::vector{transpose(graph.parameter("a", a.type))}, {{"a", a}})[0];
  };
  const auto of = [&](const char* part) {
    return turned(tensors.at(fmt::format("blocks.0.attention.{}.weight", part)));
  };
  const HostTensor& embedding = tensors.at("embed.token");
  const HostTensor q = product(embedding, of("q"));
  double length = 0;  // of a head of a query
  for (size_t first = 0; first < q.values.size(); first += 32) {
    double squares = 0;
    for (size_t i = first; i < first + 32; ++i) squares += q.values[i] * q.values[i];
    length = std::max(length, std::sqrt(squares));
  }
  const double e = length * share * largest_of(product(embedding, of("k")));
  const double out = largest_of(product(embedding, of("v"))) * (share + std::exp(2 * e) - 1);
  const HostTensor head = product(tensors.at("head.weight"), tensors.at("blocks.0.attention.out.weight"));
  const auto width = size_t(head.type.shape[1]);
  double most = 0;
  for (size_t row = 0; row < head.values.size(); row += width) {
    double sum = 0;
    for (size_t i = row; i < row + width; ++i) sum += std::abs(head.values[i]);
    most = std::max(most, sum);
  }
  return out * most;
}

}  // namespace

TEST_CASE("logits over a cache of few bits are as near as its rounding says", "[device][cache_type]") {
  SURTSEY_NEED_DEVICE();
  if (!device.target().f16_storage) SKIP("this device does not store 16 bits");
  const ModelConfig config = attention_alone();
  const Model plain(config);
  const std::vector<HostTensor> exact = interpreted(plain);
  CHECK(furthest(on_device(device, plain), exact) <= 1e-5 * largest_of(exact[0]));
  for (const auto& [type, share] : {std::pair("f16", 0x1p-11), std::pair("q8_0", 0.5 / 127 + 0x1p-11)}) {
    const Model model = kept_in(config, type, device.target());
    const std::vector<HostTensor> meant = interpreted(model), found = on_device(device, model);
    const double allowed = bound(model, share);
    CAPTURE(type, allowed, furthest(meant, exact), furthest(found, meant), largest_of(exact[0]));
    CHECK(furthest(meant, exact) > 0);
    CHECK(furthest(meant, exact) <= allowed);
    CHECK(furthest(found, exact) <= allowed * (1 + 1e-4));
    // Where the device's f32 and the interpreter's double round a number to two sides of a tie it is a whole step.
    CHECK(furthest(found, meant) <= allowed);
  }
}

// ---- virtual tokens ----

TEST_CASE("virtual tokens stand in a cache of few bits before a text, copied with it", "[device][cache_type]") {
  SURTSEY_NEED_DEVICE();
  if (!device.target().f16_storage) SKIP("this device does not store 16 bits");
  const tests::Folder folder;
  const auto source = tests::wide_heads(folder / "model");
  const std::vector<int32_t> text = {3, 9, 27, 20, 60, 58, 52, 34};
  for (const AdaptMethod method : {AdaptMethod::prompt, AdaptMethod::prefix}) {
    CAPTURE(name(method));
    Model model(hub::model_config(*source, {23, 0}));
    const Adaptation adaptation({.method = method, .num_virtual_tokens = 3}, *source, model);
    adaptation.install(model, device.target());
    const tests::Folder saved;
    adaptation.save(saved.path(), model.store().unpack(adaptation.start(model, {.seed = 5})));
    std::vector<float> expected;
    for (const char* type : {"f32", "f16", "q8_0"}) {
      CAPTURE(type);
      Slots slots(device, *source, {.slots = 2, .context = 20, .cache_type = type, .adapter = saved.path().string()});
      std::vector<float> read;
      slots.read(0, text, 7,
                 [&](int64_t, std::span<const float> logits) { read.assign(logits.begin(), logits.end()); });
      // Token by token in the other slot, copied into the first on the way: the same bits.
      slots.read(1, std::span(text).first(1), 1, {});
      std::span<const float> stepped;
      for (size_t i = 1; i < text.size(); ++i) {
        if (i == 4) slots.reorder(std::vector<int32_t>{1, 1});
        stepped = slots.step(std::vector<SlotToken>{{i < 4 ? 1 : 0, text[i]}});
      }
      CHECK(std::vector<float>(stepped.begin(), stepped.end()) == read);
      if (expected.empty()) expected = read;
      double most = 0, largest = 0;
      for (size_t i = 0; i < read.size(); ++i) {
        most = std::max(most, double(std::abs(read[i] - expected[i])));
        largest = std::max(largest, double(std::abs(expected[i])));
      }
      // Two layers and their norms pass on what one rounds; what is not seen at all is off by as much as there is.
      CHECK(most <= largest * (std::string_view(type) == "f16" ? 20 * 0x1p-11 : 20 * (0.5 / 127 + 0x1p-11)));
    }
  }
}

// ---- what it saves, and what is refused ----

TEST_CASE("a cache of few bits takes that part of the memory, and no wide copy is made", "[device][cache_type]") {
  SURTSEY_NEED_DEVICE();
  if (!device.target().f16_storage) SKIP("this device does not store 16 bits");
  const tests::Folder folder;
  const auto source = tests::wide_heads(folder.path());
  const auto plan = [&](const char* type) {
    return Slots::plan(device, *source, {.slots = 2, .context = 1000, .cache_type = type});
  };
  const SlotPlan f32 = plan("f32"), f16 = plan("f16"), q8_0 = plan("q8_0");
  CHECK(f16.cache * 2 == f32.cache);
  CHECK(q8_0.cache * 128 == f32.cache * 34);
  // What waits to be copied between slots is kept so too.
  CHECK(f16.rest < f32.rest);
  CHECK(q8_0.rest < f16.rest);
  CHECK(f16.weights == f32.weights);
  // Of the two layers' keys and values of two slots: one of each, read as f32.
  const uint64_t copy = f32.cache / 4;
  CHECK(f16.transient < f32.transient + copy / 8);
  CHECK(q8_0.transient < f32.transient + copy / 8);
}

TEST_CASE("decoding and reading a prompt plan no wide copy of a cache", "[cache_type]") {
  ModelConfig config = decoder_config(2, 64, 2, 19, 512);
  config.position = Position::rotary;
  const Target target = any_target();
  const DecodeConfig decoding{.rows = 2, .columns = 513, .prefill = 32};
  const auto transient = [&](const char* type, const auto& program) {
    return compile(program(kept_in(config, type, target), decoding), target, {}).transient_bytes;
  };
  const uint64_t copy = 2 * 512 * 64 * 4;  // of a layer's keys
  for (const char* type : {"f16", "q8_0"}) {
    CAPTURE(type);
    CHECK(transient(type, decode_program) < transient("f32", decode_program) + copy / 4);
    CHECK(transient(type, prefill_program) < transient("f32", prefill_program) + copy / 4);
  }
}

TEST_CASE("cache types that cannot be are refused by what would do", "[cache_type]") {
  ModelConfig config = decoder_config(1, 96, 2, 19, 16);
  Target target = any_target();
  CHECK_THROWS_WITH(cache_storage("q4_0", config, target), ContainsSubstring("f32, f16 or q8_0, not 'q4_0'"));
  CHECK_THROWS_WITH(cache_storage("fp8", config, target), ContainsSubstring("f32, f16 or q8_0, not 'fp8'"));
  CHECK_THROWS_WITH(cache_storage("q8_0", config, target),
                    ContainsSubstring("groups of 32 numbers") && ContainsSubstring("48 wide: f16 or f32"));
  CHECK(cache_storage("f16", config, target).name == "f16");
  config.head_dim = 64;
  CHECK(cache_storage("q8_0", config, target).name == "q8_0");
  target.f16_storage = false;
  for (const char* type : {"f16", "q8_0"})
    CHECK_THROWS_WITH(cache_storage(type, config, target), ContainsSubstring("16 bits; f32 is what"));
  CHECK(cache_storage("f32", config, target).name == "f32");
}

TEST_CASE("slots refuse a cache that their model or device cannot have", "[device][cache_type]") {
  const tests::Folder folder;
  const auto source = tests::wide_heads(folder.path(), 2048, 24);
  engine::Device device = tests::open_test_device();
  if (device.target().f16_storage)
    CHECK_THROWS_WITH(Slots(device, *source, {.context = 16, .cache_type = "q8_0"}), ContainsSubstring("24 wide"));
  CHECK_THROWS_WITH(Slots(device, *source, {.context = 16, .cache_type = "int8"}), ContainsSubstring("not 'int8'"));
  engine::Device without = tests::open_test_device({.without = {"f16_storage"}});
  CHECK_THROWS_WITH(Slots(without, *source, {.context = 16, .cache_type = "f16"}), ContainsSubstring("16 bits"));
}
