#include "experiments/commands/bench.h"
#include "experiments/profile/ceilings.h"
#include "experiments/retrieve/encoder.h"
#include "experiments/retrieve/vector_search.h"
#include "graph/random.h"

#include <algorithm>
#include <chrono>

namespace surtsey::experiments::commands {
namespace {

using Clock = std::chrono::steady_clock;

// Of length 1, from the counter-based generator: vector `place` of `stream`.
void draw_vector(uint32_t stream, int64_t place, std::span<float> vector) {
  const uint32_t seed = graph::stream_seed(1, "bench.retrieve");
  double sum = 0;
  for (size_t i = 0; i < vector.size(); ++i) {
    const uint32_t bits = graph::random_bits(seed + stream, uint32_t(place), uint32_t(i));
    vector[i] = float(double(bits) / 4294967296.0 - .5);
    sum += double(vector[i]) * double(vector[i]);
  }
  for (float& value : vector) value = float(double(value) / std::sqrt(sum));
}

// A fast wrong search is no result: against sums in double over all vectors. Where two scores are closer than rounding
// either may come first.
void check_hits(const std::vector<std::vector<VectorHit>>& hits, std::span<const float> queries, int64_t count,
                int64_t width) {
  constexpr double kRounding = 1e-5;
  std::vector<float> vector(static_cast<size_t>(width));
  std::vector<double> least(hits.size());
  std::vector<int64_t> better(hits.size(), 0);
  const auto product = [&](size_t query) {
    double sum = 0;
    for (int64_t i = 0; i < width; ++i)
      sum += double(queries[query * size_t(width) + size_t(i)]) * double(vector[size_t(i)]);
    return sum;
  };
  for (size_t q = 0; q < hits.size(); ++q) {
    for (const VectorHit& hit : hits[q]) {
      draw_vector(0, hit.place, vector);
      ensure(std::abs(product(q) - double(hit.score)) < kRounding, "query {}: vector {} has the score {}, not {}", q,
             hit.place, product(q), hit.score);
    }
    least[q] = double(hits[q].back().score);
  }
  for (int64_t place = 0; place < count; ++place) {
    draw_vector(0, place, vector);
    for (size_t q = 0; q < hits.size(); ++q) {
      if (product(q) > least[q] + kRounding) ++better[q];
    }
  }
  for (size_t q = 0; q < hits.size(); ++q) {
    ensure(better[q] < std::ssize(hits[q]), "query {}: {} vectors are better than the worst of {}", q, better[q],
           hits[q].size());
  }
}

Record measure(engine::Device& device, int64_t count, int64_t width, int64_t queries, int64_t top, VectorSearch& search,
               const BenchOptions& options) {
  std::vector<float> asked(size_t(queries * width));
  for (int64_t q = 0; q < queries; ++q) draw_vector(1, q, std::span(asked).subspan(size_t(q * width), size_t(width)));
  constexpr int64_t kChecked = 2;  // queries whose scores are all computed on the host
  auto hits = search.find(asked, top);
  hits.resize(size_t(std::min(queries, kChecked)));
  check_hits(hits, asked, count, width);

  const auto copy_gbs = [&] { return measure_ceilings(device, "", true).copy_gbs(); };
  const double before = copy_gbs();
  const auto samples = take_samples(options.warmup, options.repetitions, [&] {
    const auto began = Clock::now();
    search.find(asked, top);
    return uint64_t(std::chrono::nanoseconds(Clock::now() - began).count());
  });
  const double best = std::max(before, copy_gbs());
  Record record;
  record["test"] = "retrieve";
  record["device"] = device.info().name;
  record["vectors"] = count;
  record["width"] = width;
  record["queries"] = queries;
  record["top"] = top;
  add_samples(record, samples);
  const double bytes = double(count) * double(width) * sizeof(float);
  record["copy_gbs"] = best;
  record["copy_ms"] = 2 * bytes / best / 1e6;
  record["ratio"] = record.number("median_ns") / 1e6 / record.number("copy_ms");
  record["gflops"] = 2.0 * double(count) * double(width) * double(queries) / record.number("median_ns");
  return record;
}

}  // namespace

void bench_retrieve(const BenchRetrieveOptions& options) {
  check_bench(options.bench);
  for (const auto* list : {&options.n, &options.width, &options.queries}) {
    for (const int64_t extent : *list) check(extent > 0, "--n, --width and --queries are at least 1");
  }
  engine::Device device = open_device(options.bench);
  std::vector<int64_t> rows = options.queries;
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  std::vector<Record> records;
  for_each_combination({options.n, options.width}, [&](const std::vector<int64_t>& v) {
    VectorSearch search(device, v[0], v[1], {.rows = rows});
    search.write([](int64_t place, std::span<float> vector) { draw_vector(0, place, vector); });
    for (const int64_t queries : options.queries)
      records.push_back(measure(device, v[0], v[1], queries, options.top, search, options.bench));
  });
  print_records(records, options.bench.format,
                {"device", "vectors", "width", "queries", "top", "gflops", "copy_gbs", "copy_ms", "ratio"});
}

}  // namespace surtsey::experiments::commands
