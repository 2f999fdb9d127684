// A small GPT that others trained (bbycroft/llm-viz, MIT): it sorts, and what it computes on the way was published.
#include "engine/session.h"
#include "experiments/formats/safetensors.h"
#include "experiments/generate/decode.h"
#include "experiments/models/hub/import.h"
#include "experiments/models/hub/source.h"
#include "experiments/models/residual.h"
#include "graph/functions.h"
#include "tests/support/folder.h"
#include "tests/support/shared.h"
#include "tests/support/support_device.h"

#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <span>
#include <string>
#include <vector>

using namespace surtsey;
using namespace surtsey::experiments;
using nlohmann::json;

namespace {

namespace fs = std::filesystem;
using graph::Value;

constexpr int64_t kSorted = 6;  // tokens that are sorted; as many are written behind them

std::vector<double> floats_of_base64(const std::string& text) {
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const std::string letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t value = letters.find(c);
    if (value == letters.npos) break;  // padding
    bits = bits << 6 | uint32_t(value);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes.push_back(char(bits >> count & 0xFF));
  }
  std::vector<float> floats(bytes.size() / sizeof(float));
  std::memcpy(floats.data(), bytes.data(), floats.size() * sizeof(float));
  return {floats.begin(), floats.end()};
}

graph::HostTensor tensor_of(const json& one) {
  return {{graph::DType::f32, one.at("shape").get<graph::Shape>()}, floats_of_base64(one.at("data"))};
}

// nanoGPT's matrices are [out, in]; in files of GPT-2 they are [in, out].
graph::HostTensor transposed(const graph::HostTensor& matrix) {
  const int64_t rows = matrix.type.shape[0], columns = matrix.type.shape[1];
  graph::HostTensor result = graph::HostTensor::zeros({graph::DType::f32, {columns, rows}});
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) result.values[size_t(c * rows + r)] = matrix.values[size_t(r * columns + c)];
  return result;
}

// The model as a folder of Hugging Face's GPT-2.
fs::path write_gpt2(const tests::Folder& folder, const json& model) {
  const json& nano = model.at("config");
  Safetensors file;
  for (const auto& [name, one] : model.items()) {
    if (name == "config" || name.ends_with(".attn.bias")) continue;  // a mask
    graph::HostTensor tensor = tensor_of(one);
    const bool matrix = name.find(".c_") != name.npos && name.ends_with(".weight");
    file.tensors[name] = matrix ? transposed(tensor) : std::move(tensor);
  }
  const auto made = folder / "nano";
  fs::create_directories(made);
  const auto bytes = format_safetensors(file);
  std::ofstream(made / "model.safetensors", std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
  std::ofstream(made / "config.json") << json{
      {"model_type", "gpt2"},
      {"n_layer", nano.at("n_layer")},
      {"n_head", nano.at("n_head")},
      {"n_embd", nano.at("n_embd")},
      {"n_positions", nano.at("block_size")},
      {"vocab_size", nano.at("vocab_size")},
      {"activation_function", "gelu_new"},
      {"tie_word_embeddings", false}}.dump();
  return made;
}

// By the names of those who published them.
constexpr std::pair<const char*, const char*> kInputs[] = {{"blocks.0.attention.q", "ln1"},
                                                           {"blocks.0.attention.out", "y"},
                                                           {"blocks.0.mlp.up", "ln2"},
                                                           {"blocks.0.mlp.down", "gelu"},
                                                           {"head", "ln_f"}};
constexpr std::pair<const char*, const char*> kOutputs[] = {
    {"blocks.0.attention.q", "q"},       {"blocks.0.attention.k", "k"}, {"blocks.0.attention.v", "v"},
    {"blocks.0.attention.out", "yProj"}, {"blocks.0.mlp.up", "fc"},     {"blocks.0.mlp.down", "mlp"}};

// [B, H, T, D] as published, [B, T, H D] as we have it.
std::vector<double> heads_together(const graph::HostTensor& tensor) {
  const auto& s = tensor.type.shape;
  std::vector<double> values(tensor.values.size());
  size_t from = 0;
  for (int64_t b = 0; b < s[0]; ++b)
    for (int64_t h = 0; h < s[1]; ++h)
      for (int64_t t = 0; t < s[2]; ++t)
        for (int64_t d = 0; d < s[3]; ++d)
          values[size_t(((b * s[2] + t) * s[1] + h) * s[3] + d)] = tensor.values[from++];
  return values;
}

void write_model_state(engine::Session& session, const hub::Source& source, const Model& model) {
  hub::read_weights(source, model, [&](const std::string& name, std::span<const std::byte> bytes) {
    if (session.has_state(name)) session.write_bytes(name, bytes);
  });
  for (const auto& [name, tensor] : model.constants())
    if (session.has_state(name)) session.write(name, tensor);
}

}  // namespace

TEST_CASE("a published GPT computes on the way what its makers published", "[device][hub]") {
  const fs::path shared = tests::shared_folder("data") / "nano_gpt_sort";
  const tests::Folder folder;
  const auto source = hub::open_model(write_gpt2(folder, json::parse(tests::slurp(shared / "model.json"))));
  const json partials = json::parse(tests::slurp(shared / "partials.json"));
  const graph::HostTensor rows = tensor_of(partials.at("idx"));
  engine::Device device = tests::open_test_device();
  Model model(hub::model_config(*source));
  graph::Program program{std::make_shared<graph::Graph>(), {}};
  graph::Parameters parameters(*program.graph, model.store());
  const graph::Type type = {graph::DType::u32, rows.type.shape};
  const Value tokens = program.graph->parameter("tokens", type);
  std::map<std::string, Value> found;
  model.on_projection([&](const Projection& p) -> Value {
    for (const auto& [matrix, name] : kInputs)
      if (p.name == matrix) found[name] = p.x;
    const Value y = p.plain();
    for (const auto& [matrix, name] : kOutputs)
      if (p.name == matrix) found[name] = y;
    return y;
  });
  Residuals residuals(model);
  for (int64_t depth = 0; depth <= model.config().n_layer; ++depth) residuals.read(depth);
  ForwardOptions options;
  options.residual = residuals.hook();
  found["lm_head"] = model.logits(parameters, tokens, options);
  found["probs"] = graph::softmax(found["lm_head"]);
  const auto stream = residuals.outputs();
  found["x"] = stream[0].second;
  for (int64_t i = 0; i < 3; ++i) found[fmt::format("block{}", i)] = stream[size_t(i) + 1].second;
  found["attnResid"] = found["x"] + found["yProj"];
  for (const auto& [name, value] : found) program.outputs.emplace_back(name, value * 1.0);
  engine::Session session(device);
  const engine::SessionProgram run = session.add_program("nano", program);
  session.allocate();
  write_model_state(session, *source, model);
  session.write("tokens", graph::HostTensor(type, rows.values));
  run.run();
  CHECK(found.size() == 18);
  for (const auto& [name, value] : found) {
    CAPTURE(name);
    const graph::HostTensor published = tensor_of(partials.at(name));
    const bool heads = published.type.shape.size() == 4;
    const std::vector<double> expected = heads ? heads_together(published) : published.values;
    const std::vector<float> ours = run.read_floats(name);
    REQUIRE(ours.size() == expected.size());
    double apart = 0, largest = 0;
    for (size_t i = 0; i < ours.size(); ++i) {
      apart = std::max(apart, std::abs(double(ours[i]) - expected[i]));
      largest = std::max(largest, std::abs(expected[i]));
    }
    CHECK(apart < 1e-4 * largest);
  }
}

TEST_CASE("a published GPT sorts every row of six", "[device][hub]") {
  const fs::path shared = tests::shared_folder("data") / "nano_gpt_sort";
  const tests::Folder folder;
  const auto source = hub::open_model(write_gpt2(folder, json::parse(tests::slurp(shared / "model.json"))));
  engine::Device device = tests::open_test_device();
  const Model model(hub::model_config(*source));
  engine::Session session(device);
  Decoder decoder(session, model, 1, {.rows = 81, .columns = 2 * kSorted});
  session.allocate();
  write_model_state(session, *source, model);
  std::vector<DecodeRow> rows;
  for (int64_t all = 0; all < 729; ++all) {
    DecodeRow& row = rows.emplace_back(DecodeRow{std::vector<int32_t>(2 * kSorted, 0), int32_t(kSorted)});
    int64_t rest = all;
    for (int64_t i = 0; i < kSorted; ++i, rest /= 3) row.tokens[size_t(i)] = int32_t(rest % 3);
  }
  const auto written = decoder.decode({rows}, kSorted, 2 * kSorted, 0).front();
  int64_t sorted = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    std::vector<int32_t> wanted(rows[i].tokens.begin(), rows[i].tokens.begin() + kSorted);
    std::sort(wanted.begin(), wanted.end());
    const auto answer = written.begin() + std::ptrdiff_t(i * 2 * kSorted + kSorted);
    sorted += std::equal(wanted.begin(), wanted.end(), answer) ? 1 : 0;
  }
  CHECK(sorted == 729);
}
