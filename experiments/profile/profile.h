// Where the time of a step goes, joined with what the step was made of.
//
// A profile replays a program in three modes, taking turns, so that what disturbs one disturbs all:
// whole (two timestamps: the step as it is), grouped (one after every dispatch, real overlap) and
// isolated (a barrier around every dispatch). Rows are kernels by shape: dispatches of one phase
// whose kernels have the same text.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/session.h"
#include "experiments/profile/ceilings.h"

namespace surtsey::experiments {

// A graph node that a kernel computes, and how: "anchor" (what the kernel was built around),
// "stored", "computed" (in registers, by more than one reader), "inlined" (in an expression).
struct OriginNode {
  std::string op;     // matmul
  std::string text;   // the line of the graph's text form, without the scope
  std::string scope;  // blocks.0.attention.mix
  std::string place;  // model.cpp:189, the line that opened the scope
  std::string phase;
  std::string role;
};

// Samples of one mode, in nanoseconds, without what a timestamp costs (Profile::timestamp_ns).
struct RowTimes {
  std::vector<uint64_t> totals;  // of all calls, one a replay
  double total = 0;              // a step, the median over replays
  double median = 0, p95 = 0;    // of one call, over calls and replays
  double share = 0;              // of the sum over rows, 0 to 1
};

enum class BoundBy : uint8_t { compute, memory, launch };
const char* name(BoundBy bound);

struct KernelRow {
  std::string id;  // "backward/matmul_tn_32x16x384"; a number follows where texts differ: the same
                   // in every profile of the same program
  std::string name;
  graph::Phase phase = graph::Phase::forward;
  std::string archetype, variant;
  std::vector<std::string> scopes;   // of all calls and nodes; that of the first anchor first
  std::vector<std::string> places;   // the same for lines of source
  std::vector<std::string> ops;      // graph ops fused in it, in order, without repetition
  std::vector<OriginNode> nodes;     // of the first call
  std::vector<uint32_t> dispatches;  // its calls, in the order of the plan
  RowTimes isolated, grouped;

  // Of one call. Bytes are logical: each operand once.
  uint64_t flops = 0, matmul_flops = 0, bytes = 0;
  // Of one call in isolation, by its median.
  double gflops = 0, gbs = 0;
  double intensity = 0;  // FLOP a byte
  BoundBy bound = BoundBy::launch;
  double roof = 0;  // share of what the bound allows

  uint32_t workgroups = 0, local_size = 0, subgroup_size = 0;  // 0: any
  engine::KernelBuild build;
  std::optional<engine::DriverStatistics> driver;  // where the driver gives them
  std::string glsl, spirv;                         // spirv with the lines of the GLSL

  size_t calls() const { return dispatches.size(); }
};

struct ModeTimes {
  std::vector<uint64_t> busy;  // ns on the device, one a replay
  std::vector<uint64_t> host;  // ns until the host knew
};

struct DispatchPlace {
  uint32_t row = 0;
  std::string scope;
  uint64_t live_bytes = 0;  // transient values that are alive while it runs
  bool barrier = false;     // before it, in the recording as it is
};

struct Profile {
  std::string subject;                                     // what was profiled, in words
  std::string program;                                     // its name
  std::vector<std::pair<std::string, std::string>> facts;  // configuration, commit, command
  engine::DeviceInfo device;
  Ceilings ceilings;
  uint32_t steps = 0;           // replays of each mode
  uint64_t timestamp_ns = 0;    // what a timestamp adds to an interval, measured; rows are without it
  std::vector<KernelRow> rows;  // the one that takes longest first, isolated
  std::vector<DispatchPlace> dispatches;
  ModeTimes whole, grouped, isolated;
  // As they were timed; at most kKeptReplays of each.
  std::vector<engine::TimedReplay> grouped_replays, isolated_replays;
  uint64_t flops = 0, matmul_flops = 0, bytes = 0;  // of a step
  uint64_t state_bytes = 0, transient_bytes = 0;
  uint32_t barriers = 0;
  double compile_ms = 0, spirv_ms = 0, pipeline_ms = 0;

  // What timestamps cost: the median over rounds of (timed - whole) / whole of the same round.
  double grouped_overhead() const;
  double isolated_overhead() const;
  // The rows of an isolated replay against the whole step of the same round: the median.
  double rows_of_step() const;
  bool has_driver_statistics() const;
};
inline constexpr size_t kKeptReplays = 10;

struct ProfileOptions {
  uint32_t steps = 20;
  uint32_t warmup = 2;
  bool texts = true;              // GLSL and SPIR-V with the rows
  bool driver_statistics = true;  // the session keeps them (SessionOptions::driver_statistics)
};

// Runs the program of an allocated session (warmup + steps) times in each mode; every run is a step
// like any other. UserError when the device cannot time dispatches.
Profile profile_program(engine::Session& session, engine::SessionProgram program, const Ceilings& ceilings,
                        const ProfileOptions& options);

// Holds the rows against other ceilings.
void judge(Profile& profile, const Ceilings& ceilings);
// The row that is furthest above a ceiling of arithmetic or memory, beyond what clocks and
// measurements differ by; null when there is none.
const KernelRow* above_its_roof(const Profile& profile);

// The value below which a share `q` of the samples lies, between neighbours by their distance; the
// samples need no order. At least one.
double quantile(std::vector<uint64_t> samples, double q);

// ---- what is written ----

std::string profile_table(const Profile& profile);  // for the terminal
std::string profile_json(const Profile& profile);
std::string profile_csv(const Profile& profile);

// Chrome's trace format, for Perfetto: a process a mode, a lane a queue, slices of a lane nested
// (replay, phase, kernel) and never overlapping; counters of live memory and GFLOP/s.
std::string profile_trace(const Profile& profile);
// speedscope's format: phase, scope, kernel as a stack, in the order of time and weighted by it.
std::string profile_speedscope(const Profile& profile);

// Kernels that became slower than their spread explains: the faster quarter of the new replays
// takes longer than the slower quarter of the old ones. `base` is a profile.json; UserError when it
// is none, or there are fewer than 4 replays on either side.
struct Change {
  std::string id;
  double before = 0, after = 0;  // ns a step, medians
};
struct Comparison {
  std::vector<Change> slower, faster;       // the largest difference first
  std::vector<std::string> added, removed;  // ids in one profile only
  double before = 0, after = 0;             // the whole step, medians
  std::string note;                         // when the two are not alike: another device, another subject
};
void check_base(const std::string& base, int64_t steps);  // the same errors, before anything runs
Comparison compare_profiles(const Profile& profile, const std::string& base);
std::string comparison_table(const Comparison& comparison);

// The page: one file, no network; see profile/page.cpp.
std::string profile_page(const Profile& profile, const Comparison* comparison = nullptr);

}  // namespace surtsey::experiments
