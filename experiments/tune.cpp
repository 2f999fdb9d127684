#include "experiments/tune.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>

#include "graph/compile.h"
#include "shaders/emit.h"
#include "shaders/matmul_tile.h"

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

std::string program_name(size_t candidate) { return fmt::format("tile{}", candidate); }

// All candidates of one product as programs of one session.
class Contest {
 public:
  Contest(engine::Device& device, Target target, const MatmulShape& shape,
          const TuneOptions& options)
      : options_(options), target_(std::move(target)), session_(device, session_options()) {
    result_.shape = shape;
    const Plan plan = compile(product_program(shape), target_, {.name = "product"});
    for (const MatmulTile& tile : shaders::tile_candidates(shape, target_)) {
      result_.trials.push_back({tile});
      TileTrial& trial = result_.trials.back();
      try {
        add(plan, tile);
      } catch (const InternalError& error) {
        trial.rejected = error.what();
      } catch (const engine::DeviceError& error) {
        if (error.lost()) throw;
        trial.rejected = error.what();
      }
    }
    samples_.resize(result_.trials.size());
  }

  TunedProduct run() {
    session_.allocate();
    check_results();
    measure();
    choose();
    return std::move(result_);
  }

 private:
  engine::SessionOptions session_options() const { return {.target = target_, .quiet = true}; }

  void add(const Plan& plan, const MatmulTile& tile) {
    const size_t candidate = result_.trials.size() - 1;
    Target target = target_;
    target.tiles = std::make_shared<MatmulTiles>(MatmulTiles{{result_.shape, tile}});
    std::vector<shaders::Shader> shaders = shaders::emit(plan, target);
    for (shaders::Shader& shader : shaders) {
      if (options_.alter) options_.alter(candidate, shader);
    }
    session_.add_plan(program_name(candidate), plan, std::move(shaders));
  }

  void check_results() {
    HostTensor a = HostTensor::random(session_.state_type("a"), -1, 1, 1);
    HostTensor b = HostTensor::random(session_.state_type("b"), -1, 1, 2);
    a.round_to_storage();
    b.round_to_storage();
    session_.write("a", a);
    session_.write("b", b);
    std::vector<uint32_t> expected;
    for (size_t i = 0; i < result_.trials.size(); ++i) {
      TileTrial& trial = result_.trials[i];
      if (!trial.rejected.empty()) continue;
      session_.run(program_name(i));
      const std::vector<float> values = session_.read_output_floats(program_name(i), "c");
      std::vector<uint32_t> bits(values.size());
      std::transform(values.begin(), values.end(), bits.begin(),
                     [](float value) { return std::bit_cast<uint32_t>(value); });
      trial.rejected = wrong_element(result_.shape, a, b, values);
      if (i == 0) expected = bits;
      if (!trial.rejected.empty() || bits == expected) continue;
      const auto differs = std::mismatch(bits.begin(), bits.end(), expected.begin());
      trial.rejected = fmt::format("element {} has other bits than with the default tile",
                                   differs.first - bits.begin());
    }
    ensure(result_.trials[0].rejected.empty(), "the default tile of {}is wrong: {}",
           print(MatmulTiles{{result_.shape, result_.trials[0].tile}}), result_.trials[0].rejected);
  }

  double timed(size_t candidate, uint32_t runs) {
    const auto start = std::chrono::steady_clock::now();
    session_.run(program_name(candidate), runs);
    const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - start;
    return spent.count() / runs;
  }

  void measure() {
    const auto runs = static_cast<uint32_t>(
        std::clamp(options_.sample_ns / std::max(timed(0, 1), 1.0), 1.0, 1024.0));
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
      TileTrial& trial = result_.trials[i];
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
  engine::Session session_;
  TunedProduct result_;
  std::vector<std::vector<double>> samples_;
};

}  // namespace

Program product_program(const MatmulShape& shape) {
  auto graph = std::make_shared<Graph>();
  const auto operand = [&](const char* name, int64_t rows, int64_t columns, bool transposed) {
    Shape stored = transposed ? Shape{columns, rows} : Shape{rows, columns};
    if (shape.batch > 1) stored.insert(stored.begin(), shape.batch);
    const Value x = graph->parameter(name, {DType::f32, std::move(stored)});
    return transposed ? transpose(x) : x;
  };
  const Value a = operand("a", shape.m, shape.k, shape.a_transposed);
  const Value b = operand("b", shape.k, shape.n, shape.b_transposed);
  return {graph, {{"c", matmul(a, b)}}};
}

std::string wrong_element(const MatmulShape& shape, const HostTensor& a, const HostTensor& b,
                          const std::vector<float>& result) {
  constexpr int64_t kElements = 257;
  const auto& [variant, batch, m, n, depth, a_transposed, b_transposed] = shape;
  const int64_t count = batch * m * n;
  for (int64_t i = 0; i < std::min(count, kElements); ++i) {
    const int64_t at = count <= kElements ? i : i * (count - 1) / (kElements - 1);
    const int64_t column = at % n, row = at / n % m, z = at / (n * m);
    double expected = 0;
    for (int64_t k = 0; k < depth; ++k) {
      const int64_t in_a = a_transposed ? k * m + row : row * depth + k;
      const int64_t in_b = b_transposed ? column * depth + k : k * n + column;
      expected += a.values[size_t(z * m * depth + in_a)] * b.values[size_t(z * n * depth + in_b)];
    }
    const double tolerance = 1e-6 * std::sqrt(double(depth)) * (1 + std::abs(expected));
    const double found = result[size_t(at)];
    if (!(std::abs(found - expected) <= tolerance)) {
      return fmt::format("element [{}, {}, {}] is {}, not {}", z, row, column, found, expected);
    }
  }
  return {};
}

std::vector<PlannedProduct> planned_products(const Plan& plan, const Target& target) {
  std::map<MatmulShape, int64_t> kernels;
  for (const Dispatch& dispatch : plan.dispatches) {
    const Kernel& kernel = plan.kernels[dispatch.kernel];
    if (kernel.archetype == Archetype::matmul)
      ++kernels[shaders::matmul_shape(kernel, *plan.program.graph, target)];
  }
  std::vector<PlannedProduct> products;
  for (const auto& [shape, count] : kernels) products.push_back({shape, count});
  const auto work = [](const PlannedProduct& product) {
    const MatmulShape& s = product.shape;
    return product.kernels * s.batch * s.m * s.n * s.k;
  };
  std::stable_sort(products.begin(), products.end(),
                   [&](const auto& a, const auto& b) { return work(a) > work(b); });
  return products;
}

TunedProduct tune_product(engine::Device& device, const Target& target, const MatmulShape& shape,
                          const TuneOptions& options) {
  check(options.rounds > 0, "--rounds is at least 1, not {}", options.rounds);
  Target plain = target;
  plain.tiles = std::make_shared<MatmulTiles>();  // what was measured before is no default
  return Contest(device, std::move(plain), shape, options).run();
}

}  // namespace surtsey::experiments
