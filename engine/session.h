// Programs over one set of named state tensors: the face that experiments see.
//
//   engine::Session session(device);
//   const engine::SessionProgram train = session.add_program("train", training);  // its parameters become state
//   const engine::SessionProgram evaluate = session.add_program("evaluate", evaluation);
//   session.allocate();  // prints the memory budget, or refuses; state is zero after it
//   session.write("x", x);
//   train.run(100);  // a hundred replays of one recording
//   evaluate.run();
//   const float loss = evaluate.read_floats("loss")[0];
//
// (From tests/engine/test_session.cpp, which runs it.)
//
// State tensors of the same name are one tensor for all programs. Programs do not overlap in time and share one
// transient arena. Reads and writes wait for everything that was submitted; the slots of tensors that are shared with
// the host are the exception. One thread drives a session; write_slot, read_slot, wait and completed may be called from
// others.
#pragma once

#include "engine/device.h"
#include "engine/driver_statistics.h"
#include "engine/profiler.h"
#include "graph/compile.h"
#include "graph/host_tensor.h"
#include "shaders/spirv.h"

#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace surtsey::engine {

struct SessionOptions {
  // Instead of the device's own: switches and variants, never more than the device can.
  std::optional<graph::Target> target;
  // Folder of the caches of SPIR-V and pipelines, empty for none; unset: shaders::default_cache_directory().
  std::optional<std::string> cache;
  bool poison = false;  // fills the transient arena with NaN before every step (tests; one step per submission)
  uint32_t segment_dispatches = 0;               // see ExecutableOptions
  std::optional<uint64_t> submission_budget_ns;  // of a GPU; unset: 150 ms
  bool driver_statistics = false;  // keeps what the driver says of each kernel; it then compiles past its own cache
  bool quiet = false;              // no budget on stderr
};

struct MemoryBudget {
  uint64_t state = 0;      // state tensors and outputs of programs
  uint64_t transient = 0;  // the largest of all programs
  uint64_t available = 0;  // of the heap
  uint64_t heap = 0;
  std::string largest;  // the program with the largest transient arena
  uint64_t total() const { return state + transient; }
};

struct ProgramStatistics {
  double compile_ms = 0;   // graph to plan
  double emit_ms = 0;      // plan to GLSL
  double pipeline_ms = 0;  // SPIR-V to pipelines
  shaders::SpirvStatistics spirv;
};

// Of a program that runs for some of the members (models, texts, ..) that its session has side by side: which of its
// state tensors members own, by name, or by what names begin with and a '*'.
struct Members {
  std::set<std::string> state;
  int64_t all = 1;   // of the session: its tensors have them as a leading axis
  int64_t some = 1;  // of the program: its tensors have so many of them, and no such axis where it is one
};

struct LoadedProgram;

// A program of a session: a small value to be passed around, good as long as the session is. A default one is none, and
// whatever is asked of it is a UserError.
class SessionProgram {
 public:
  SessionProgram() = default;
  const std::string& name() const;

  // submit() and Session::wait().
  void run(uint32_t steps = 1) const;
  // Hands over `steps` replays and returns at once (but for the first steps on a GPU, which are timed). Tickets of a
  // session complete in order.
  uint64_t submit(uint32_t steps = 1) const;
  // The same over the members `first` and after it, of a program that was added with Members; the others are left as
  // they are. The first time, it is recorded for them. (run() and submit() take the first members.) UserError: there
  // are no such members.
  void run_at(int64_t first, uint32_t steps = 1) const;
  uint64_t submit_at(int64_t first, uint32_t steps = 1) const;

  // Outputs keep their value until the next run of their program. UserError when the name is not known, or the output
  // is not of floats, or of words.
  graph::HostTensor read(const std::string& output) const;
  std::vector<float> read_floats(const std::string& output) const;    // f32
  std::vector<uint32_t> read_words(const std::string& output) const;  // u32, i32, boolean

  // ---- what it is ----
  const graph::Plan& plan() const;
  const std::vector<shaders::Shader>& shaders() const;  // one per kernel of the plan, as all of these
  const std::vector<KernelBuild>& builds() const;
  // With SessionOptions::driver_statistics. Empty where the driver says nothing.
  std::vector<DriverStatistics> driver_statistics() const;
  const ProgramStatistics& statistics() const;

  // ---- how it runs ----
  // Runs one step, which counts as any other, and waits (on a GPU, the first time, a step more: see
  // Executable::run_timed).
  TimedReplay run_timed(TimingMode mode) const;
  // What a timestamp itself adds to the time of a dispatch, by a measurement on the device.
  uint64_t timestamp_ns() const;
  // CPU time of the submitting thread per submission to the queue (of up to 16 steps), since allocate(); 0 before the
  // first.
  uint64_t host_ns_per_submission() const;
  uint64_t submissions() const;
  uint32_t segments() const;  // of the recording

 private:
  friend class Session;
  explicit SessionProgram(LoadedProgram& loaded) : loaded_(&loaded) {}
  LoadedProgram& loaded() const;
  LoadedProgram& allocated() const;  // UserError before Session::allocate()

  LoadedProgram* loaded_ = nullptr;
};

class Session {
 public:
  explicit Session(Device& device, SessionOptions options = {});
  ~Session();  // waits
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Compiles. UserError when the name is taken or a state tensor has another type than in an earlier program.
  // `options.name` is the program's.
  SessionProgram add_program(const std::string& name, const graph::Program& program,
                             graph::CompileOptions options = {});
  // One that runs for some members of the session's state, see SessionProgram::run_at(). UserError when a member of one
  // of these tensors has no multiple of 16 bytes.
  SessionProgram add_program(const std::string& name, const graph::Program& program, graph::CompileOptions options,
                             Members members);
  // The same for a plan that is made by hand or was altered; one shader per kernel.
  SessionProgram add_plan(const std::string& name, graph::Plan plan, std::vector<shaders::Shader> shaders);
  // UserError, with the names that there are, when none is called so.
  SessionProgram program(const std::string& name) const;
  // The host writes or reads slots of this state tensor while programs run: it gets memory that the
  // host sees. Before allocate().
  void share_with_host(const std::string& state);

  // Places and allocates everything, state and outputs zero-filled, and records the programs.
  // UserError, before anything is allocated, when it does not fit: what is needed and what there is.
  void allocate();
  MemoryBudget budget() const;

  bool has_state(const std::string& state) const;
  const graph::Type& state_type(const std::string& state) const;
  std::vector<std::string> state_names() const;  // sorted

  // UserError when the name is not known, or the type or the count differs.
  void write(const std::string& state, const graph::HostTensor& value);
  void write(const std::string& state, std::span<const float> values);     // f32
  void write(const std::string& state, std::span<const uint32_t> values);  // u32, i32, boolean
  void write_bytes(const std::string& state, std::span<const std::byte> bytes);
  graph::HostTensor read(const std::string& state);
  std::vector<float> read_floats(const std::string& state);
  std::vector<uint32_t> read_words(const std::string& state);
  std::vector<std::byte> read_bytes(const std::string& state);

  void wait(uint64_t ticket);  // of SessionProgram::submit
  uint64_t completed() const;  // tickets up to this one

  // One slice along the leading axis of a tensor that is shared with the host, while work may be in
  // flight. The caller sees to it that nothing in flight touches this slot: slot = step mod R, and
  // the ticket of its last reader has completed. What is written before a submit is seen by it.
  void write_slot(const std::string& state, int64_t slot, std::span<const std::byte> bytes);
  void read_slot(const std::string& state, int64_t slot, std::span<std::byte> bytes) const;

  uint64_t arena_bytes() const;  // allocated on the device

  // With poison: the tensors past whose end, or before whose start, something was written. Waits.
  std::vector<std::string> overruns();

  const graph::Target& target() const;
  Device& device();

  struct Impl;  // session_state.h

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace surtsey::engine
