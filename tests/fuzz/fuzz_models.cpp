// Thousands of mutated files of models, for a build folder with sanitizers:
//   meson setup build-asan -Db_sanitize=address,undefined -Db_lundef=false --buildtype=debugoptimized
//   ninja -C build-asan tests/fuzz_models && build-asan/tests/fuzz_models 10000
// Each must open and read, or be refused with a message that names the file, within a second and within 64 MiB and 16
// times the file's size of memory. Prints a line a kind; exit status 1 when one did not.
#include "tests/fuzz/model_files.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>

namespace {

// What operator new has given out and not yet got back.
uint64_t g_live = 0, g_peak = 0;

void* allocate(size_t size) {
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  g_live += malloc_usable_size(memory);
  g_peak = std::max(g_peak, g_live);
  return memory;
}

void release(void* memory) {
  if (memory != nullptr) g_live -= malloc_usable_size(memory);
  std::free(memory);
}

}  // namespace

void* operator new(size_t size) { return allocate(size); }
void* operator new[](size_t size) { return allocate(size); }
void operator delete(void* memory) noexcept { release(memory); }
void operator delete[](void* memory) noexcept { release(memory); }
void operator delete(void* memory, size_t) noexcept { release(memory); }
void operator delete[](void* memory, size_t) noexcept { release(memory); }

int main(int argc, char** argv) {
  using namespace surtsey::tests;
  const uint64_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1000;
  const uint64_t first = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0;
  bool failed = false;
  for (const char* kind : kModelFiles) {
    const Folder folder;
    double slowest = 0, most = 0;
    uint64_t number = first;
    try {
      const FuzzCount counts = fuzz_models(
          kind, first, count, std::string(SURTSEY_SOURCE_ROOT) + "/tests/golden/gguf", folder,
          [&](uint64_t size, const std::function<void()>& work) {
            const uint64_t before = g_live;
            g_peak = g_live;
            const auto start = std::chrono::steady_clock::now();
            work();
            const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
            const double share = double(g_peak - before) / (double(64 << 20) + 16 * double(size));
            if (seconds > 1 || share > 1) {
              fmt::print("{} {}: {:.2f} s, {} bytes for a file of {}\n", kind, number, seconds, g_peak - before, size);
              failed = true;
            }
            slowest = std::max(slowest, seconds);
            most = std::max(most, share);
            ++number;
          });
      fmt::print("{:12} {} files: {} accepted, {} refused, slowest {:.0f} ms, at most {:.3f} of the memory allowed\n",
                 kind, count, counts.accepted, counts.refused, 1000 * slowest, most);
    } catch (const std::exception& error) {
      fmt::print("{} {}: {}\n", kind, number, error.what());
      failed = true;
    }
    std::fflush(stdout);
  }
  return failed ? 1 : 0;
}
