#include "engine/cooperative_check.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>

#include "engine/session.h"
#include "engine/tuned_tiles.h"
#include "graph/compile.h"
#include "graph/functions.h"
#include "graph/interpret.h"
#include "shaders/cache_file.h"
#include "shaders/emit.h"

namespace surtsey::engine {
namespace {

using namespace graph;

constexpr double kTolerance = 5e-4;
constexpr int kRounds = 5;
// A few percent are within what one timing and the next differ by: without a clear gain the plain kernels stay.
constexpr double kWorthwhile = 0.95;

Program product(int64_t m, int64_t n, int64_t k, bool a_transposed, bool b_transposed) {
  Program program{std::make_shared<Graph>(), {}};
  const auto operand = [&](const char* name, int64_t rows, int64_t columns, bool transposed) {
    const Shape stored = transposed ? Shape{columns, rows} : Shape{rows, columns};
    const Value x = program.graph->parameter(name, {DType::f16, stored});
    return cast(transposed ? transpose(x) : x, DType::f32);
  };
  const Value a = operand("a", m, k, a_transposed), b = operand("b", k, n, b_transposed);
  program.outputs = {{"c", matmul(a, b)}};
  return program;
}

State operands(const Program& program) {
  State state;
  uint32_t seed = 0;
  for (const auto& [name, value] : program.graph->parameters()) {
    state[name] = HostTensor::random(value.type(), -1, 1, ++seed);
    state[name].round_to_storage();
  }
  return state;
}

std::string wrong_product(Device& device, const Target& target, const CooperativeCheckOptions& options) {
  struct Case {
    int64_t m, n, k;
    bool a_transposed, b_transposed;
  };
  std::vector<Case> cases;
  // Operands that are loaded in runs of 16 bytes, and such that cannot be.
  for (const int64_t odd : {0, 1})
    for (const bool a_transposed : {false, true})
      for (const bool b_transposed : {false, true})
        cases.push_back({72 - odd, 56 - odd, 104 - odd, a_transposed, b_transposed});
  for (const auto& [m, n, k, a_transposed, b_transposed] : cases) {
    const std::string layout =
        fmt::format("{}{} {}x{}x{}", a_transposed ? 't' : 'n', b_transposed ? 't' : 'n', m, n, k);
    const Program program = product(m, n, k, a_transposed, b_transposed);
    const Plan plan = compile(program, target, {.name = "product"});
    std::vector<shaders::Shader> shaders = shaders::emit(plan, target);
    if (shaders.size() != 1 || shaders[0].variant != "cooperative")
      return fmt::format("no tile of matrices of {}x{}x{} fits the device", target.cooperative.m, target.cooperative.n,
                         target.cooperative.k);
    if (options.alter) options.alter(shaders[0]);
    Session session(device, {.target = target, .quiet = true});
    const SessionProgram multiply = session.add_plan("product", plan, std::move(shaders));
    session.allocate();
    State state = operands(program);
    for (const auto& [name, value] : state) session.write(name, value);
    multiply.run();
    const std::vector<float> result = multiply.read_floats("c");
    const std::vector<double> expected = interpret(program, state).at("c").values;
    for (size_t i = 0; i < expected.size(); ++i)
      if (!(std::abs(double(result[i]) - expected[i]) <= kTolerance))
        return fmt::format("a product ({}) has {} at element {} instead of {:.6f}", layout, result[i], i, expected[i]);
  }
  return {};
}

double median_ns(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  return samples[samples.size() / 2];
}

// One product, ready to be run.
std::unique_ptr<Session> prepared(Device& device, const Target& target, const Program& program, const State& state) {
  auto session = std::make_unique<Session>(device, SessionOptions{.target = target, .quiet = true});
  const SessionProgram multiply = session->add_program("product", program);
  session->allocate();
  for (const auto& [name, value] : state) session->write(name, value);
  multiply.run();
  return session;
}

double time_of(Session& session) {
  const auto start = std::chrono::steady_clock::now();
  session.program("product").run(4);
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
}

// A training step has products in three layouts: what they take together decides.
std::string slow_product(Device& device, const Target& cooperative) {
  constexpr int64_t kExtent = 1024;
  Target plain = cooperative;
  plain.matmul = MatmulVariant::shared_tile;
  double with = 0, without = 0;
  for (const auto& [a_transposed, b_transposed] : {std::pair(false, false), {false, true}, {true, false}}) {
    const Program program = product(kExtent, kExtent, kExtent, a_transposed, b_transposed);
    const State state = operands(program);
    const auto fast = prepared(device, cooperative, program, state), slow = prepared(device, plain, program, state);
    std::vector<double> samples[2];
    for (int round = 0; round < kRounds; ++round) {
      samples[0].push_back(time_of(*fast));
      samples[1].push_back(time_of(*slow));
    }
    with += median_ns(samples[0]);
    without += median_ns(samples[1]);
  }
  return slow_products(with / without);
}

// `lasting`: the verdict is about the matrices, not about this moment (no memory left).
MatrixVerdict judge(Device& device, const Target& target, const CooperativeCheckOptions& options, bool& lasting) {
  Target cooperative = target;
  cooperative.matmul = MatmulVariant::cooperative;
  lasting = true;
  try {
    if (const std::string wrong = wrong_product(device, cooperative, options); !wrong.empty()) return {false, wrong};
    return {true, options.compare_speed ? slow_product(device, cooperative) : ""};
  } catch (const DeviceError& error) {
    if (error.lost()) throw;
    lasting = false;
    return {false, error.what()};
  } catch (const InternalError& error) {
    // A compiler without the extension; its message goes on with the kernel's text.
    const std::string text = error.what();
    return {false, text.substr(0, text.find('\n'))};
  }
}

constexpr shaders::CacheKind kVerdictFile{.magic = 0x43565253, .format = 2, .max_payload = 64u << 10};  // "SRVC"
constexpr char kRight = 'r', kWrong = 'w';

std::string verdict_file(const std::string& directory, const std::string& who) {
  return fmt::format("{}/matrices-{:016x}.bin", directory, shaders::hash64(who));
}

// A version of ours that writes other kernels does not believe what was measured with the old ones.
std::string verdict_identity(const std::string& who, Target target) {
  target.tiles = nullptr;
  target.reduce_tiles = nullptr;
  uint64_t hash = 0;
  for (const MatmulVariant variant : {MatmulVariant::cooperative, MatmulVariant::shared_tile}) {
    target.matmul = variant;
    for (const bool transposed : {false, true}) {
      const Plan plan = compile(product(1024, 1024, 1024, transposed, transposed), target, {.name = "product"});
      for (const shaders::Shader& shader : shaders::emit(plan, target)) hash = shaders::hash64(shader.glsl, hash);
    }
  }
  return fmt::format("{}\n{:016x}", who, hash);
}

}  // namespace

std::string slow_products(double ratio) {
  return ratio <= kWorthwhile ? "" : fmt::format("products take {:.2f} times as long with them", ratio);
}

MatrixVerdict judge_matrices(Device& device, const Target& target, const CooperativeCheckOptions& options) {
  bool lasting = false;
  return judge(device, target, options, lasting);
}

Target with_verdict(Target target, const MatrixVerdict& verdict) {
  if (!verdict.right) target.cooperative = {};
  target.cooperative_off = verdict.against;
  return target;
}

// One letter, then the words.
std::optional<MatrixVerdict> kept_verdict(const std::string& directory, const std::string& who, const Target& target) {
  std::vector<std::byte> payload;
  const std::string identity = verdict_identity(who, target);
  if (directory.empty() || shaders::load_cache_file(verdict_file(directory, who), kVerdictFile,
                                                    shaders::bytes_of(identity), payload) != shaders::CacheState::good)
    return std::nullopt;
  const std::string text(reinterpret_cast<const char*>(payload.data()), payload.size());
  if (text.empty()) return std::nullopt;
  return MatrixVerdict{.right = text[0] == kRight, .against = text.substr(1)};
}

void keep_verdict(const std::string& directory, const std::string& who, const Target& target,
                  const MatrixVerdict& verdict) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  const std::string identity = verdict_identity(who, target),
                    text = (verdict.right ? kRight : kWrong) + verdict.against;
  shaders::store_cache_file(verdict_file(directory, who), kVerdictFile, shaders::bytes_of(identity),
                            shaders::bytes_of(text));
}

MatrixVerdict kept_or_judged(Device& device, const Target& target, const std::string& directory) {
  const std::string who = tile_identity(device.info());
  if (const auto kept = kept_verdict(directory, who, target)) return *kept;
  bool lasting = true;
  const MatrixVerdict verdict = judge(device, target, {}, lasting);
  if (lasting && !directory.empty()) keep_verdict(directory, who, target, verdict);
  return verdict;
}

}  // namespace surtsey::engine
