// Adapters of many over one base: an ensemble of them trains as each alone does, its products with the base have the
// rows of all; a set of them answers each text with its own.
#include "tests/support/adapted.h"
#include "tests/support/device_suite.h"
#include "tests/support/folder.h"

#include "engine/session.h"
#include "experiments/adapt/adapter_graph.h"
#include "experiments/adapt/adapter_set.h"
#include "experiments/generate/slots.h"
#include "experiments/models/hub/import.h"
#include "experiments/models/members.h"
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
using tests::frozen_state;
using tests::golden_folder;
using tests::logits_with;

namespace {

constexpr int64_t kBatch = 2, kLength = 7;
constexpr uint32_t kEnsembleSteps = 6;

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

// A program of training in a session, to run from several starts.
class Run {
 public:
  Run(engine::Device& device, const Program& program) : session_(device, {.quiet = true}) {
    train_ = session_.add_program("train", program);
    session_.allocate();
  }
  // The losses of each member and step.
  std::vector<std::vector<double>> losses(const State& from, size_t members) {
    for (const auto& [name, tensor] : from)
      if (session_.has_state(name)) session_.write(name, tensor);
    train_.run(kEnsembleSteps);
    const HostTensor metrics = session_.read("metrics");
    std::vector<std::vector<double>> losses(members);
    for (size_t e = 0; e < members; ++e)
      for (uint32_t i = 0; i < kEnsembleSteps; ++i) losses[e].push_back(metrics.values[(e * 8 + i) * 3]);
    return losses;
  }

 private:
  engine::Session session_;
  engine::SessionProgram train_;
};

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

namespace {

// Members that differ in seed, rate, rank and data: their states, and that of all together.
struct Members {
  std::vector<State> each;
  State all;
};
Members members_of(const Model& model, const hub::Source& source, const Adaptation& adaptation, size_t count) {
  State shared = model.constants();
  shared.merge(frozen_state(model, source, &adaptation));
  Members members;
  for (uint32_t e = 0; e < count; ++e) {
    State state = initial_optimizer_state(model.store(), plain_optimizer(), 0.01 * (1 + e));
    state["learning_rate"].round_to_storage();
    state[kParameters] = adaptation.start(model, {.seed = e});
    state["seed"] = HostTensor::scalar(DType::u32, 100 + e);
    state[kRankScale] = adaptation.rank_scale(1 + e);
    for (const char* name : {"tokens", "targets"})
      state[name] = HostTensor::random({DType::u32, {kBatch, kLength}}, 0, 23, e + uint32_t(name[1]));
    for (const auto& [name, tensor] : shared) state[name] = tensor;
    members.each.push_back(std::move(state));
  }
  members.all = members.each[0];
  for (auto& [name, tensor] : members.all) {
    if (name == "step" || name.starts_with(kFrozen) || name.starts_with("constants.")) continue;
    tensor.type.shape.insert(tensor.type.shape.begin(), int64_t(count));
    for (size_t e = 1; e < count; ++e) {
      const std::vector<double>& more = members.each[e].at(name).values;
      tensor.values.insert(tensor.values.end(), more.begin(), more.end());
    }
  }
  return members;
}

}  // namespace

TEST_CASE("an ensemble of adapters has the losses of single runs and one product a matrix of the base",
          "[device][adapt]") {
  SURTSEY_NEED_DEVICE();
  constexpr size_t kMembers = 3;
  const auto source = hub::open_model(golden_folder("llama"));
  for (const bool dora : {false, true}) {
    CAPTURE(dora);
    Model model(hub::model_config(*source, {kLength, 0}));
    Adaptation adaptation({.weights = dora ? "int8" : "f32",
                           .target_modules = {"all-linear"},
                           .r = 4,
                           .lora_dropout = 0.1,
                           .use_dora = dora},
                          *source, model);
    adaptation.vary_rank();
    adaptation.install(model, device.target());
    const Members members = members_of(model, *source, adaptation, kMembers);
    const Program step = training_step(model), many = vectorize(step, kMembers, own_state());
    // Seven matrices a block and the head, forward; backward all that stand behind something that trains.
    const Products products = products_with_base(*many.graph);
    CHECK(products.shared >= 7 * 2 + 1);
    CHECK(products.merged == products.shared);
    std::vector<std::vector<double>> together, alone;
    if (dora) {
      // By the interpreter, as a program more takes a driver's compiler seconds.
      const auto losses = [](const Program& program, State state) {
        std::vector<std::vector<double>> result;
        for (uint32_t i = 0; i < kEnsembleSteps; ++i) {
          const std::vector<double> found = interpret(program, state).at("loss").values;
          result.resize(found.size());
          for (size_t e = 0; e < found.size(); ++e) result[e].push_back(found[e]);
        }
        return result;
      };
      together = losses(many, members.all);
      for (const State& one : members.each) alone.push_back(losses(step, one)[0]);
    } else {
      together = Run(device, many).losses(members.all, kMembers);
      Run single(device, step);
      for (const State& one : members.each) alone.push_back(single.losses(one, 1)[0]);
    }
    for (size_t e = 0; e < kMembers; ++e) {
      CAPTURE(e);
      for (uint32_t i = 0; i < kEnsembleSteps; ++i) CHECK(std::abs(together[e][i] - alone[e][i]) <= 1e-5 * alone[e][i]);
    }
    CHECK(alone[0] != alone[1]);
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

namespace {

const std::vector<int32_t> kText = {3, 1, 4, 1, 5, 9, 2};

// How far logits after kText[position] are from those of a pass over the whole text, relative to the largest.
class Against {
 public:
  Against(const hub::Source& source, const std::string& folder) {
    const HostTensor tokens({DType::u32, {1, int64_t(kText.size())}}, {kText.begin(), kText.end()});
    whole_ = logits_with(source, folder, tokens);
    for (const double value : whole_.values) largest_ = std::max(largest_, std::abs(value));
  }
  double of(int64_t position, std::span<const float> logits) const {
    double furthest = 0;
    for (size_t i = 0; i < logits.size(); ++i)
      furthest = std::max(furthest, std::abs(whole_.values[size_t(position) * logits.size() + i] - double(logits[i])));
    return furthest / largest_;
  }

 private:
  HostTensor whole_;
  double largest_ = 0;
};

std::vector<float> logits_after(Slots& slots, int32_t slot, size_t count) {
  std::vector<float> result;
  slots.read(slot, std::span(kText).first(count), int64_t(count) - 1,
             [&](int64_t, std::span<const float> logits) { result.assign(logits.begin(), logits.end()); });
  return result;
}

}  // namespace

TEST_CASE("texts side by side are read with adapters of their own, and without one to the bits of the base",
          "[device][adapt]") {
  SURTSEY_NEED_DEVICE();
  const auto source = hub::open_model(golden_folder("gpt2"));
  const tests::Folder folder;
  const std::vector<std::string> adapters = {saved_adapter(*source, folder / "a", 1, 4, {"c_attn", "c_fc"}),
                                             saved_adapter(*source, folder / "b", 2, 2, {"attn.c_proj", "c_attn"})};
  Slots many(device, *source, {.slots = 2, .context = 12, .adapters = adapters});
  Slots plain(device, *source, {.slots = 1, .context = 12});
  CHECK(logits_after(many, 0, 6) == logits_after(plain, 0, 6));
  const Against first(*source, adapters[0]), second(*source, adapters[1]);
  const std::vector<float> base = logits_after(many, 0, 6);
  many.choose(0, 1);
  many.choose(1, 2);
  CHECK(first.of(5, logits_after(many, 0, 6)) <= 1e-5);
  CHECK(second.of(5, logits_after(many, 1, 6)) <= 1e-5);
  CHECK(first.of(5, base) > 1e-2);
  const std::span<const float> both = many.step(std::vector<SlotToken>{{0, kText[6]}, {1, kText[6]}});
  CHECK(first.of(6, both.first(both.size() / 2)) <= 1e-5);
  CHECK(second.of(6, both.subspan(both.size() / 2)) <= 1e-5);
  // A slot that becomes a copy has the other's adapter.
  many.reorder(std::vector<int32_t>{1, 1});
  CHECK(second.of(6, logits_after(many, 0, 7)) <= 1e-5);
  CHECK_THROWS_WITH(many.choose(0, 3), ContainsSubstring("adapters 0 to 2"));
}

TEST_CASE("what virtual tokens do to a text read at once they do to one that is decoded", "[device][adapt]") {
  SURTSEY_NEED_DEVICE();
  for (const AdaptMethod method : {AdaptMethod::prompt, AdaptMethod::prefix}) {
    const bool prefix = method == AdaptMethod::prefix;
    const auto source = hub::open_model(golden_folder(prefix ? "llama" : "gpt2"));
    CAPTURE(name(method));
    const tests::Folder folder;
    Model model(hub::model_config(*source, {kLength + 3, 0}));
    const Adaptation adaptation({.method = method, .num_virtual_tokens = 3}, *source, model);
    adaptation.install(model, device.target());
    adaptation.save(folder.path(), model.store().unpack(adaptation.start(model, {.seed = 5})));
    const std::string path = folder.path().string();
    const Against whole(*source, path);
    Slots slots(device, *source, {.slots = prefix ? 2 : 1, .context = kLength, .adapter = path});
    CHECK(slots.context() == kLength);
    CHECK(whole.of(4, logits_after(slots, 0, 5)) <= 2e-5);
    CHECK(whole.of(5, slots.step(std::vector<SlotToken>{{0, kText[5]}})) <= 2e-5);
    if (prefix) slots.reorder(std::vector<int32_t>{1, 0});
    CHECK(whole.of(6, slots.step(std::vector<SlotToken>{{prefix ? 1 : 0, kText[6]}})) <= 2e-5);
  }
}
