// The best vectors on the device against all products in double.
#include "experiments/retrieve/vector_search.h"
#include "graph/host_tensor.h"
#include "tests/support/support_device.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace surtsey;
using namespace surtsey::experiments;

namespace {

// Multiples of 1/8 below 1: their products are exact in f32, so ties are ties.
std::vector<float> coarse(int64_t count, int64_t width, uint32_t seed) {
  const auto drawn = graph::HostTensor::random({graph::DType::u32, {count * width}}, 0, 8, seed);
  std::vector<float> values;
  for (const double value : drawn.values) values.push_back(float(value - 4) / 8);
  return values;
}

void write(VectorSearch& search, const std::vector<float>& vectors, int64_t count) {
  search.write(count, [&](int64_t place, std::span<float> vector) {
    std::copy_n(vectors.begin() + place * search.width(), search.width(), vector.begin());
  });
}

std::vector<VectorHit> expected(const std::vector<float>& vectors, int64_t count, std::span<const float> query,
                                int64_t top) {
  const auto width = int64_t(query.size());
  std::vector<VectorHit> all;
  for (int64_t place = 0; place < count; ++place) {
    double sum = 0;
    for (int64_t i = 0; i < width; ++i) sum += double(vectors[size_t(place * width + i)]) * double(query[size_t(i)]);
    all.push_back({place, float(sum)});
  }
  std::stable_sort(all.begin(), all.end(), [](const VectorHit& a, const VectorHit& b) { return a.score > b.score; });
  all.resize(size_t(std::min(top, count)));
  return all;
}

void check_same(const std::vector<VectorHit>& a, const std::vector<VectorHit>& b) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    CAPTURE(i);
    CHECK(a[i].place == b[i].place);
    CHECK(a[i].score == b[i].score);
  }
}

}  // namespace

TEST_CASE("the best vectors are those of all products, ties by place", "[lane]") {
  engine::Device device = tests::open_test_device();
  constexpr int64_t kWidth = 6;
  for (const int64_t count : {1, 63, 64, 65, 4096, 9001}) {
    CAPTURE(count);
    const std::vector<float> vectors = coarse(count, kWidth, 1), queries = coarse(10, kWidth, 2);
    VectorSearch search(device, count, kWidth, {.rows = {1, 4}});
    write(search, vectors, count);
    for (const int64_t top : {1, 10, 100}) {
      CAPTURE(top);
      const auto found = search.find(queries, top);  // 4, 4 and 2 queries at once
      REQUIRE(found.size() == 10);
      for (int64_t q = 0; q < 10; ++q) {
        const auto query = std::span(queries).subspan(size_t(q * kWidth), kWidth);
        check_same(found[size_t(q)], expected(vectors, count, query, top));
      }
    }
  }
}

TEST_CASE("a score is the same bits whatever is asked beside it", "[lane]") {
  engine::Device device = tests::open_test_device();
  // A block of 64 columns takes less than the MiB that the smallest device of the lanes allocates at once.
  constexpr int64_t kCount = 5000, kWidth = 60;
  const auto drawn = graph::HostTensor::random({graph::DType::f32, {(kCount + 9) * kWidth}}, -1, 1, 3);
  const std::vector<float> all(drawn.values.begin(), drawn.values.end());
  const std::span<const float> queries = std::span(all).last(9 * kWidth);
  VectorSearch search(device, kCount, kWidth, {.rows = {1, 8}});
  write(search, all, kCount);
  const auto together = search.find(queries, 20);  // 8, and 1 alone
  for (int64_t q = 0; q < 9; ++q) {
    const auto alone = search.find(queries.subspan(size_t(q * kWidth), kWidth), 20);
    check_same(together[size_t(q)], alone.front());
  }
}

TEST_CASE("vectors in several tensors are found as in one", "[lane]") {
  engine::Device device = tests::open_test_device();
  constexpr int64_t kCount = 20380, kWidth = 4;
  const std::vector<float> vectors = coarse(kCount, kWidth, 4), queries = coarse(3, kWidth, 5);
  VectorSearch one(device, kCount, kWidth, {.rows = {4}});
  VectorSearch several(device, kCount, kWidth, {.rows = {4}, .tensor_bytes = 130 << 10});
  write(one, vectors, kCount);
  write(several, vectors, kCount);
  const auto expected = one.find(queries, 15), found = several.find(queries, 15);
  for (size_t q = 0; q < 3; ++q) check_same(found[q], expected[q]);
}

TEST_CASE("vectors can be written anew, fewer or more where there is room") {
  engine::Device device = tests::open_test_device();
  VectorSearch search(device, 200, 2, {.rows = {1}});
  const int64_t room = search.block();
  CHECK(search.has_room_for(room));
  CHECK_FALSE(search.has_room_for(room + 1));
  const std::vector<float> vectors = coarse(room, 2, 6), query = {1, -.5};
  for (const int64_t count : {int64_t(200), room, int64_t(5)}) {
    write(search, vectors, count);
    check_same(search.find(query, 7).front(), expected(vectors, count, query, 7));
  }
}

TEST_CASE("what cannot be searched is refused") {
  engine::Device device = tests::open_test_device();
  using Catch::Matchers::ContainsSubstring;
  CHECK_THROWS_WITH(VectorSearch(device, 0, 4), ContainsSubstring("0 of 4 numbers"));
  VectorSearch search(device, 3, 2, {.rows = {1}});
  CHECK_THROWS_WITH(
      search.write([](int64_t place, std::span<float> vector) { vector[0] = vector[1] = place == 2 ? NAN : 1; }),
      ContainsSubstring("vector 2 has nan"));
  const std::vector<float> bad = {1, INFINITY}, odd = {1, 2, 3};
  CHECK_THROWS_WITH(search.find(bad, 1), ContainsSubstring("a query has inf"));
  CHECK_THROWS_WITH(search.find(odd, 1), ContainsSubstring("no whole number"));
  CHECK_THROWS_WITH(search.find(std::span(bad).first(0), 0), ContainsSubstring("the best 0"));
  CHECK_THROWS_WITH(search.write(5000, [](int64_t, std::span<float>) {}), ContainsSubstring("5000 vectors where"));
}
