#include "engine/session_state.h"

#include "engine/tuned_tiles.h"
#include "graph/debug.h"
#include "shaders/reflect.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <mutex>

namespace surtsey::engine {
namespace {

constexpr uint32_t kPoison = 0x7fc0dead;  // a NaN as f32, far out of range as an index

double mib(uint64_t bytes) { return double(bytes) / (1 << 20); }

uint64_t type_bytes(const graph::Type& type) {
  return uint64_t(graph::element_count(type.shape)) * uint64_t(graph::storage_bytes(type.dtype));
}

uint64_t placement_alignment(const Context& context, const graph::Target& target) {
  uint64_t atom = context.capabilities.properties.limits.nonCoherentAtomSize;
  return std::max<uint64_t>({256, target.storage_offset_alignment, atom});
}

bool owned_by_members(const std::set<std::string>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    if (!pattern.ends_with('*')) return pattern == name;
    return name.starts_with(std::string_view(pattern).substr(0, pattern.size() - 1));
  });
}

// The session's tensor of all members, of which a program has some. Kernels load and store 16 bytes at most at once,
// and rely on where a tensor begins.
graph::Type of_all_members(const graph::Buffer& buffer, const Members& members, const std::string& program) {
  constexpr uint64_t kAligned = 16;
  graph::Type type = buffer.type;
  if (members.some > 1) {
    check(!type.shape.empty() && type.shape[0] == members.some,
          "state tensor '{}' of program '{}' is {} and has no axis of {} members", buffer.name, program,
          graph::to_string(type), members.some);
    type.shape[0] = members.all;
  } else {
    type.shape.insert(type.shape.begin(), members.all);
  }
  check(type_bytes(type) / uint64_t(members.all) % kAligned == 0,
        "a member's part of state tensor '{}' {} has no multiple of {} bytes", buffer.name, graph::to_string(type),
        kAligned);
  return type;
}

// Once a process: whoever asks for matrices that were judged slow (a checkpoint, `--variant`) gets them.
void say_if_slow(const graph::Target& target) {
  if (target.matmul != graph::MatmulVariant::cooperative || target.cooperative_off.empty()) return;
  static std::once_flag said;
  std::call_once(said, [&] {
    fmt::print(stderr, "matrices: those of {} are used as they were asked for, though {}\n", target.name,
               target.cooperative_off);
  });
}

}  // namespace

void check_floats(const std::string& name, const graph::Type& type) {
  check(type.dtype == graph::DType::f32, "'{}' is {}, not f32", name, graph::to_string(type));
}

void check_words(const std::string& name, const graph::Type& type) {
  using graph::DType;
  check(type.dtype == DType::u32 || type.dtype == DType::i32 || type.dtype == DType::boolean,
        "'{}' is {}, not of integers", name, graph::to_string(type));
}

Session::Impl::Impl(Device& opened, SessionOptions chosen)
    : device(opened),
      context(opened.context()),
      options(std::move(chosen)),
      cache(options.cache.value_or(shaders::default_cache_directory())),
      target(with_tuned_tiles(options.target.value_or(opened.target()), opened, cache)),
      pipelines(context, target, cache, options.driver_statistics),
      transfer(context),
      alignment(placement_alignment(context, target)),
      persistent("state", Residence::device, alignment, target.max_allocation),
      shared("state shared with the host", Residence::host, alignment, target.max_allocation),
      transient("transients", Residence::device, alignment, target.max_allocation) {
  check(target.addressing == graph::Addressing::descriptor || context.buffer_address,
        "address mode was asked for, but {} has no buffer addresses", device.info().name);
  say_if_slow(target);
  check(target.max_allocation % alignment == 0, "blocks of {} bytes are no multiple of {}", target.max_allocation,
        alignment);
}

Session::Impl::~Impl() {
  try {
    context.wait(context.submitted());
  } catch (const DeviceError&) {
    // Lost; whoever waited for the work has been told.
  }
}

LoadedProgram& Session::Impl::program(const std::string& name) {
  auto found = programs.find(name);
  if (found == programs.end()) {
    std::string names;
    for (const auto& [known, loaded] : programs) names += (names.empty() ? "" : ", ") + known;
    throw UserError(fmt::format("no program is called '{}'; there are: {}", name, names));
  }
  return *found->second;
}

StateTensor& Session::Impl::state(const std::string& name) {
  auto found = states.find(name);
  check(found != states.end(), "no program of this session has a state tensor '{}' ({} others)", name, states.size());
  return found->second;
}

void Session::Impl::check_allocated(bool expected) const {
  if (expected)
    check(allocated, "the session has to be allocated first");
  else
    check(!reserved,
          "the session's memory is planned already; add programs and share tensors before budget() "
          "and allocate()");
}

void Session::Impl::merge_states(const std::string& name, LoadedProgram& loaded) {
  const Members& members = loaded.members;
  for (uint32_t i = 0; i < loaded.plan.buffers.size(); ++i) {
    const graph::Buffer& buffer = loaded.plan.buffers[i];
    if (buffer.kind != graph::BufferKind::state) continue;
    graph::Type type = buffer.type;
    const bool own = members.all > 1 && owned_by_members(members.state, buffer.name);
    if (own) {
      type = of_all_members(buffer, members, name);
      loaded.member_bytes[i] = type_bytes(type) / uint64_t(members.all);
    }
    auto [found, added] = states.try_emplace(buffer.name);
    StateTensor& tensor = found->second;
    if (added) tensor.type = type;
    check(tensor.type == type, "state tensor '{}' is {} in program '{}' and {} in an earlier one", buffer.name,
          graph::to_string(type), name, graph::to_string(tensor.type));
    tensor.bytes = std::max({tensor.bytes, own ? 0 : buffer.bytes, type_bytes(type)});
  }
}

LoadedProgram& Session::Impl::add(const std::string& name, graph::Plan plan, std::vector<shaders::Shader> shaders,
                                  ProgramStatistics statistics, Members members) {
  check_allocated(false);
  check(members.some >= 1 && members.some <= members.all, "program '{}' is of {} members of {}", name, members.some,
        members.all);
  check(!programs.contains(name), "there is a program '{}' already", name);
  plan.name = name;
  auto loaded = std::make_unique<LoadedProgram>();
  loaded->session = this;
  if (debug_level() >= 3) fmt::print(stderr, "{}\n", graph::print(plan));
  dump(name + ".plan", graph::print(plan));
  std::vector<shaders::Spirv> spirv = shaders::compile_spirv(shaders, cache, &statistics.spirv);
  auto start = std::chrono::steady_clock::now();
  std::vector<bool> made;
  loaded->pipelines = pipelines.get(shaders, spirv, &made);
  statistics.pipeline_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  for (size_t i = 0; i < shaders.size(); ++i) {
    const Pipeline& pipeline = *loaded->pipelines[i];
    loaded->builds.push_back({.spirv_bytes = spirv[i].size() * sizeof(uint32_t),
                              .shared_bytes = shaders::reflect(spirv[i]).shared_bytes,
                              .spirv_cached = statistics.spirv.cached.at(i),
                              .pipeline_ms = made[i] ? pipeline.create_ms : 0,
                              .pipeline_cached = pipeline.from_cache,
                              .shared = !made[i]});
  }
  if (debug_level() >= 1)
    fmt::print(stderr,
               "{}: {} kernels in {} dispatches, {:.1f} MiB transient; compiled in {:.0f} ms, "
               "SPIR-V {:.0f} ms ({} of {} from cache), pipelines {:.0f} ms\n",
               name, plan.kernels.size(), plan.dispatches.size(), mib(plan.transient_bytes),
               statistics.compile_ms + statistics.emit_ms, statistics.spirv.milliseconds, statistics.spirv.from_cache,
               shaders.size(), statistics.pipeline_ms);
  loaded->plan = std::move(plan);
  loaded->members = std::move(members);
  merge_states(name, *loaded);
  loaded->shaders = std::move(shaders);
  loaded->statistics = statistics;
  return *programs.emplace(name, std::move(loaded)).first->second;
}

void Session::Impl::reserve() {
  if (reserved) return;
  reserved = true;
  for (auto& [name, tensor] : states)
    tensor.reservation =
        reserve_apart(tensor.shared ? shared : persistent, tensor.bytes, fmt::format("state tensor '{}'", name));
  uint64_t largest = 0;
  for (auto& [name, loaded] : programs) {
    for (uint32_t i = 0; i < loaded->plan.buffers.size(); ++i) {
      const graph::Buffer& buffer = loaded->plan.buffers[i];
      if (buffer.kind == graph::BufferKind::output)
        loaded->output_reservations[i] = reserve_apart(persistent, std::max(buffer.bytes, type_bytes(buffer.type)),
                                                       fmt::format("output '{}' of program '{}'", buffer.name, name));
      if (buffer.kind == graph::BufferKind::transient && buffer.bytes > 0)
        check(buffer.offset / target.max_allocation == (buffer.offset + buffer.bytes - 1) / target.max_allocation,
              "program '{}': the value {} {} of {:.1f} MiB crosses the end of a block; this device "
              "allocates at most {:.1f} MiB at a time",
              name, buffer.name, graph::to_string(buffer.type), mib(buffer.bytes), mib(target.max_allocation));
    }
    largest = std::max(largest, loaded->plan.transient_bytes);
  }
  for (uint64_t done = 0; done < largest; done += target.max_allocation)
    transient_pieces.push_back(transient.reserve(std::min(target.max_allocation, largest - done), "transients"));
}

MemoryBudget Session::Impl::budget() const {
  MemoryBudget result;
  result.state = persistent.bytes() + shared.bytes();
  result.transient = transient.bytes();
  uint64_t largest = 0;
  for (const auto& [name, loaded] : programs)
    if (loaded->plan.transient_bytes >= largest) {
      largest = loaded->plan.transient_bytes;
      result.largest = name;
    }
  HeapSpace space = heap_space(context, Residence::device);
  result.available = space.available_bytes;
  result.heap = space.heap_bytes;
  return result;
}

void Session::Impl::refuse_or_print(const MemoryBudget& budget) const {
  check(budget.total() <= budget.available,
        "this does not fit {}: {:.1f} MiB are needed ({:.1f} state and outputs, {:.1f} transient "
        "in program '{}') and {:.1f} MiB are available of a "
        "heap of {:.1f} MiB. Transients grow with the batch size and the context length",
        device.info().name, mib(budget.total()), mib(budget.state), mib(budget.transient), budget.largest,
        mib(budget.available), mib(budget.heap));
  if (options.quiet) return;
  fmt::print(stderr,
             "memory: {:.1f} MiB state and outputs + {:.1f} MiB transient (program '{}') = {:.1f} "
             "MiB of {:.1f} MiB available\n",
             mib(budget.state), mib(budget.transient), budget.largest, mib(budget.total()), mib(budget.available));
}

Place Session::Impl::transient_place(const graph::Buffer& buffer) const {
  Place piece = transient.place(transient_pieces.at(buffer.offset / target.max_allocation));
  piece.offset += buffer.offset % target.max_allocation;
  piece.bytes = buffer.bytes;
  return piece;
}

Place Session::Impl::place(const LoadedProgram& loaded, uint32_t index, int64_t first_member) {
  const graph::Buffer& buffer = loaded.plan.buffers.at(index);
  switch (buffer.kind) {
    case graph::BufferKind::state: {
      Place all = states.at(buffer.name).place;
      const auto member = loaded.member_bytes.find(index);
      if (member != loaded.member_bytes.end()) {
        all.offset += uint64_t(first_member) * member->second;
        all.bytes = uint64_t(loaded.members.some) * member->second;
      }
      return all;
    }
    case graph::BufferKind::output:
      return persistent.place(loaded.output_reservations.at(index));
    case graph::BufferKind::transient:
      break;
  }
  return transient_place(buffer);
}

std::unique_ptr<Executable> Session::Impl::record(const LoadedProgram& program, int64_t first_member) {
  return std::make_unique<Executable>(
      context, target, program.plan, program.shaders, program.pipelines,
      [&](uint32_t buffer) { return place(program, buffer, first_member); },
      ExecutableOptions{.segment_dispatches = options.segment_dispatches,
                        .budget_ns = options.submission_budget_ns.value_or(kSubmissionBudgetNs)});
}

Executable& Session::Impl::executable(LoadedProgram& program, int64_t first_member) {
  if (first_member == 0) return *program.executable;
  const Members& members = program.members;
  check(first_member > 0 && first_member + members.some <= members.all,
        "program '{}' runs for {} of {} members, not for those from {} on", program.plan.name, members.some,
        members.all, first_member);
  std::unique_ptr<Executable>& found = program.of_others[first_member];
  if (!found) found = record(program, first_member);
  return *found;
}

void Session::Impl::drain() { context.wait(context.submitted()); }

void Session::Impl::poison() {
  drain();
  for (const Block& block : transient.blocks()) transfer.fill(block, kPoison);
}

size_t Session::Impl::reserve_apart(Arena& arena, uint64_t bytes, const std::string& what) {
  if (!options.poison) return arena.reserve(bytes, what);
  if (owned.empty() || owned.back().arena != &arena) arena.reserve(alignment, "sentinel");
  const size_t reservation = arena.reserve(bytes, what);
  arena.reserve(alignment, "sentinel");
  owned.push_back({&arena, reservation, bytes, what});
  return reservation;
}

// Everything that no tensor owns holds the pattern.
void Session::Impl::set_sentinels() {
  for (Arena* arena : {&persistent, &shared})
    for (const Block& block : arena->blocks()) transfer.fill(block, kPoison);
  for (const Owned& tensor : owned)
    transfer.upload(tensor.arena->place(tensor.reservation), 0, std::vector<std::byte>(tensor.bytes));
}

std::vector<std::string> Session::Impl::overruns() {
  drain();
  std::vector<std::string> found;
  std::vector<std::byte> pattern(3 * alignment);
  for (uint64_t i = 0; i < pattern.size(); i += sizeof kPoison)
    std::memcpy(pattern.data() + i, &kPoison, sizeof kPoison);
  const auto intact = [&](const Block* block, uint64_t begin, uint64_t end) {
    std::vector<std::byte> zone(end - begin);
    transfer.download({block, begin, end - begin}, 0, zone);
    const auto shift = std::ptrdiff_t(begin % sizeof kPoison);
    return std::equal(zone.begin(), zone.end(), pattern.begin() + shift);
  };
  for (const Owned& tensor : owned) {
    const Place place = tensor.arena->place(tensor.reservation);
    const uint64_t end = place.offset + tensor.bytes;
    const uint64_t slack = (end + alignment - 1) / alignment * alignment;
    if (!intact(place.block, end, slack + alignment - sizeof kPoison))
      found.push_back("past the end of " + tensor.what);
    if (place.offset >= alignment && !intact(place.block, place.offset - alignment, place.offset))
      found.push_back("before the start of " + tensor.what);
  }
  return found;
}

std::vector<std::byte> Session::Impl::download(const Place& place, const graph::Type& type) {
  drain();
  std::vector<std::byte> bytes(type_bytes(type));
  transfer.download(place, 0, bytes);
  return bytes;
}

const graph::Buffer& Session::Impl::output(const LoadedProgram& loaded, const std::string& output, Place& place) {
  check_allocated(true);
  std::string names;
  for (const auto& [index, reservation] : loaded.output_reservations) {
    const graph::Buffer& buffer = loaded.plan.buffers[index];
    names += (names.empty() ? "" : ", ") + buffer.name;
    if (buffer.name != output) continue;
    place = persistent.place(reservation);
    return buffer;
  }
  throw UserError(fmt::format("program '{}' has no output '{}'; it has: {}", loaded.plan.name, output, names));
}

std::byte* Session::Impl::slot(const std::string& name, int64_t slot, size_t bytes) {
  const StateTensor& tensor = state(name);
  check_allocated(true);
  check(tensor.shared, "state tensor '{}' is not shared with the host; call share_with_host before allocate", name);
  check(!tensor.type.shape.empty() && slot >= 0 && slot < tensor.type.shape[0], "slot {} of '{}', which is {}", slot,
        name, graph::to_string(tensor.type));
  uint64_t slice = type_bytes(tensor.type) / uint64_t(tensor.type.shape[0]);
  check(bytes == slice, "{} bytes for a slot of '{}', which has {}", bytes, name, slice);
  return tensor.place.block->mapped + tensor.place.offset + uint64_t(slot) * slice;
}

}  // namespace surtsey::engine
