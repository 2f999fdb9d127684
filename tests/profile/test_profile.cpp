// Where a step's time goes: the rows of a profile, and what is written about them.
#include "experiments/profile/profile.h"
#include "experiments/report/pages/texts.h"
#include "experiments/train/train_session.h"
#include "tests/support/support_device.h"
#include "tests/support/words.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

#include <cmath>
#include <map>
#include <regex>
#include <set>
#include <sstream>

namespace surtsey::tests {
namespace {

using namespace graph;
using Catch::Approx;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using experiments::KernelRow;
using experiments::Model;
using experiments::ModelConfig;
using experiments::Profile;
using nlohmann::json;

// Four layers, so that equal kernels of different layers share a row; steps enough for a spread.
constexpr uint32_t kSteps = 5;
constexpr int64_t kProfiledBatch = 3;

ModelConfig four_layers() {
  ModelConfig config;
  config.n_layer = 4;
  config.n_head = 2;
  config.n_embd = 16;
  config.block_size = 8;
  config.vocab_size = 11;
  return config;
}
experiments::Ceilings plausible_ceilings() {
  return {.f32_gflops = 100,
          .copies = {{256 << 10, 40}, {128 << 20, 10}},
          .read_gbs = 12,
          .broadcast_gbs = 80,
          .shared_gbs = 20,
          .dispatch_us = 4};
}

// One profile for all tests of what is made from it.
const Profile& four_layer_profile() {
  static const Profile profile = [] {
    engine::Device device = open_test_device();
    const Model model(four_layers());
    experiments::TrainConfig train;
    train.batch_size = kProfiledBatch;
    engine::Session session(device, {.driver_statistics = true, .quiet = true});
    experiments::add_train_programs(session, model, train);
    session.allocate();
    experiments::write_uniform_start(session, model, train);
    Profile result =
        experiments::profile_program(session, session.program("train"), plausible_ceilings(), {.steps = kSteps});
    result.subject = "four layers <of> \"little\" width";
    result.facts = {{"command", "surtsey profile"}};
    return result;
  }();
  return profile;
}

uint64_t sum_of(const std::vector<uint64_t>& values) {
  uint64_t sum = 0;
  for (const uint64_t value : values) sum += value;
  return sum;
}

TEST_CASE("profile: rows hold every dispatch and add up to the step of the same replay", "[device]") {
  const Profile& profile = four_layer_profile();
  REQUIRE(profile.isolated_replays.size() == kSteps);
  for (const bool isolated : {true, false}) {
    const auto& replays = isolated ? profile.isolated_replays : profile.grouped_replays;
    const auto& mode = isolated ? profile.isolated : profile.grouped;
    for (size_t i = 0; i < replays.size(); ++i) {
      uint64_t raw = 0, corrected = 0, rows = 0;
      for (const engine::Interval& interval : replays[i].dispatches) {
        raw += interval.ns();
        corrected += interval.ns() - std::min(interval.ns(), profile.timestamp_ns);
      }
      for (const KernelRow& row : profile.rows) rows += (isolated ? row.isolated : row.grouped).totals.at(i);
      CHECK(rows == corrected);
      CHECK(double(raw) == Approx(double(mode.busy[i])).epsilon(0.01));
    }
  }
  double share = 0;
  size_t calls = 0;
  uint64_t flops = 0, matmul_flops = 0, bytes = 0;
  std::set<std::string> ids;
  for (const KernelRow& row : profile.rows) {
    share += row.isolated.share;
    calls += row.calls();
    flops += row.calls() * row.flops;
    matmul_flops += row.calls() * row.matmul_flops;
    bytes += row.calls() * row.bytes;
    CHECK(ids.insert(row.id).second);
    CHECK(row.isolated.p95 >= row.isolated.median);
  }
  CHECK(share == Approx(1));
  CHECK(calls == profile.dispatches.size());
  CHECK(flops == profile.flops);
  CHECK(matmul_flops == profile.matmul_flops);
  CHECK(bytes == profile.bytes);
  CHECK(profile.rows.size() < profile.dispatches.size() / 2);  // layers share rows
  CHECK(profile.rows_of_step() > 0);
}

TEST_CASE("profile: every row names a scope and a line of source, and shows what it is", "[device]") {
  const std::regex place(R"([a-z_]+\.cpp:[1-9][0-9]*)");
  std::set<std::string> all;
  for (const KernelRow& row : four_layer_profile().rows) {
    CAPTURE(row.id);
    REQUIRE_FALSE(row.scopes.empty());
    REQUIRE_FALSE(row.places.empty());
    for (const std::string& one : row.places) CHECK(std::regex_match(one, place));
    CHECK(row.scopes.size() <= 60);
    all.insert(row.scopes.begin(), row.scopes.end());
    CHECK_FALSE(row.nodes.empty());
    CHECK_FALSE(row.ops.empty());
    for (const experiments::OriginNode& node : row.nodes) CHECK(node.text.find(" = " + node.op) != std::string::npos);
    const bool matmul = row.archetype == "matmul";
    CHECK(matmul == (row.matmul_flops > 0 && row.archetype != "attention"));
    if (matmul) CHECK_FALSE(row.variant.empty());
    CHECK(row.glsl.find("void main()") != std::string::npos);
    CHECK(row.spirv.find("OpLine ") != std::string::npos);
    CHECK(row.spirv.find("#version") == std::string::npos);
    CHECK(row.workgroups > 0);
    CHECK(row.local_size > 0);
    CHECK(row.build.spirv_bytes > 0);
    CHECK(row.roof > 0);
  }
  for (const char* scope : {"blocks.0.attention.q_k_v", "blocks.3.mlp.down", "blocks.2.attention.mix", "embed", "head",
                            "loss", "norm", "optimizer.adamw"})
    CHECK(all.contains(scope));
}

TEST_CASE("profile: FLOPs of matmul rows are those of the formula", "[device]") {
  const ModelConfig c = four_layers();
  const auto B = uint64_t(kProfiledBatch), T = uint64_t(c.block_size), C = uint64_t(c.n_embd), F = uint64_t(c.hidden()),
             V = uint64_t(c.vocab_size), L = uint64_t(c.n_layer);
  // Forward; twice as much backward; the embedding's gradient is a product with one-hot rows.
  const uint64_t linear = 3 * 2 * B * T * (L * (3 * C * C + C * C + 2 * C * F) + C * V) + 2 * B * T * V * C;
  const uint64_t scores = 3 * L * 2 * 2 * B * T * T * C;
  uint64_t of_linear = 0, of_scores = 0;
  for (const KernelRow& row : four_layer_profile().rows) {
    if (row.archetype != "matmul") continue;
    const bool mix = row.scopes.front().ends_with(".mix");
    (mix ? of_scores : of_linear) += row.calls() * row.matmul_flops;
  }
  CHECK(of_linear == linear);
  // Where a kernel claims attention whole, there are no such products.
  if (of_scores != 0) CHECK(of_scores == scores);
}

// What breaks the rules of the trace format: slices of a lane that overlap without nesting, events
// without their fields. Times in whole nanoseconds.
std::vector<std::string> trace_violations(const json& trace) {
  std::vector<std::string> found;
  std::map<std::pair<int, int>, std::vector<std::array<int64_t, 2>>> lanes;
  if (!trace.contains("traceEvents")) return {"no traceEvents"};
  for (const json& event : trace["traceEvents"]) {
    const std::string kind = event.value("ph", "");
    for (const char* field : {"ph", "pid", "tid", "name", "args"})
      if (!event.contains(field)) found.push_back(std::string("no ") + field);
    if (kind == "M") continue;
    if (!event.contains("ts")) found.push_back("no ts");
    if (kind == "C") {
      if (!event["args"].contains("value")) found.push_back("a counter without a value");
    } else if (kind == "X") {
      const int64_t begin = std::llround(event["ts"].get<double>() * 1000);
      const int64_t duration = std::llround(event["dur"].get<double>() * 1000);
      if (duration < 0) found.push_back("a negative duration");
      lanes[{event["pid"], event["tid"]}].push_back({begin, begin + duration});
    } else {
      found.push_back("an event of kind '" + kind + "'");
    }
  }
  for (auto& [lane, slices] : lanes) {
    std::stable_sort(slices.begin(), slices.end(),
                     [](const auto& a, const auto& b) { return a[0] != b[0] ? a[0] < b[0] : a[1] > b[1]; });
    std::vector<int64_t> open;  // ends of the slices around this one
    for (const auto& [begin, end] : slices) {
      while (!open.empty() && open.back() <= begin) open.pop_back();
      if (!open.empty() && end > open.back()) found.push_back("slices overlap in lane " + std::to_string(lane.first));
      open.push_back(end);
    }
  }
  return found;
}

TEST_CASE("profile: the trace obeys the format's rules", "[device]") {
  const Profile& profile = four_layer_profile();
  json trace = json::parse(experiments::profile_trace(profile));
  CHECK(trace_violations(trace).empty());
  std::map<std::string, int> counters, slices;
  std::set<std::string> lanes;
  for (const json& event : trace["traceEvents"]) {
    if (event["ph"] == "C") ++counters[event["name"]];
    if (event["ph"] == "X") ++slices[event["cat"]];
    if (event["ph"] == "M" && event["name"] == "process_name") lanes.insert(event["args"]["name"]);
  }
  CHECK(lanes.size() == 2);
  const int dispatches = int(profile.dispatches.size());
  CHECK(counters["memory MiB"] == 2 * int(kSteps) * dispatches);
  CHECK(counters["GFLOP/s"] == 2 * int(kSteps) * (dispatches + 1));
  CHECK(slices["step"] == 2 * int(kSteps));
  CHECK(slices["forward"] + slices["backward"] + slices["optimizer"] == 2 * int(kSteps) * dispatches);

  // The check notices what is wrong.
  json overlapping = trace;
  for (json& event : overlapping["traceEvents"])
    if (event["ph"] == "X" && event["cat"] == "backward") {
      event["dur"] = event["dur"].get<double>() + 1e6;
      break;
    }
  CHECK_FALSE(trace_violations(overlapping).empty());
  for (json& event : trace["traceEvents"])
    if (event["ph"] == "C") {
      event["args"].clear();
      break;
    }
  CHECK_FALSE(trace_violations(trace).empty());
}

TEST_CASE("profile: JSON, CSV and speedscope are whole", "[device]") {
  const Profile& profile = four_layer_profile();
  const json whole = json::parse(experiments::profile_json(profile));
  for (const char* field : {"format",
                            "subject",
                            "program",
                            "facts",
                            "device",
                            "ceilings",
                            "steps",
                            "timestamp_ns",
                            "flops",
                            "matmul_flops",
                            "bytes",
                            "state_bytes",
                            "transient_bytes",
                            "dispatches",
                            "barriers",
                            "compile_ms",
                            "spirv_ms",
                            "pipeline_ms",
                            "whole",
                            "grouped",
                            "isolated",
                            "grouped_overhead",
                            "isolated_overhead",
                            "rows_of_step",
                            "rows"}) {
    CAPTURE(field);
    REQUIRE(whole.contains(field));
    CHECK_FALSE(whole[field].is_null());
  }
  REQUIRE(whole["rows"].size() == profile.rows.size());
  for (const json& row : whole["rows"]) {
    for (const char* field : {"id",
                              "kernel",
                              "phase",
                              "archetype",
                              "variant",
                              "scopes",
                              "places",
                              "ops",
                              "calls",
                              "dispatches",
                              "isolated",
                              "grouped",
                              "flops",
                              "matmul_flops",
                              "bytes",
                              "gflops_per_second",
                              "gigabytes_per_second",
                              "intensity",
                              "bound",
                              "roof",
                              "workgroups",
                              "workgroup_size",
                              "subgroup_size",
                              "shared_bytes",
                              "spirv_bytes",
                              "spirv_cached",
                              "pipeline_ms",
                              "pipeline_cached",
                              "pipeline_shared",
                              "nodes"}) {
      CAPTURE(field);
      REQUIRE(row.contains(field));
      CHECK_FALSE(row[field].is_null());
    }
    CHECK(row.contains("driver"));
    for (const char* mode : {"isolated", "grouped"})
      for (const char* field : {"total_ns", "median_ns", "p95_ns", "share", "totals_ns"})
        CHECK(row[mode].contains(field));
  }

  std::istringstream csv(experiments::profile_csv(profile));
  std::string line;
  size_t columns = 0, lines = 0;
  for (; std::getline(csv, line); ++lines) {
    const auto commas = size_t(std::count(line.begin(), line.end(), ','));
    if (lines == 0) columns = commas;
    CHECK(commas == columns);  // no cell has one: names, scopes and numbers
  }
  CHECK(columns > 25);
  CHECK(lines == profile.rows.size() + 1);

  const json scope = json::parse(experiments::profile_speedscope(profile));
  REQUIRE(scope["profiles"].size() == 2);
  for (const json& one : scope["profiles"]) {
    CHECK(one["type"] == "sampled");
    CHECK(one["samples"].size() == one["weights"].size());
    CHECK(sum_of(one["weights"].get<std::vector<uint64_t>>()) == one["endValue"].get<uint64_t>());
    for (const json& stack : one["samples"]) {
      CHECK(stack.size() >= 3);
      for (const json& frame : stack) CHECK(frame.get<size_t>() < scope["shared"]["frames"].size());
    }
  }
}

TEST_CASE("profile: the page needs no network and holds every kernel", "[device]") {
  Profile profile = four_layer_profile();
  engine::DriverStatistics driver;
  driver.registers = 24;
  driver.spills = 7;
  driver.raw = {{"Number of <VGPRs>", "vector registers", 24}};
  driver.representations = {{"Assembly", "ISA", "v_add_f32 v0, v1, v2 </script>"}};
  profile.rows[1].driver = driver;
  profile.rows[1].bound = experiments::BoundBy::memory;
  std::string page = experiments::profile_page(profile);
  // The library of the charts, where the build has it, names its home page.
  const std::string library(experiments::page_text("uplot_script"));
  if (!library.empty()) page.erase(page.find(library), library.size());
  for (const char* remote : {"http:", "https:", "//cdn", "url(", "@import", "<link", " src="})
    CHECK(page.find(remote) == std::string::npos);
  // Of the page two; of its chart the numbers, the library and what draws.
  CHECK(tests::occurrences(page, "</script>") == (library.empty() ? 2 : 5));
  for (const char* part : {"Roofline", "Timeline", "By model scope", "Kernels by shape", "Ceilings of this device",
                           "four layers &lt;of&gt;", "<th>registers</th>", "<th>occupancy</th>"}) {
    CAPTURE(part);
    CHECK(page.find(part) != std::string::npos);
  }
  const std::string open = "<script type=\"application/json\" id=\"data\">";
  const size_t begin = page.find(open) + open.size();
  const json kernels = json::parse(page.substr(begin, page.find("</script>", begin) - begin));
  REQUIRE(kernels.size() == profile.rows.size());
  for (size_t i = 0; i < kernels.size(); ++i) {
    CHECK(kernels[i]["glsl"] == profile.rows[i].glsl);
    CHECK(kernels[i]["spirv"] == profile.rows[i].spirv);
    CHECK(kernels[i]["nodes"].size() == profile.rows[i].nodes.size());
    CHECK(page.find(fmt::format("href=\"#kernel-{}\"", i)) != std::string::npos);
  }
  CHECK(kernels[1]["texts"][0]["text"] == "v_add_f32 v0, v1, v2 </script>");
  CHECK(kernels[1]["driver"][0][0] == "Number of <VGPRs>");
  CHECK_THAT(experiments::profile_table(profile), ContainsSubstring("registers"));
  const json row = json::parse(experiments::profile_json(profile))["rows"][1];
  CHECK(row["driver"]["spills"] == 7);
  CHECK(row["driver"]["occupancy"].is_null());
  CHECK(row["driver"]["isa"] == "v_add_f32 v0, v1, v2 </script>");
}

TEST_CASE("profile: a comparison marks what is slower beyond its spread, and nothing else", "[device]") {
  // Times of a spread that is known: a busy machine's hides a factor of three.
  Profile before = four_layer_profile();
  for (size_t row = 0; row < 3; ++row) {
    std::vector<uint64_t>& totals = before.rows[row].isolated.totals;
    for (size_t i = 0; i < totals.size(); ++i) totals[i] = 300000 + 1000 * (i % 3);
  }
  const std::string base = experiments::profile_json(before);
  const experiments::Comparison same = experiments::compare_profiles(before, base);
  CHECK(same.slower.empty());
  CHECK(same.faster.empty());
  CHECK(same.added.empty());
  CHECK(same.removed.empty());
  CHECK(same.note.empty());

  Profile after = before;
  for (uint64_t& ns : after.rows[0].isolated.totals) ns = ns * 3 + 1000;
  for (uint64_t& ns : after.rows[1].isolated.totals) ns /= 3;
  // One replay that something else disturbed is no change.
  after.rows[2].isolated.totals[0] *= 100;
  after.rows[3].id = "forward/another";
  after.device.driver = "another";
  const experiments::Comparison changed = experiments::compare_profiles(after, base);
  REQUIRE(changed.slower.size() == 1);
  CHECK(changed.slower[0].id == before.rows[0].id);
  REQUIRE(changed.faster.size() == 1);
  CHECK(changed.faster[0].id == before.rows[1].id);
  CHECK(changed.added == std::vector<std::string>{"forward/another"});
  CHECK(changed.removed == std::vector<std::string>{before.rows[3].id});
  CHECK_THAT(changed.note, ContainsSubstring("another device or driver"));
  CHECK_THAT(experiments::comparison_table(changed), ContainsSubstring("slower beyond the spread: 1"));
  CHECK_THAT(experiments::profile_page(after, &changed), ContainsSubstring("mark-slow"));

  const auto refuses = [&](const Profile& profile, const std::string& text, const char* why) {
    CHECK_THROWS_MATCHES(experiments::compare_profiles(profile, text), UserError,
                         MessageMatches(ContainsSubstring(why)));
  };
  refuses(before, "{}", "no profile.json");
  refuses(before, "not JSON", "no profile.json");
  refuses(before, R"({"rows": [{}], "whole": {}, "steps": 9})", "no profile.json");
  Profile few = before;
  few.steps = 1;
  refuses(few, base, "at least 4 steps");
}

}  // namespace
}  // namespace surtsey::tests
