// Mutated tokenizers and templates: each ends in a clear error or a result, within a second and within 64 MiB and 16
// times the file. For a build folder with sanitizers:
//
//   meson setup build-asan -Db_sanitize=address,undefined && ninja -C build-asan tests/fuzz_text
//   build-asan/tests/fuzz_text tokenizer 10000 FILE..      (tokenizer.json)
//   build-asan/tests/fuzz_text template 10000 FILE..       (.jinja)
#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "experiments/base/file.h"
#include "experiments/text/chat_template.h"
#include "experiments/text/tokenizer_json.h"
#include "graph/error.h"
#include "tests/support/mutate.h"

namespace {

// Bytes that are held now, and the most that were; the size of a block stands before it.
size_t held = 0, most_held = 0;
constexpr size_t kHeader = alignof(std::max_align_t);

void* allocate(size_t size) {
  void* block = std::malloc(size + kHeader);
  if (block == nullptr) throw std::bad_alloc();
  *static_cast<size_t*>(block) = size;
  held += size;
  most_held = std::max(most_held, held);
  return static_cast<char*>(block) + kHeader;
}

void release(void* pointer) {
  if (pointer == nullptr) return;
  void* block = static_cast<char*>(pointer) - kHeader;
  held -= *static_cast<size_t*>(block);
  std::free(block);
}

}  // namespace

void* operator new(size_t size) { return allocate(size); }
void* operator new[](size_t size) { return allocate(size); }
void operator delete(void* pointer) noexcept { release(pointer); }
void operator delete[](void* pointer) noexcept { release(pointer); }
void operator delete(void* pointer, size_t) noexcept { release(pointer); }
void operator delete[](void* pointer, size_t) noexcept { release(pointer); }

namespace {

using namespace surtsey;
using namespace surtsey::experiments;

constexpr double kSecondsLimit = 1;
constexpr size_t kBytesLimit = 64 << 20, kBytesPerByte = 16;

void use_tokenizer(const std::string& file) {
  const text::Tokenizer tokenizer = text::parse_tokenizer_json(file, "tokenizer.json");
  for (const char* given : {"Hello, world! I've 123 <mask> tokens.", "  \u4F60\u597D \u00E9\u0301\n\n</s>x<pad>",
                            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab  \t "}) {
    const std::vector<int32_t> ids = tokenizer.encode(given);
    tokenizer.decode(ids, {.skip_special_tokens = true});
    text::DecodeStream stream(tokenizer);
    for (const int32_t id : ids) stream.push(id);
    stream.finish();
  }
}

void use_template(const std::string& file) {
  const text::ChatTemplate chat(file, "template");
  const auto variables = nlohmann::ordered_json::parse(R"({"messages": [
    {"role": "system", "content": "Be brief."}, {"role": "user", "content": " Hi \u00e9 "},
    {"role": "assistant", "content": "", "tool_calls": [
      {"id": "abc123456", "type": "function", "function": {"name": "f", "arguments": {"x": 1, "y": [1.5, null]}}}]},
    {"role": "tool", "name": "f", "tool_call_id": "abc123456", "content": "20"},
    {"role": "assistant", "content": "It is 20."}, {"role": "user", "content": "Thanks"}],
    "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters":
      {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}}}],
    "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>"})");
  chat.render(variables, {"26 Jul 2024"});
}

}  // namespace

int main(int argc, char** argv) {
  const std::string kind = argc > 3 ? argv[1] : "";
  if (kind != "tokenizer" && kind != "template") {
    std::fprintf(stderr, "usage: fuzz_text tokenizer|template COUNT FILE..\n");
    return 2;
  }
  std::vector<std::string> files;
  for (int i = 3; i < argc; ++i) files.push_back(read_file(argv[i]));
  tests::Draw draw(uint32_t(files.size()));
  const bool tokenizers = kind == "tokenizer";
  const long count = std::atol(argv[2]);
  long errors = 0, results = 0, faults = 0;
  double slowest = 0;
  size_t largest = 0;
  for (long i = 0; i < count; ++i) {
    const std::string file = tests::mutated(files[size_t(i) % files.size()],
                                            tokenizers ? tests::tokenizer_words() : tests::template_words(), draw);
    const auto begin = std::chrono::steady_clock::now();
    const size_t before = most_held = held;
    std::string message;
    try {
      (tokenizers ? use_tokenizer : use_template)(file);
      ++results;
    } catch (const UserError& error) {
      message = error.what();
      ++errors;
    } catch (const std::exception& error) {
      message = fmt::format("NOT A USER ERROR: {}", error.what());
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const size_t bytes = most_held - before;
    slowest = std::max(slowest, seconds);
    largest = std::max(largest, bytes);
    const bool leaks = held > before + (1 << 20);
    if (message.starts_with("NOT") || seconds > kSecondsLimit || bytes > kBytesLimit + kBytesPerByte * file.size() ||
        leaks) {
      ++faults;
      const std::string path = fmt::format("/tmp/fuzz_{}_{}", kind, i);
      write_file_atomic(path, file);
      std::fprintf(stderr, "case %ld (%s): %.2f s, %zu bytes, %zu left: %s\n", i, path.c_str(), seconds, bytes,
                   held - before, message.c_str());
    }
  }
  std::printf("%ld errors, %ld results, %ld faults; at most %.3f s and %.1f MiB\n", errors, results, faults, slowest,
              double(largest) / (1 << 20));
  return faults > 0 ? 1 : 0;
}
