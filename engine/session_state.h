// What a session is made of: programs, state tensors, arenas.
#pragma once

#include "engine/executable.h"
#include "engine/session.h"

#include <cstring>
#include <map>

namespace surtsey::engine {

struct StateTensor {
  graph::Type type;  // of all members
  uint64_t bytes = 0;
  bool shared = false;
  size_t reservation = 0;
  Place place;
};

struct LoadedProgram {
  Session::Impl* session = nullptr;
  graph::Plan plan;
  std::vector<shaders::Shader> shaders;
  std::vector<std::shared_ptr<const Pipeline>> pipelines;
  std::vector<KernelBuild> builds;  // one per kernel
  ProgramStatistics statistics;
  std::map<uint32_t, size_t> output_reservations;  // by buffer of the plan
  Members members;
  std::map<uint32_t, uint64_t> member_bytes;                 // by buffer of the plan: state that members own
  std::unique_ptr<Executable> executable;                    // of the first members
  std::map<int64_t, std::unique_ptr<Executable>> of_others;  // by the first of them, where they were run
};

// UserError when a tensor of this name and type is not of f32, or not of integers.
void check_floats(const std::string& name, const graph::Type& type);
void check_words(const std::string& name, const graph::Type& type);

template <typename T>
std::vector<T> as(const std::vector<std::byte>& bytes) {
  std::vector<T> result(bytes.size() / sizeof(T));
  std::memcpy(result.data(), bytes.data(), result.size() * sizeof(T));
  return result;
}

struct Session::Impl {
  Impl(Device& opened, SessionOptions chosen);
  ~Impl();

  LoadedProgram& program(const std::string& name);
  StateTensor& state(const std::string& name);
  void check_allocated(bool expected) const;
  LoadedProgram& add(const std::string& name, graph::Plan plan, std::vector<shaders::Shader> shaders,
                     ProgramStatistics statistics, Members members = {});
  void merge_states(const std::string& name, LoadedProgram& loaded);
  std::unique_ptr<Executable> record(const LoadedProgram& program, int64_t first_member);
  Executable& executable(LoadedProgram& program, int64_t first_member);
  void reserve();
  MemoryBudget budget() const;
  void refuse_or_print(const MemoryBudget& budget) const;
  Place transient_place(const graph::Buffer& buffer) const;
  Place place(const LoadedProgram& program, uint32_t buffer, int64_t first_member);
  void drain();
  void poison();
  size_t reserve_apart(Arena& arena, uint64_t bytes, const std::string& what);
  void set_sentinels();
  std::vector<std::string> overruns();
  std::vector<std::byte> download(const Place& place, const graph::Type& type);
  const graph::Buffer& output(const LoadedProgram& program, const std::string& output, Place& place);
  std::byte* slot(const std::string& state, int64_t slot, size_t bytes);

  Device& device;
  Context& context;
  SessionOptions options;
  std::string cache;  // folder of the caches on disk, empty for none
  graph::Target target;
  PipelineStore pipelines;
  Transfer transfer;
  uint64_t alignment;
  std::map<std::string, StateTensor> states;
  std::map<std::string, std::unique_ptr<LoadedProgram>> programs;
  Arena persistent, shared, transient;
  std::vector<size_t> transient_pieces;
  struct Owned {
    Arena* arena;
    size_t reservation;
    uint64_t bytes;
    std::string what;
  };
  std::vector<Owned> owned;  // with poison: everything between sentinels
  bool reserved = false;
  bool allocated = false;
};

}  // namespace surtsey::engine
