// Objectives of alignment against PyTorch (tests/golden/align.py): values and gradients, by the double interpreter and
// on the device.
#include "experiments/align/objectives.h"
#include "experiments/formats/safetensors.h"
#include "graph/autodiff.h"
#include "graph/error.h"
#include "tests/support/device_suite.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace surtsey::experiments::align {
namespace {

using Catch::Matchers::ContainsSubstring;
using graph::Graph;
using graph::HostTensor;
using graph::Program;
using Inputs = std::map<std::string, Value>;
using Outputs = std::map<std::string, Value>;

Value optional(const Inputs& in, const std::string& name) {
  const auto found = in.find(name);
  return found == in.end() ? Value{} : found->second;
}

Outputs tokens(const Inputs& in, double temperature) {
  const Value chosen = token_log_probs(in.at("logits"), in.at("tokens"), temperature);
  const Value entropy = token_entropy(in.at("logits"), temperature);
  return {{"log_probs", chosen},
          {"entropy", entropy},
          {"loss", sum(chosen, {0, 1}, false) * 0.7 + sum(entropy, {0, 1}, false) * 0.3}};
}

Outputs named(const Preferences& p) {
  return {
      {"loss", p.loss}, {"chosen", p.chosen}, {"rejected", p.rejected}, {"margin", p.margin}, {"accuracy", p.accuracy}};
}

Outputs reward(const Inputs& in, double centre) {
  return named(reward_loss(in.at("chosen"), in.at("rejected"), {centre}, optional(in, "margin")));
}

Outputs dpo(const Inputs& in, const DpoOptions& options) {
  return named(dpo_loss({in.at("policy_chosen"), in.at("policy_rejected")},
                        {in.at("reference_chosen"), in.at("reference_rejected")}, options));
}

Outputs kto(const Inputs& in) {
  const Kto made = kto_loss(in.at("policy"), in.at("reference"), in.at("desirable"), in.at("kl"), {0.3, 1, 1.5});
  return {{"loss", made.loss}, {"rewards", made.rewards}, {"kl", made.kl}};
}

Outputs advantages(const Inputs& in, double gamma, double lambda) {
  const Advantages made = generalized_advantages(in.at("rewards"), in.at("values"), in.at("mask"), gamma, lambda);
  return {
      {"advantages", made.advantages}, {"returns", made.returns}, {"whitened", whiten(made.advantages, in.at("mask"))}};
}

Outputs groups(const Inputs& in) {
  const Value rewards = in.at("rewards");
  return {{"none", group_advantages(rewards, 4, Baseline::none)},
          {"group", group_advantages(rewards, 4, Baseline::group)},
          {"batch", group_advantages(rewards, 4, Baseline::batch)},
          {"leave_one_out", group_advantages(rewards, 4, Baseline::leave_one_out)},
          {"flat", flat_groups(rewards, 4)}};
}

Outputs policy(const Inputs& in, PolicyLossType type, RatioLevel level, double beta) {
  const PolicyLoss made = policy_loss({in.at("policy"), in.at("old"), in.at("advantages"), in.at("mask"),
                                       optional(in, "reference"), optional(in, "tokens")},
                                      {type, level, 0.2, 0.28, beta, 13});
  return {{"loss", made.loss}, {"clipped", made.clipped}, {"kl", made.kl}, {"approx_kl", made.approx_kl}};
}

Outputs critic(const Inputs& in) {
  return {{"loss", value_loss(in.at("values"), in.at("old"), in.at("returns"), in.at("mask"))}};
}

Outputs estimates(const Inputs& in) {
  const auto of = [&](KlEstimator which) { return kl_estimate(which, in.at("policy"), in.at("reference")); };
  return {{"k1", of(KlEstimator::k1)}, {"k2", of(KlEstimator::k2)}, {"k3", of(KlEstimator::k3)}};
}

const std::map<std::string, std::function<Outputs(const Inputs&)>> kCases = {
    {"tokens_1.0", [](const Inputs& in) { return tokens(in, 1); }},
    {"tokens_0.7", [](const Inputs& in) { return tokens(in, 0.7); }},
    {"reward", [](const Inputs& in) { return reward(in, 0); }},
    {"reward_centred", [](const Inputs& in) { return reward(in, 0.01); }},
    {"dpo", [](const Inputs& in) { return dpo(in, {DpoLoss::sigmoid, 0.1, 0}); }},
    {"dpo_start", [](const Inputs& in) { return dpo(in, {DpoLoss::sigmoid, 0.1, 0}); }},
    {"dpo_smooth", [](const Inputs& in) { return dpo(in, {DpoLoss::sigmoid, 0.5, 0.1}); }},
    {"ipo", [](const Inputs& in) { return dpo(in, {DpoLoss::ipo, 0.1, 0}); }},
    {"kto", kto},
    {"kto_below", kto},
    {"gae", [](const Inputs& in) { return advantages(in, 1, 0.95); }},
    {"gae_discounted", [](const Inputs& in) { return advantages(in, 0.9, 0.7); }},
    {"gae_one_step", [](const Inputs& in) { return advantages(in, 0.9, 0); }},
    {"gae_sums", [](const Inputs& in) { return advantages(in, 1, 1); }},
    {"groups", groups},
    {"ppo", [](const Inputs& in) { return policy(in, PolicyLossType::ppo, RatioLevel::token, 0); }},
    {"grpo", [](const Inputs& in) { return policy(in, PolicyLossType::grpo, RatioLevel::token, 0.04); }},
    {"bnpo", [](const Inputs& in) { return policy(in, PolicyLossType::bnpo, RatioLevel::token, 0.04); }},
    {"dapo", [](const Inputs& in) { return policy(in, PolicyLossType::dapo, RatioLevel::token, 0); }},
    {"dr_grpo", [](const Inputs& in) { return policy(in, PolicyLossType::dr_grpo, RatioLevel::token, 0.04); }},
    {"rloo", [](const Inputs& in) { return policy(in, PolicyLossType::rloo, RatioLevel::sequence, 0.05); }},
    {"reinforce", [](const Inputs& in) { return policy(in, PolicyLossType::rloo, RatioLevel::token, 0); }},
    {"gspo", [](const Inputs& in) { return policy(in, PolicyLossType::grpo, RatioLevel::sequence_mean, 0.04); }},
    {"value", critic},
    {"kl", estimates},
};

// CASE/KIND.NAME of the golden, by NAME.
using Tensors = std::map<std::string, HostTensor>;
Tensors part(const Safetensors& golden, const std::string& one, const std::string& kind) {
  const std::string start = one + "/" + kind + ".";
  Tensors found;
  for (const auto& [name, tensor] : golden.tensors)
    if (name.starts_with(start)) found.emplace(name.substr(start.size()), tensor);
  return found;
}

// By the largest entry of what is right.
double distance(const HostTensor& found, const HostTensor& right) {
  REQUIRE(found.type.shape == right.type.shape);
  double worst = 0, largest = 1e-3;
  for (size_t i = 0; i < right.values.size(); ++i) {
    REQUIRE(std::isfinite(found.values[i]));
    worst = std::max(worst, std::abs(found.values[i] - right.values[i]));
    largest = std::max(largest, std::abs(right.values[i]));
  }
  return worst / largest;
}

struct Case {
  Program program;
  graph::State state;
  Tensors right;  // by output
};

Case make_case(const Safetensors& golden, const std::string& name) {
  Case made{{std::make_shared<Graph>(), {}}, {}, part(golden, name, "out")};
  Inputs in;
  for (const auto& [input, tensor] : part(golden, name, "in")) {
    in.emplace(input, made.program.graph->parameter(input, tensor.type));
    made.state.emplace(input, tensor);
  }
  const Outputs out = kCases.at(name)(in);
  for (const auto& [output, tensor] : made.right) made.program.outputs.emplace_back(output, out.at(output));
  std::vector<Value> wrt;
  std::vector<std::string> names;
  for (const auto& [input, tensor] : part(golden, name, "grad")) {
    wrt.push_back(in.at(input));
    names.push_back("gradient of " + input);
    made.right.emplace(names.back(), tensor);
  }
  if (wrt.empty()) return made;
  const std::vector<Value> gradients = differentiate(out.at("loss"), wrt);
  for (size_t i = 0; i < wrt.size(); ++i) made.program.outputs.emplace_back(names[i], gradients[i]);
  return made;
}

void check_all(const Tensors& found, const Tensors& right) {
  for (const auto& [name, tensor] : right) {
    CAPTURE(name);
    CHECK(distance(found.at(name), tensor) < 1e-5);
  }
}

const Safetensors& align_golden() {
  static const Safetensors golden =
      read_safetensors((std::filesystem::path(SURTSEY_SOURCE_ROOT) / "tests/golden/align.safetensors").string());
  return golden;
}

TEST_CASE("objectives of alignment equal PyTorch's, gradients too", "[align]") {
  std::set<std::string> there;
  for (const auto& [name, tensor] : align_golden().tensors) there.insert(name.substr(0, name.find('/')));
  for (const std::string& name : there) CHECK(kCases.contains(name));
  for (const auto& [name, build] : kCases) {
    CAPTURE(name);
    Case one = make_case(align_golden(), name);
    check_all(graph::interpret(one.program, one.state), one.right);
  }
}

TEST_CASE("objectives of alignment equal PyTorch's on the device", "[align][device]") {
  SURTSEY_NEED_DEVICE();
  for (const auto& [name, build] : kCases) {
    CAPTURE(name);
    const Case one = make_case(align_golden(), name);
    check_all(tests::run_on_device(device, device.target(), one.program, one.state), one.right);
  }
}

TEST_CASE("what alignment cannot be trained with is refused", "[align]") {
  Graph graph;
  const graph::Type rows{graph::DType::f32, {4}}, tokens{graph::DType::f32, {4, 5}};
  const Value x = graph.parameter("x", rows), y = graph.parameter("y", {graph::DType::f32, {3}});
  const Value p = graph.parameter("p", tokens);
  CHECK_THROWS_WITH(reward_loss(x, y, {}), ContainsSubstring("f32[3]"));
  CHECK_THROWS_WITH(dpo_loss({x, x}, {x, x}, {.beta = 0}), ContainsSubstring("beta is 0"));
  CHECK_THROWS_WITH(dpo_loss({x, x}, {x, x}, {.label_smoothing = 0.5}), ContainsSubstring("label_smoothing"));
  CHECK_THROWS_WITH(dpo_loss({x, x}, {x, x}, {.loss_type = DpoLoss::ipo, .label_smoothing = 0.1}),
                    ContainsSubstring("sigmoid"));
  CHECK_THROWS_WITH(group_advantages(x, 3, Baseline::group), ContainsSubstring("3 answers"));
  CHECK_THROWS_WITH(group_advantages(x, 1, Baseline::group), ContainsSubstring("two or more"));
  CHECK_THROWS_WITH(policy_loss({p, p, y, p}, {}), ContainsSubstring("advantages"));
  CHECK_THROWS_WITH(policy_loss({p, p, x, p}, {.beta = 0.1}), ContainsSubstring("reference"));
  CHECK_THROWS_WITH(policy_loss({p, p, x, p}, {.epsilon = 1}), ContainsSubstring("epsilon"));
  CHECK_THROWS_WITH(policy_loss({p, p, x, p}, {.loss_type = PolicyLossType::dr_grpo}),
                    ContainsSubstring("max_completion_length"));
  CHECK_THROWS_WITH(generalized_advantages(p, p, p, 1.5, 1), ContainsSubstring("gamma"));
  CHECK_THROWS_WITH(token_log_probs(p, x, 0), ContainsSubstring("temperature"));
}

}  // namespace
}  // namespace surtsey::experiments::align
