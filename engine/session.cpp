#include "engine/session.h"

#include "engine/session_state.h"
#include "shaders/emit.h"

#include <chrono>
#include <cstring>

namespace surtsey::engine {
namespace {

class Stopwatch {
 public:
  double lap_ms() {
    auto now = std::chrono::steady_clock::now();
    double ms = std::chrono::duration<double, std::milli>(now - last_).count();
    last_ = now;
    return ms;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

template <typename T>
std::vector<T> as(const std::vector<std::byte>& bytes) {
  std::vector<T> result(bytes.size() / sizeof(T));
  std::memcpy(result.data(), bytes.data(), result.size() * sizeof(T));
  return result;
}

void check_floats(const std::string& name, const graph::Type& type) {
  check(type.dtype == graph::DType::f32, "'{}' is {}, not f32", name, graph::to_string(type));
}

void check_words(const std::string& name, const graph::Type& type) {
  using graph::DType;
  check(type.dtype == DType::u32 || type.dtype == DType::i32 || type.dtype == DType::boolean,
        "'{}' is {}, not of integers", name, graph::to_string(type));
}

}  // namespace

Session::Session(Device& device, SessionOptions options) : impl_(std::make_unique<Impl>(device, std::move(options))) {}
Session::~Session() = default;

void Session::add_program(const std::string& name, const graph::Program& program, graph::CompileOptions options) {
  impl_->check_allocated(false);
  ProgramStatistics statistics;
  Stopwatch watch;
  options.name = name;
  graph::Plan plan = graph::compile(program, impl_->target, options);
  statistics.compile_ms = watch.lap_ms();
  std::vector<shaders::Shader> shaders = shaders::emit(plan, impl_->target);
  statistics.emit_ms = watch.lap_ms();
  impl_->add(name, std::move(plan), std::move(shaders), statistics);
}

void Session::add_plan(const std::string& name, graph::Plan plan, std::vector<shaders::Shader> shaders) {
  impl_->add(name, std::move(plan), std::move(shaders), {});
}

void Session::share_with_host(const std::string& state) {
  impl_->check_allocated(false);
  impl_->state(state).shared = true;
}

MemoryBudget Session::budget() const {
  impl_->reserve();
  return impl_->budget();
}

void Session::allocate() {
  Impl& s = *impl_;
  check(!s.allocated, "the session is allocated already");
  s.reserve();
  s.refuse_or_print(s.budget());
  for (Arena* arena : {&s.persistent, &s.shared, &s.transient}) {
    arena->allocate(s.context);
    // Transients are written before they are read (options.poison shows it); to touch them all takes seconds for large
    // models.
    if (arena == &s.transient) continue;
    for (const Block& block : arena->blocks()) s.transfer.fill(block, 0);
  }
  s.allocated = true;
  if (s.options.poison) s.set_sentinels();
  for (auto& [name, tensor] : s.states)
    tensor.place = (tensor.shared ? s.shared : s.persistent).place(tensor.reservation);
  for (auto& [name, loaded] : s.programs) {
    LoadedProgram& program = *loaded;
    program.executable = std::make_unique<Executable>(
        s.context, s.target, program.plan, program.shaders, program.pipelines,
        [&](uint32_t buffer) { return s.place(program, buffer); },
        ExecutableOptions{.segment_dispatches = s.options.segment_dispatches,
                          .budget_ns = s.options.submission_budget_ns.value_or(kSubmissionBudgetNs)});
  }
}

std::vector<std::string> Session::overruns() {
  check(impl_->options.poison, "sentinels are kept with SessionOptions::poison only");
  impl_->check_allocated(true);
  return impl_->overruns();
}

bool Session::has_state(const std::string& state) const { return impl_->states.contains(state); }
const graph::Type& Session::state_type(const std::string& state) const { return impl_->state(state).type; }

std::vector<std::string> Session::state_names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : impl_->states) names.push_back(name);
  return names;
}

void Session::write_bytes(const std::string& state, std::span<const std::byte> bytes) {
  const StateTensor& tensor = impl_->state(state);
  impl_->check_allocated(true);
  uint64_t expected = uint64_t(graph::element_count(tensor.type.shape) * graph::storage_bytes(tensor.type.dtype));
  check(bytes.size() == expected, "{} bytes written to '{}', which is {} and has {}", bytes.size(), state,
        graph::to_string(tensor.type), expected);
  impl_->drain();
  impl_->transfer.upload(tensor.place, 0, bytes);
}

void Session::write(const std::string& state, const graph::HostTensor& value) {
  const graph::Type& type = impl_->state(state).type;
  check(value.type == type, "{} written to '{}', which is {}", graph::to_string(value.type), state,
        graph::to_string(type));
  write_bytes(state, value.to_bytes());
}

void Session::write(const std::string& state, std::span<const float> values) {
  check_floats(state, impl_->state(state).type);
  write_bytes(state, std::as_bytes(values));
}

void Session::write(const std::string& state, std::span<const uint32_t> values) {
  check_words(state, impl_->state(state).type);
  write_bytes(state, std::as_bytes(values));
}

std::vector<std::byte> Session::read_bytes(const std::string& state) {
  const StateTensor& tensor = impl_->state(state);
  impl_->check_allocated(true);
  return impl_->download(tensor.place, tensor.type);
}

graph::HostTensor Session::read(const std::string& state) {
  return graph::HostTensor::from_bytes(impl_->state(state).type, read_bytes(state));
}

std::vector<float> Session::read_floats(const std::string& state) {
  check_floats(state, impl_->state(state).type);
  return as<float>(read_bytes(state));
}

std::vector<uint32_t> Session::read_words(const std::string& state) {
  check_words(state, impl_->state(state).type);
  return as<uint32_t>(read_bytes(state));
}

graph::HostTensor Session::read_output(const std::string& program, const std::string& output) {
  Place place;
  const graph::Buffer& buffer = impl_->output(impl_->program(program), output, place);
  return graph::HostTensor::from_bytes(buffer.type, impl_->download(place, buffer.type));
}

std::vector<float> Session::read_output_floats(const std::string& program, const std::string& output) {
  Place place;
  const graph::Buffer& buffer = impl_->output(impl_->program(program), output, place);
  check_floats(output, buffer.type);
  return as<float>(impl_->download(place, buffer.type));
}

std::vector<uint32_t> Session::read_output_words(const std::string& program, const std::string& output) {
  Place place;
  const graph::Buffer& buffer = impl_->output(impl_->program(program), output, place);
  check_words(output, buffer.type);
  return as<uint32_t>(impl_->download(place, buffer.type));
}

void Session::run(const std::string& program, uint32_t steps) { wait(submit(program, steps)); }

uint64_t Session::submit(const std::string& program, uint32_t steps) {
  Executable* executable = impl_->program(program).executable.get();
  impl_->check_allocated(true);
  if (!impl_->options.poison) return executable->submit(steps);
  uint64_t ticket = impl_->context.submitted();
  for (uint32_t step = 0; step < steps; ++step) {
    impl_->poison();
    ticket = executable->submit(1);
  }
  return ticket;
}

void Session::wait(uint64_t ticket) { impl_->context.wait(ticket); }
uint64_t Session::completed() const { return impl_->context.completed(); }

void Session::write_slot(const std::string& state, int64_t slot, std::span<const std::byte> bytes) {
  std::memcpy(impl_->slot(state, slot, bytes.size()), bytes.data(), bytes.size());
}

void Session::read_slot(const std::string& state, int64_t slot, std::span<std::byte> bytes) const {
  std::memcpy(bytes.data(), impl_->slot(state, slot, bytes.size()), bytes.size());
}

const graph::Plan& Session::plan(const std::string& program) const { return impl_->program(program).plan; }
const std::vector<shaders::Shader>& Session::shaders(const std::string& program) const {
  return impl_->program(program).shaders;
}
const ProgramStatistics& Session::statistics(const std::string& program) const {
  return impl_->program(program).statistics;
}

std::vector<DispatchTime> Session::profile(const std::string& program) {
  LoadedProgram& loaded = impl_->program(program);
  impl_->check_allocated(true);
  impl_->drain();
  TimedReplay replay = loaded.executable->run_timed(TimingMode::isolated);
  std::vector<DispatchTime> result;
  for (size_t i = 0; i < replay.dispatches.size(); ++i) {
    const graph::Dispatch& dispatch = loaded.plan.dispatches[i];
    const graph::Kernel& kernel = loaded.plan.kernels[dispatch.kernel];
    result.push_back({kernel.name, dispatch.scope, replay.dispatches[i].ns(), kernel.flops, kernel.bytes});
  }
  return result;
}

TimedReplay Session::run_timed(const std::string& program, TimingMode mode) {
  Executable* executable = impl_->program(program).executable.get();
  impl_->check_allocated(true);
  impl_->drain();
  if (impl_->options.poison) impl_->poison();
  return executable->run_timed(mode);
}

uint64_t Session::timestamp_ns(const std::string& program) {
  Executable* executable = impl_->program(program).executable.get();
  impl_->check_allocated(true);
  impl_->drain();
  return executable->timestamp_ns();
}

const std::vector<KernelBuild>& Session::builds(const std::string& program) const {
  return impl_->program(program).builds;
}

std::vector<DriverStatistics> Session::driver_statistics(const std::string& program) const {
  check(impl_->options.driver_statistics,
        "statistics of the driver are kept with SessionOptions::driver_statistics only");
  std::vector<DriverStatistics> result;
  for (const auto& pipeline : impl_->program(program).pipelines)
    if (pipeline->statistics) result.push_back(*pipeline->statistics);
  return result;
}

uint64_t Session::host_ns_per_submission(const std::string& program) const {
  const Executable* executable = impl_->program(program).executable.get();
  impl_->check_allocated(true);
  return executable->submissions() == 0 ? 0 : executable->host_ns() / executable->submissions();
}

uint64_t Session::submissions(const std::string& program) const {
  impl_->check_allocated(true);
  return impl_->program(program).executable->submissions();
}

uint32_t Session::segments(const std::string& program) const {
  impl_->check_allocated(true);
  return impl_->program(program).executable->segments();
}

uint64_t Session::arena_bytes() const {
  impl_->reserve();
  return impl_->persistent.bytes() + impl_->shared.bytes() + impl_->transient.bytes();
}

const graph::Target& Session::target() const { return impl_->target; }
Device& Session::device() { return impl_->device; }

}  // namespace surtsey::engine
