// Programs that run for some of the members that a session's state has side by side.
#include "graph/functions.h"
#include "graph/vectorize.h"
#include "tests/support/support_device.h"

#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace surtsey;
using graph::DType;
using graph::Program;
using graph::Value;

namespace {

constexpr int64_t kAll = 6, kWidth = 4, kMemberRows = 5;

// memory[at] = x, at = at + 1; of one member. The sum of the memory times w, which all share.
Program remembering() {
  Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& g = *program.graph;
  const Value memory = g.parameter("member.memory", {DType::f32, {kMemberRows, kWidth}}),
              at = g.parameter("member.at", {DType::u32, {4}}), x = g.parameter("member.x", {DType::f32, {1, kWidth}}),
              w = g.parameter("w", {DType::f32, {kWidth, 3}});
  const Value position = graph::reshape(graph::slice(at, 0, 1, 2), {});
  const Value next = graph::slice_update(memory, x * 2.0, position, 0);
  g.assign(memory, next);
  g.assign(at, at + graph::constant(g, 1, {DType::u32, {4}}));
  program.outputs = {{"sum", graph::matmul(graph::sum(next, {0}), w)}};
  return program;
}

const std::set<std::string> kOwn = {"member.*"};

std::vector<float> numbers(size_t count, float first) {
  std::vector<float> result;
  for (size_t i = 0; i < count; ++i) result.push_back(first + float(i % 17) / 8);
  return result;
}

void write_all(engine::Session& session) {
  session.write("member.memory", numbers(size_t(kAll * kMemberRows * kWidth), -1));
  session.write("member.x", numbers(size_t(kAll * kWidth), 1));
  session.write("w", numbers(size_t(kWidth * 3), -.5f));
  std::vector<uint32_t> at;
  for (uint32_t member = 0; member < kAll; ++member) at.insert(at.end(), {9, member % 4, 9, 9});
  session.write("member.at", at);
}

}  // namespace

TEST_CASE("a program runs for some members of a session's state, and leaves the others alone",
          "[engine][device][lane]") {
  engine::Device device = tests::open_test_device();
  for (const graph::Addressing addressing : tests::addressing_modes(device)) {
    graph::Target target = device.target();
    target.addressing = addressing;
    engine::SessionOptions options = tests::quiet(target);
    options.poison = true;
    engine::Session session(device, options);
    const Program one = remembering();
    const auto program = [&](int64_t some) {
      return session.add_program(fmt::format("of {}", some), some == 1 ? one : graph::vectorize(one, some, kOwn), {},
                                 {kOwn, kAll, some});
    };
    const engine::SessionProgram single = program(1), pair = program(2), all = program(kAll);
    session.allocate();
    CHECK(session.state_type("member.memory") == graph::Type{DType::f32, {kAll, kMemberRows, kWidth}});
    CHECK(session.state_type("w") == graph::Type{DType::f32, {kWidth, 3}});
    write_all(session);
    all.run();
    const auto memory = session.read_floats("member.memory");
    const auto at = session.read_words("member.at");
    const auto sums = all.read_floats("sum");
    for (const auto& [some, width] : {std::pair(single, int64_t(1)), std::pair(pair, int64_t(2))}) {
      for (int64_t first = 0; first + width <= kAll; ++first) {
        CAPTURE(width, first);
        write_all(session);
        const auto memory_before = session.read_floats("member.memory");
        const auto at_before = session.read_words("member.at");
        some.run_at(first);
        const auto memory_after = session.read_floats("member.memory");
        const auto at_after = session.read_words("member.at");
        for (int64_t member = 0; member < kAll; ++member) {
          const bool ran = member >= first && member < first + width;
          const auto part = [&](const auto& values, int64_t count) {
            const auto begin = values.begin() + member * count;
            return std::vector(begin, begin + count);
          };
          CHECK(part(memory_after, kMemberRows * kWidth) == part(ran ? memory : memory_before, kMemberRows * kWidth));
          CHECK(part(at_after, 4) == part(ran ? at : at_before, 4));
        }
        const auto sum = some.read_floats("sum");
        CHECK(sum == std::vector(sums.begin() + first * 3, sums.begin() + (first + width) * 3));
      }
    }
    // run() is that of the first members.
    write_all(session);
    single.run();
    CHECK(session.read_words("member.at")[1] == at[1]);
    CHECK(session.overruns().empty());
    CHECK_THROWS_AS(single.run_at(kAll), UserError);
    CHECK_THROWS_AS(pair.run_at(kAll - 1), UserError);
    CHECK_THROWS_AS(single.run_at(-1), UserError);
  }
  CHECK(device.validation_messages().empty());
}

TEST_CASE("members of tensors that cannot be cut are refused", "[engine][device]") {
  engine::Device device = tests::open_test_device();
  engine::Session session(device, tests::quiet(device.target()));
  Program program{std::make_shared<graph::Graph>(), {}};
  const Value x = program.graph->parameter("x", {DType::f32, {3}});
  program.graph->assign(x, x + 1.0);
  using Catch::Matchers::ContainsSubstring;
  using Catch::Matchers::MessageMatches;
  CHECK_THROWS_MATCHES(session.add_program("a", program, {}, {{"x"}, 4, 1}), UserError,
                       MessageMatches(ContainsSubstring("16 bytes")));
  CHECK_THROWS_MATCHES(session.add_program("b", program, {}, {{"x"}, 4, 2}), UserError,
                       MessageMatches(ContainsSubstring("no axis of 2 members")));
  CHECK_THROWS_AS(session.add_program("c", program, {}, {{"x"}, 4, 5}), UserError);
  CHECK_THROWS_AS(session.add_program("d", program, {}, {{"x"}, 4, 0}), UserError);
}
