#include "experiments/kernels/tune.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "experiments/kernels/kernel_alone.h"
#include "shaders/archetypes.h"
#include "shaders/emit.h"
#include "shaders/matmul_tile.h"
#include "shaders/reduce_tile.h"

namespace surtsey::experiments {

using namespace graph;

namespace {

// After the first rounds only candidates within this factor of the best take turns.
constexpr double kHopeless = 1.5;
constexpr int64_t kFirstRounds = 2;

double median(std::vector<double> samples) {
  const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
  std::nth_element(samples.begin(), middle, samples.end());
  return *middle;
}

std::string program_name(size_t candidate) { return fmt::format("candidate{}", candidate); }

// Tables that are there and empty: what was measured before is no default.
Target without_choices(Target target) {
  target.tiles = std::make_shared<MatmulTiles>();
  target.reduce_tiles = std::make_shared<ReduceTiles>();
  return target;
}

bool gives_the_same_bits(const Choice& one, const Choice& other) {
  const auto* tile = std::get_if<ReduceTile>(&one);
  return tile == nullptr || shaders::same_order(*tile, std::get<ReduceTile>(other));
}

// All candidates of one kernel as programs of one session.
class Contest {
 public:
  Contest(engine::Device& device, Target target, const Plan& plan, const PlannedKernel& planned,
          const TuneOptions& options)
      : options_(options),
        target_(std::move(target)),
        alone_(plan, planned.kernel),
        session_(device, {.target = target_, .quiet = true}) {
    result_.name = alone_.kernel().name;
    result_.shape = planned.shape;
    const uint64_t hash = shaders::kernel_hashes(alone_.plan(), target_).at(0);
    ensure(std::visit([](const auto& shape) { return shape.kernel; }, planned.shape) == hash,
           "{} has another text alone: nothing chosen for it would be used", result_.name);
    for (const Choice& choice : candidates(planned.shape, target_)) {
      result_.trials.push_back({choice});
      Trial& trial = result_.trials.back();
      try {
        add(choice);
      } catch (const InternalError& error) {
        trial.rejected = error.what();
      } catch (const engine::DeviceError& error) {
        if (error.lost()) throw;
        trial.rejected = error.what();
      }
    }
    samples_.resize(result_.trials.size());
  }

  TunedKernel run() {
    session_.allocate();
    alone_.write_inputs(session_);
    check_results();
    measure();
    choose();
    return std::move(result_);
  }

 private:
  void add(const Choice& choice) {
    const size_t candidate = result_.trials.size() - 1;
    std::vector<shaders::Shader> shaders = shaders::emit(alone_.plan(), with_choice(target_, result_.shape, choice));
    for (shaders::Shader& shader : shaders) {
      if (options_.alter) options_.alter(candidate, shader);
    }
    programs_.resize(candidate + 1);
    programs_[candidate] = session_.add_plan(program_name(candidate), alone_.plan(), std::move(shaders));
  }

  // The first operand that differs, and where.
  static std::string other_bits(const std::vector<std::vector<std::byte>>& found,
                                const std::vector<std::vector<std::byte>>& expected) {
    for (size_t o = 0; o < found.size(); ++o) {
      const auto differs = std::mismatch(found[o].begin(), found[o].end(), expected[o].begin());
      if (differs.first == found[o].end()) continue;
      return fmt::format("byte {} of output {} has other bits than by default", differs.first - found[o].begin(), o);
    }
    return {};
  }

  void check_results() {
    const bool interpreted = double(alone_.kernel().flops) <= options_.most_interpreted;
    std::vector<std::vector<std::byte>> expected;
    for (size_t i = 0; i < result_.trials.size(); ++i) {
      Trial& trial = result_.trials[i];
      if (!trial.rejected.empty()) continue;
      const bool same = gives_the_same_bits(trial.choice, result_.trials[0].choice);
      if (!same && !interpreted) {
        trial.rejected = "adds up in another order, which is more than the interpreter can check";
        continue;
      }
      alone_.clear_outputs(session_);  // else it might be right for what the one before it wrote
      programs_[i].run();
      const std::vector<std::vector<std::byte>> outputs = alone_.read_outputs(session_);
      if (interpreted) trial.rejected = alone_.wrong_element(outputs);
      if (i == 0) expected = outputs;
      if (trial.rejected.empty() && same) trial.rejected = other_bits(outputs, expected);
    }
    ensure(result_.trials[0].rejected.empty(), "{} is wrong by default: {}", result_.name, result_.trials[0].rejected);
  }

  double timed(size_t candidate, uint32_t runs) {
    const auto start = std::chrono::steady_clock::now();
    programs_[candidate].run(runs);
    const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - start;
    return spent.count() / runs;
  }

  void measure() {
    const auto runs = static_cast<uint32_t>(std::clamp(options_.sample_ns / std::max(timed(0, 1), 1.0), 1.0, 1024.0));
    for (int64_t round = 0; round < options_.rounds; ++round) {
      double best = INFINITY;
      for (const std::vector<double>& samples : samples_) {
        if (!samples.empty()) best = std::min(best, median(samples));
      }
      for (size_t i = 0; i < samples_.size(); ++i) {
        if (!result_.trials[i].rejected.empty()) continue;
        const bool hopeless = round >= kFirstRounds && median(samples_[i]) > kHopeless * best;
        if (i == 0 || !hopeless) samples_[i].push_back(timed(i, runs));
      }
    }
  }

  // By the median of the rounds' ratios: what slows the machine for a while slows neighbours alike.
  void choose() {
    double best = 1 - options_.margin;
    for (size_t i = 0; i < samples_.size(); ++i) {
      Trial& trial = result_.trials[i];
      if (!samples_[i].empty()) trial.median_ns = median(samples_[i]);
      // A trial that was given up early may have been lucky: it needs every round to win.
      if (!trial.rejected.empty() || samples_[i].size() != samples_[0].size()) continue;
      std::vector<double> ratios;
      for (size_t round = 0; round < samples_[i].size(); ++round) {
        ratios.push_back(samples_[i][round] / samples_[0][round]);
      }
      trial.ratio = median(std::move(ratios));
      if (i == 0 || trial.ratio > best) continue;
      best = trial.ratio;
      result_.best = i;
    }
  }

  TuneOptions options_;
  Target target_;
  KernelAlone alone_;
  engine::Session session_;
  TunedKernel result_;
  std::vector<engine::SessionProgram> programs_;  // one a candidate; none where it was rejected before
  std::vector<std::vector<double>> samples_;
};

}  // namespace

Program product_program(const MatmulShape& shape, DType storage) {
  auto graph = std::make_shared<Graph>();
  const auto operand = [&](const char* name, int64_t rows, int64_t columns, bool transposed) {
    Shape stored = transposed ? Shape{columns, rows} : Shape{rows, columns};
    if (shape.batch > 1) stored.insert(stored.begin(), shape.batch);
    const Value x = graph->parameter(name, {storage, std::move(stored)});
    const Value side = transposed ? transpose(x) : x;
    return storage == DType::f32 ? side : cast(side, DType::f32);
  };
  const Value a = operand("a", shape.m, shape.k, shape.a_transposed);
  const Value b = operand("b", shape.k, shape.n, shape.b_transposed);
  return {graph, {{"c", matmul(a, b)}}};
}

std::vector<Choice> candidates(const ChoiceShape& shape, const Target& target) {
  std::vector<Choice> list;
  if (const auto* product = std::get_if<MatmulShape>(&shape)) {
    for (const MatmulTile& tile : shaders::tile_candidates(*product, target)) list.emplace_back(tile);
  } else {
    for (const ReduceTile& tile : shaders::reduce_candidates(std::get<ReduceShape>(shape), target))
      list.emplace_back(tile);
  }
  return list;
}

Target with_choice(Target target, const ChoiceShape& shape, const Choice& choice) {
  target = without_choices(std::move(target));
  if (const auto* product = std::get_if<MatmulShape>(&shape)) {
    target.tiles = std::make_shared<MatmulTiles>(MatmulTiles{{*product, std::get<MatmulTile>(choice)}});
  } else {
    target.reduce_tiles =
        std::make_shared<ReduceTiles>(ReduceTiles{{std::get<ReduceShape>(shape), std::get<ReduceTile>(choice)}});
  }
  return target;
}

std::vector<PlannedKernel> planned_kernels(const Plan& plan, const Target& target) {
  const std::vector<uint64_t> hashes = shaders::kernel_hashes(plan, target);
  std::map<uint64_t, PlannedKernel> planned;
  for (const Dispatch& dispatch : plan.dispatches) {
    const Kernel& kernel = plan.kernels[dispatch.kernel];
    const bool product = kernel.archetype == Archetype::matmul;
    if ((!product && kernel.archetype != Archetype::reduce) || !KernelAlone::possible(kernel)) continue;
    if (product && shaders::is_row_product(kernel, *plan.program.graph, target)) continue;  // has no tile to choose
    PlannedKernel& one = planned[hashes[dispatch.kernel]];
    if (one.dispatches++ > 0) continue;
    one.kernel = dispatch.kernel;
    if (product) {
      MatmulShape shape = shaders::matmul_shape(kernel, *plan.program.graph, target);
      shape.kernel = hashes[dispatch.kernel];
      one.shape = shape;
    } else {
      ReduceShape shape = shaders::reduce_shape(kernel, target);
      shape.kernel = hashes[dispatch.kernel];
      one.shape = shape;
    }
  }
  std::vector<PlannedKernel> list;
  for (const auto& [hash, one] : planned) {
    if (candidates(one.shape, target).size() > 1) list.push_back(one);
  }
  const auto work = [&](const PlannedKernel& one) {
    const Kernel& kernel = plan.kernels[one.kernel];
    return uint64_t(one.dispatches) * (kernel.flops + kernel.bytes);
  };
  std::stable_sort(list.begin(), list.end(), [&](const auto& a, const auto& b) { return work(a) > work(b); });
  return list;
}

TunedKernel tune_kernel(engine::Device& device, const Target& target, const Plan& plan, const PlannedKernel& kernel,
                        const TuneOptions& options) {
  check(options.rounds > 0, "--rounds is at least 1, not {}", options.rounds);
  return Contest(device, without_choices(target), plan, kernel, options).run();
}

}  // namespace surtsey::experiments
