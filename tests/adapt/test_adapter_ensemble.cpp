// Adapters of many over one base: an ensemble of them trains as each alone does, its products with the base have the
// rows of all; a set of them answers each text with its own.
#include "tests/support/device_suite.h"
#include "tests/support/folder.h"

#include "experiments/adapt/adapter_graph.h"
#include "experiments/adapt/adapter_set.h"
#include "experiments/evaluate/model_outputs.h"
#include "experiments/generate/slots.h"
#include "experiments/models/hub/import.h"
#include "experiments/models/members.h"
#include "experiments/train/train.h"
#include "graph/functions.h"
#include "graph/optimizer.h"
#include "graph/vectorize.h"

#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <cmath>

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::experiments;
using Catch::Matchers::ContainsSubstring;

namespace {

std::filesystem::path golden_folder(const std::string& family) {
  return std::filesystem::path(SURTSEY_SOURCE_ROOT) / "tests/golden/adapt" / family;
}

constexpr int64_t kBatch = 2, kLength = 7;
constexpr uint32_t kSteps = 6;

OptimizerConfig plain_optimizer() {
  OptimizerConfig optimizer;
  optimizer.weight_decay = 0;
  optimizer.clip_norm = 1;
  optimizer.metrics_rows = 8;
  return optimizer;
}

Program training_step(const Model& model) {
  Program program{std::make_shared<Graph>(), {}};
  Parameters parameters(*program.graph, model.store());
  const Type rows{DType::u32, {kBatch, kLength}};
  ForwardOptions options;
  if (model.draws()) {
    options.seed = program.graph->parameter("seed", {DType::u32, {}});
    options.step = program.graph->parameter("step", {DType::u32, {}});
  }
  const Value logits = model.logits(parameters, program.graph->parameter("tokens", rows), options);
  const Value loss = cross_entropy(logits, program.graph->parameter("targets", rows)).mean;
  optimize(parameters, parameters.flat_gradient(loss), loss, plain_optimizer());
  program.outputs = {{"loss", loss}};
  return program;
}

std::set<std::string> own_state() {
  std::set<std::string> own = member_state_names();
  own.insert({"tokens", "targets"});
  return own;
}

// The losses of each member and step.
std::vector<std::vector<double>> losses_of(engine::Device& device, const Program& program, const State& state,
                                           size_t members) {
  engine::Session session(device, {.quiet = true});
  const engine::SessionProgram train = session.add_program("train", program);
  session.allocate();
  for (const auto& [name, tensor] : state)
    if (session.has_state(name)) session.write(name, tensor);
  train.run(kSteps);
  const HostTensor metrics = session.read("metrics");
  std::vector<std::vector<double>> losses(members);
  for (size_t e = 0; e < members; ++e)
    for (uint32_t i = 0; i < kSteps; ++i) losses[e].push_back(metrics.values[(e * 8 + i) * 3]);
  return losses;
}

// Products whose second operand is what all members share, and those of them that meet the rows of all as one matrix.
struct Products {
  int shared = 0, merged = 0;
};
Products products_with_base(const Graph& graph) {
  std::vector<bool> base(graph.size(), false), other(graph.size(), false);
  Products count;
  for (uint32_t i = 0; i < graph.size(); ++i) {
    const Node& node = graph.node(i);
    if (node.op == Op::parameter) {
      const bool frozen = std::get<LeafAttr>(node.attr).name.starts_with(kFrozen);
      base[i] = frozen;
      other[i] = !frozen;
    }
    for (const Value& input : node.inputs) {
      base[i] = base[i] || base[input.node];
      other[i] = other[i] || other[input.node];
    }
    if (node.op != Op::matmul) continue;
    const Value matrix = node.inputs[1];
    if (!base[matrix.node] || other[matrix.node] || !other[node.inputs[0].node]) continue;
    ++count.shared;
    if (matrix.rank() == 2 && node.inputs[0].rank() == 2) ++count.merged;
  }
  return count;
}

}  // namespace

TEST_CASE("an ensemble of adapters has the losses of single runs and one product a matrix of the base",
          "[device][adapt]") {
  SURTSEY_NEED_DEVICE();
  constexpr size_t kMembers = 4;
  const auto source = hub::open_model(golden_folder("llama"));
  for (const std::string method : {"lora", "dora"}) {
    for (const std::string weights : {"f32", "int8"}) {
      CAPTURE(method, weights);
      Model model(hub::model_config(*source, {kLength, 0}));
      Adaptation adaptation({.weights = weights,
                             .target_modules = {"all-linear"},
                             .r = 4,
                             .lora_dropout = 0.1,
                             .use_dora = method == "dora"},
                            *source, model);
      adaptation.vary_rank();
      adaptation.install(model, device.target());
      State shared = model.constants();
      std::map<std::string, Type> types;
      for (const auto& [name, type] : model.store().frozen_state()) types.emplace(name, type);
      adaptation.write_base(model, [&](const std::string& name, std::span<const std::byte> bytes) {
        shared[name] = HostTensor::from_bytes(types.at(name), {bytes.begin(), bytes.end()});
      });
      std::vector<State> members;
      for (uint32_t e = 0; e < kMembers; ++e) {
        State state = initial_optimizer_state(model.store(), plain_optimizer(), 0.01 * (1 + e));
        state["learning_rate"].round_to_storage();
        state[kParameters] = adaptation.start(model, {.seed = e});
        state["seed"] = HostTensor::scalar(DType::u32, 100 + e);
        state[kRankScale] = adaptation.rank_scale(1 + e);
        for (const char* name : {"tokens", "targets"})
          state[name] = HostTensor::random({DType::u32, {kBatch, kLength}}, 0, 23, e + uint32_t(name[1]));
        for (const auto& [name, tensor] : shared) state[name] = tensor;
        members.push_back(std::move(state));
      }
      const Program step = training_step(model);
      const Program many = vectorize(step, kMembers, own_state());
      // Seven matrices a block and the head, forward; backward all that stand behind something that trains.
      const Products products = products_with_base(*many.graph);
      CHECK(products.shared >= 7 * 2 + 1);
      CHECK(products.merged == products.shared);

      State all = members[0];
      for (auto& [name, tensor] : all) {
        const bool is_shared = name == "step" || name.starts_with(kFrozen) || name.starts_with("constants.");
        if (is_shared) continue;
        tensor.type.shape.insert(tensor.type.shape.begin(), kMembers);
        for (size_t e = 1; e < kMembers; ++e) {
          const std::vector<double>& more = members[e].at(name).values;
          tensor.values.insert(tensor.values.end(), more.begin(), more.end());
        }
      }
      const auto together = losses_of(device, many, all, kMembers);
      for (size_t e = 0; e < kMembers; ++e) {
        const auto alone = losses_of(device, step, members[e], 1);
        CAPTURE(e);
        for (uint32_t i = 0; i < kSteps; ++i) CHECK(std::abs(together[e][i] - alone[0][i]) <= 1e-5 * alone[0][i]);
        CHECK(alone[0][kSteps - 1] < alone[0][0]);
      }
    }
  }
}

namespace {

// An adapter with numbers of its own, saved.
std::string saved_adapter(const hub::Source& source, const std::filesystem::path& folder, uint32_t seed, int64_t rank,
                          const std::vector<std::string>& modules) {
  Model model(hub::model_config(source, {kLength, 0}));
  const Adaptation adaptation({.target_modules = modules, .r = rank, .lora_alpha = 12}, source, model);
  adaptation.install(model, {});
  State tensors = model.store().unpack(adaptation.start(model, {.seed = seed}));
  for (auto& [name, tensor] : tensors)
    if (name.ends_with("lora_B.weight")) tensor = HostTensor::random(tensor.type, -.3, .3, seed);
  adaptation.save(folder, tensors);
  return folder.string();
}

}  // namespace

TEST_CASE("texts side by side are read with adapters of their own, and without one to the bits of the base",
          "[device][adapt]") {
  SURTSEY_NEED_DEVICE();
  const auto source = hub::open_model(golden_folder("gpt2"));
  const tests::Folder folder;
  const std::vector<std::string> adapters = {saved_adapter(*source, folder / "a", 1, 4, {"c_attn", "c_fc"}),
                                             saved_adapter(*source, folder / "b", 2, 2, {"attn.c_proj", "c_attn"})};
  const std::vector<int32_t> text = {3, 1, 4, 1, 5, 9};
  const auto logits_of = [&](Slots& slots, int32_t slot) {
    std::vector<float> result;
    slots.read(slot, text, int64_t(text.size()) - 1,
               [&](int64_t, std::span<const float> logits) { result.assign(logits.begin(), logits.end()); });
    const std::span<const float> more = slots.step(std::vector<SlotToken>{{slot, 2}});
    result.insert(result.end(), more.begin(), more.end());
    return result;
  };
  Slots many(device, *source, {.slots = 3, .context = 12, .adapters = adapters});
  Slots plain(device, *source, {.slots = 3, .context = 12});
  many.choose(1, 1);
  many.choose(2, 2);
  CHECK(logits_of(many, 0) == logits_of(plain, 0));
  for (const int32_t index : {1, 2}) {
    Slots one(device, *source, {.slots = 1, .context = 12, .adapter = adapters[size_t(index - 1)]});
    const std::vector<float> expected = logits_of(one, 0), found = logits_of(many, index);
    double furthest = 0, moved = 0, largest = 0;
    const std::vector<float> base = logits_of(plain, index);
    for (size_t i = 0; i < expected.size(); ++i) {
      furthest = std::max(furthest, std::abs(double(expected[i]) - found[i]));
      moved = std::max(moved, std::abs(double(expected[i]) - base[i]));
      largest = std::max(largest, std::abs(double(expected[i])));
    }
    CHECK(furthest <= 1e-5 * largest);
    CHECK(moved > 1e-2 * largest);
  }
  // Another adapter in a slot that has a text already, and an order of slots.
  many.choose(0, 2);
  CHECK(logits_of(many, 0) == logits_of(many, 2));
  many.reorder(std::vector<int32_t>{1, 1, 2});
  CHECK(logits_of(many, 0) == logits_of(many, 1));
  CHECK_THROWS_WITH(many.choose(0, 3), ContainsSubstring("adapters 0 to 2"));
}

TEST_CASE("what virtual tokens do to a text read at once they do to one that is decoded", "[device][adapt]") {
  SURTSEY_NEED_DEVICE();
  for (const std::string family : {"gpt2", "llama"}) {
    const auto source = hub::open_model(golden_folder(family));
    for (const AdaptMethod method : {AdaptMethod::prefix, AdaptMethod::prompt}) {
      CAPTURE(family, name(method));
      const tests::Folder folder;
      Model model(hub::model_config(*source, {kLength + 3, 0}));
      const Adaptation adaptation({.method = method, .num_virtual_tokens = 3}, *source, model);
      adaptation.install(model, device.target());
      adaptation.save(folder.path(), model.store().unpack(adaptation.start(model, {.seed = 5})));
      const std::vector<int32_t> text = {3, 1, 4, 1, 5, 9, 2};
      ModelInputs inputs;
      inputs.input_ids = {text};
      const HostTensor whole = model_outputs(device, *source, inputs, folder.path()).at("logits");
      Slots slots(device, *source, {.slots = 2, .context = kLength, .adapter = folder.path().string(), .scores = true});
      CHECK(slots.context() == kLength);
      double furthest = 0, largest = 0;
      const auto compare = [&](int64_t position, std::span<const float> logits) {
        for (size_t i = 0; i < logits.size(); ++i) {
          const double expected = whole.values[size_t(position) * logits.size() + i];
          furthest = std::max(furthest, std::abs(expected - double(logits[i])));
          largest = std::max(largest, std::abs(expected));
        }
      };
      slots.read(1, std::span(text).first(5), 0, compare);
      slots.reorder(std::vector<int32_t>{1, 0});
      for (size_t i = 5; i < text.size(); ++i) compare(int64_t(i), slots.step(std::vector<SlotToken>{{0, text[i]}}));
      CHECK(furthest <= 2e-5 * largest);
    }
  }
}
