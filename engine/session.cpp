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

}  // namespace

Session::Session(Device& device, SessionOptions options) : impl_(std::make_unique<Impl>(device, std::move(options))) {}
Session::~Session() = default;

SessionProgram Session::add_program(const std::string& name, const graph::Program& program,
                                    graph::CompileOptions options) {
  return add_program(name, program, std::move(options), Members{});
}

SessionProgram Session::add_program(const std::string& name, const graph::Program& program,
                                    graph::CompileOptions options, Members members) {
  impl_->check_allocated(false);
  ProgramStatistics statistics;
  Stopwatch watch;
  options.name = name;
  graph::Plan plan = graph::compile(program, impl_->target, options);
  statistics.compile_ms = watch.lap_ms();
  std::vector<shaders::Shader> shaders = shaders::emit(plan, impl_->target);
  statistics.emit_ms = watch.lap_ms();
  return SessionProgram(impl_->add(name, std::move(plan), std::move(shaders), statistics, std::move(members)));
}

SessionProgram Session::add_plan(const std::string& name, graph::Plan plan, std::vector<shaders::Shader> shaders) {
  return SessionProgram(impl_->add(name, std::move(plan), std::move(shaders), {}));
}

SessionProgram Session::program(const std::string& name) const { return SessionProgram(impl_->program(name)); }

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
  for (auto& [name, loaded] : s.programs) loaded->executable = s.record(*loaded, 0);
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

void Session::wait(uint64_t ticket) { impl_->context.wait(ticket); }
uint64_t Session::completed() const { return impl_->context.completed(); }

void Session::write_slot(const std::string& state, int64_t slot, std::span<const std::byte> bytes) {
  std::memcpy(impl_->slot(state, slot, bytes.size()), bytes.data(), bytes.size());
}

void Session::read_slot(const std::string& state, int64_t slot, std::span<std::byte> bytes) const {
  std::memcpy(bytes.data(), impl_->slot(state, slot, bytes.size()), bytes.size());
}

uint64_t Session::arena_bytes() const {
  impl_->reserve();
  return impl_->persistent.bytes() + impl_->shared.bytes() + impl_->transient.bytes();
}

const graph::Target& Session::target() const { return impl_->target; }
Device& Session::device() { return impl_->device; }

}  // namespace surtsey::engine
