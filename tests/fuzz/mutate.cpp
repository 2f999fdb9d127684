#include "tests/fuzz/mutate.h"

#include <algorithm>
#include <cctype>
#include <cstring>

namespace surtsey::tests {
namespace {

constexpr uint64_t kEdges[] = {0,          1,          2,          31,          32,         255,        256,
                               65535,      65536,      0x7fffffff, 0x80000000u, 0xffffffff, 1ull << 32, 1ull << 40,
                               1ull << 62, ~0ull >> 1, 1ull << 63, ~0ull - 31,  ~0ull};
constexpr const char* kWords[] = {"null",
                                  "true",
                                  "false",
                                  "[]",
                                  "{}",
                                  "\"\"",
                                  "-1",
                                  "0",
                                  "1e999",
                                  "1e30",
                                  "1.5",
                                  "[[",
                                  "]]",
                                  "\"x\"",
                                  "-0.0",
                                  "9999999999999999999999",
                                  "4",
                                  "1000",
                                  "1001",
                                  "1048577",
                                  "9223372036854775807",
                                  "18446744073709551615"};

size_t place(const std::string& content, size_t header, Draws& draws) {
  const size_t within = draws.below(10) > 0 ? std::min(header, content.size()) : content.size();
  return size_t(draws.below(within));
}

// The number or word of JSON that is at `at` or follows it.
void replace_word(std::string& content, size_t at, Draws& draws) {
  const auto part = [&](size_t i) {
    const auto letter = static_cast<unsigned char>(content[i]);
    return std::isalnum(letter) || letter == '-' || letter == '.' || letter == '_';
  };
  while (at < content.size() && !part(at)) ++at;
  size_t end = at;
  while (end < content.size() && part(end)) ++end;
  content.replace(at, end - at, kWords[draws.below(std::size(kWords))]);
}

void change(std::string& content, size_t header, bool text, Draws& draws) {
  const size_t at = place(content, header, draws), length = size_t(1 + draws.below(draws.below(4) == 0 ? 400 : 12));
  const size_t rest = content.size() - at;
  switch (draws.below(text ? 10 : 8)) {
    case 0:
      if (rest > 0) content[at] = char(content[at] ^ 1 << draws.below(8));
      return;
    case 1:
      if (rest > 0) content[at] = char(draws.next());
      return;
    case 2:
      content.erase(at, length);
      return;
    case 3:
      content.insert(at, content.substr(at, length));
      return;
    case 4: {
      const std::string moved = content.substr(at, length);
      content.erase(at, length);
      content.insert(place(content, header, draws), moved);
      return;
    }
    case 5:
      content.resize(size_t(draws.below(content.size() + 1)));
      return;
    case 6:
    case 7: {
      const uint64_t edge = kEdges[draws.below(std::size(kEdges))];
      const size_t width = size_t(1) << draws.below(4);
      // Where a number of a binary file is likely to stand, or anywhere.
      const size_t start = draws.below(2) > 0 ? at / width * width : at;
      if (start + width <= content.size()) std::memcpy(content.data() + start, &edge, width);
      return;
    }
    default:
      replace_word(content, at, draws);
  }
}

}  // namespace

std::string mutated(std::string content, size_t header, bool text, Draws& draws) {
  const uint64_t changes = 1 + draws.below(draws.below(3) == 0 ? 8 : 2);
  for (uint64_t i = 0; i < changes; ++i) change(content, header, text, draws);
  return content;
}

}  // namespace surtsey::tests
