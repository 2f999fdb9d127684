#include "experiments/retrieve/vector_search.h"

#include "graph/graph.h"

#include <algorithm>
#include <cmath>

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::Value;

// Groups a query whose scores are asked for at once.
constexpr int64_t kPicked = 16;
constexpr int64_t kMostScores = int64_t(1) << 32;  // they are told by words

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Vectors side by side. What a tile reads is to lie in one run. A subgroup with a tile of its own reads twice its
// lanes: on lavapipe with 8 of them 16 vectors took a third of the processor time of 64 (one query, 384 wide).
// Workgroups have tiles of 64 (shaders/matmul_tile.cpp).
int64_t columns_for(const graph::Target& target) {
  constexpr int64_t kTile = 64;
  return target.matmul_variant() == graph::MatmulVariant::lane_broadcast ? 2 * int64_t(target.subgroup_size) : kTile;
}

std::string of_rows(const char* name, int64_t rows) { return fmt::format("{}.{}", name, rows); }
std::string segment_name(int64_t segment) { return fmt::format("vectors.{}", segment); }

// The best `most` of the numbers 0 .. count - 1 by score, best first; of equals the lower one.
template <class Score>
std::vector<int64_t> best(int64_t count, int64_t most, const Score& score) {
  std::vector<int64_t> chosen;  // a heap, the worst on top
  const auto better = [&](int64_t a, int64_t b) {
    const float left = score(a), right = score(b);
    return left != right ? left > right : a < b;
  };
  for (int64_t i = 0; i < count; ++i) {
    if (std::ssize(chosen) == most) {
      if (!better(i, chosen.front())) continue;
      std::pop_heap(chosen.begin(), chosen.end(), better);
      chosen.pop_back();
    }
    chosen.push_back(i);
    std::push_heap(chosen.begin(), chosen.end(), better);
  }
  std::sort(chosen.begin(), chosen.end(), better);
  return chosen;
}

}  // namespace

VectorSearch::VectorSearch(engine::Device& device, int64_t count, int64_t width, const VectorSearchOptions& options)
    : count_(count), width_(width), rows_(options.rows), session_(device, {.quiet = true}) {
  check(count > 0 && width > 0, "vectors to search: {} of {} numbers", count, width);
  check(!rows_.empty() && rows_.front() > 0 && std::is_sorted(rows_.begin(), rows_.end()),
        "rows of queries, ascending");
  const graph::Target& target = session_.target();
  columns_ = columns_for(target);
  const uint64_t most = std::min<uint64_t>({options.tensor_bytes, target.max_storage_range, target.max_allocation});
  const auto block_bytes = uint64_t(block() * width * 4);
  check(block_bytes <= most, "vectors of {} numbers: {} of them take {} bytes, the device takes {} at once", width,
        block(), block_bytes, most);
  const int64_t wanted = divide_up(count, block());
  segments_ = divide_up(wanted, int64_t(most / block_bytes));
  segment_blocks_ = divide_up(wanted, segments_);
  blocks_ = segments_ * segment_blocks_;
  check(blocks_ * block() * rows_.back() < kMostScores,
        "{} vectors by {} queries at once are more scores than are told", count, rows_.back());
  for (const int64_t n : rows_) add_programs(n);
  session_.allocate();
}

// Vectors lie in blocks [group member, number, column], so that neighbouring lanes read neighbouring words and what a
// product reads lies in one run: vector p is member p % 64 of group p / 64, and groups are columns.
void VectorSearch::add_programs(int64_t rows) {
  const graph::Shape all = {blocks_, kGroup, rows, columns_};
  const std::string scores_name = of_rows("scores", rows);
  {
    graph::Program program{std::make_shared<graph::Graph>(), {}};
    graph::Graph& g = *program.graph;
    const Value queries = g.parameter(of_rows("queries", rows), {DType::f32, {rows, width_}});
    // More than three axes: products of so many are never cut along the inner one, which would add up in another order.
    const Value left = reshape(queries, {1, 1, rows, width_});
    std::vector<Value> parts;
    for (int64_t s = 0; s < segments_; ++s) {
      const graph::Shape shape = {segment_blocks_, kGroup, width_, columns_};
      parts.push_back(matmul(left, g.parameter(segment_name(s), {DType::f32, shape})));
    }
    const Value scores = parts.size() == 1 ? parts.front() : concat(parts, 0);
    g.assign(g.parameter(scores_name, {DType::f32, all}), scores);
    program.outputs.emplace_back("largest", reduce_max(scores, {1}, false));  // [blocks, rows, columns]
    programs_[rows].score = session_.add_program(of_rows("score", rows), program);
  }
  graph::Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& g = *program.graph;
  const Value scores = reshape(g.parameter(scores_name, {DType::f32, all}), {graph::element_count(all)});
  const Value wanted = g.parameter(of_rows("wanted", rows), {DType::u32, {rows * kPicked * kGroup}});
  program.outputs.emplace_back("scores", gather(scores, wanted));
  programs_[rows].pick = session_.add_program(of_rows("pick", rows), program);
}

uint32_t VectorSearch::score_at(int64_t place, int64_t row, int64_t rows) const {
  const int64_t group = place / kGroup, block = group / columns_, column = group % columns_;
  return uint32_t(((block * kGroup + place % kGroup) * rows + row) * columns_ + column);
}

void VectorSearch::write(int64_t count, const std::function<void(int64_t, std::span<float>)>& vector) {
  check(count > 0 && has_room_for(count), "{} vectors where there were {}", count, count_);
  count_ = count;
  std::vector<float> one(static_cast<size_t>(width_)), values;
  int64_t place = 0;
  for (int64_t s = 0; s < segments_; ++s) {
    values.assign(size_t(segment_blocks_ * block() * width_), 0);
    const int64_t begin = s * segment_blocks_ * block(), end = std::min(count, begin + segment_blocks_ * block());
    for (; place < end; ++place) {
      vector(place, one);
      const int64_t at = place - begin, group = at / kGroup;
      float* to = values.data() + ((group / columns_ * kGroup + at % kGroup) * width_) * columns_ + group % columns_;
      for (int64_t i = 0; i < width_; ++i) {
        check(std::isfinite(one[size_t(i)]), "vector {} has {} at place {}", place, one[size_t(i)], i);
        to[i * columns_] = one[size_t(i)];
      }
    }
    session_.write(segment_name(s), std::span<const float>(values));
  }
}

std::vector<std::vector<VectorHit>> VectorSearch::find(std::span<const float> queries, int64_t top) {
  check(queries.size() % size_t(width_) == 0, "queries of {} numbers: {} are no whole number of them", width_,
        queries.size());
  check(top > 0, "the best {} vectors", top);
  for (const float value : queries) check(std::isfinite(value), "a query has {}", value);
  std::vector<std::vector<VectorHit>> hits;
  for (auto left = int64_t(queries.size()) / width_; left > 0;) {
    const auto room = std::lower_bound(rows_.begin(), rows_.end(), left);
    const int64_t rows = room == rows_.end() ? rows_.back() : *room, some = std::min(rows, left);
    find_some(queries.first(size_t(some * width_)), rows, std::min(top, count_), hits);
    queries = queries.subspan(size_t(some * width_));
    left -= some;
  }
  return hits;
}

void VectorSearch::find_some(std::span<const float> queries, int64_t rows, int64_t top,
                             std::vector<std::vector<VectorHit>>& all) {
  const int64_t asked = int64_t(queries.size()) / width_;
  std::vector<float> given(queries.begin(), queries.end());
  given.resize(size_t(rows * width_), 0);
  session_.write(of_rows("queries", rows), std::span<const float>(given));
  const Programs& programs = programs_.at(rows);
  programs.score.run();
  const std::vector<float> largest = programs.score.read_floats("largest");

  // The last group may be part room, whose scores are 0: it is always looked into, and never chosen by its largest.
  const int64_t groups = divide_up(count_, kGroup), whole = count_ / kGroup;
  std::vector<std::vector<int64_t>> chosen;
  size_t most = 0;
  for (int64_t row = 0; row < asked; ++row) {
    chosen.push_back(best(whole, std::min(top, whole), [&](int64_t group) {
      return largest[size_t((group / columns_ * rows + row) * columns_ + group % columns_)];
    }));
    if (whole < groups) chosen.back().push_back(whole);
    std::sort(chosen.back().begin(), chosen.back().end());
    most = std::max(most, chosen.back().size());
  }

  std::vector<std::vector<VectorHit>> candidates(chosen.size());
  std::vector<uint32_t> wanted(size_t(rows * kPicked * kGroup));
  for (size_t first = 0; first < most; first += kPicked) {
    std::fill(wanted.begin(), wanted.end(), 0u);
    const auto visit = [&](const auto& work) {
      for (int64_t row = 0; row < asked; ++row) {
        const std::vector<int64_t>& of_row = chosen[size_t(row)];
        for (size_t i = first; i < std::min(of_row.size(), first + kPicked); ++i) {
          const int64_t begin = of_row[i] * kGroup, end = std::min(count_, begin + kGroup);
          const auto at = size_t((row * kPicked + int64_t(i - first)) * kGroup);
          for (int64_t place = begin; place < end; ++place) work(row, place, at + size_t(place - begin));
        }
      }
    };
    visit([&](int64_t row, int64_t place, size_t at) { wanted[at] = score_at(place, row, rows); });
    session_.write(of_rows("wanted", rows), std::span<const uint32_t>(wanted));
    programs.pick.run();
    const std::vector<float> scores = programs.pick.read_floats("scores");
    visit([&](int64_t row, int64_t place, size_t at) { candidates[size_t(row)].push_back({place, scores[at]}); });
  }
  for (std::vector<VectorHit>& of_row : candidates) {
    std::vector<VectorHit> hits;
    for (const int64_t i : best(std::ssize(of_row), top, [&](int64_t c) { return of_row[size_t(c)].score; })) {
      hits.push_back(of_row[size_t(i)]);
    }
    all.push_back(std::move(hits));
  }
}

}  // namespace surtsey::experiments
