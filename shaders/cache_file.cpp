#include "shaders/cache_file.h"

#include "graph/platform.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace surtsey::shaders {
namespace {

struct Header {
  uint32_t magic = 0;
  uint32_t format = 0;
  uint64_t identity_bytes = 0;
  uint64_t payload_bytes = 0;
  uint64_t hash = 0;
};
static_assert(sizeof(Header) == 32);

Header make_header(const CacheKind& kind, std::span<const std::byte> identity, std::span<const std::byte> payload) {
  Header header{kind.magic, kind.format, identity.size(), payload.size()};
  header.hash = hash64(payload, hash64(identity, hash64(std::as_bytes(std::span(&header, 1)))));
  return header;
}

}  // namespace

CacheState load_cache_file(const std::string& path, const CacheKind& kind, std::span<const std::byte> identity,
                           std::vector<std::byte>& payload) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return CacheState::absent;
  const auto size = static_cast<uint64_t>(std::max<std::streamoff>(in.tellg(), 0));
  const uint64_t before = sizeof(Header) + identity.size();
  // The size is checked first: nobody's file of gigabytes is read into memory.
  if (size < before || size - before > kind.max_payload) return CacheState::corrupt;
  std::vector<std::byte> content(size);
  in.seekg(0);
  in.read(reinterpret_cast<char*>(content.data()), std::streamsize(size));
  if (!in) return CacheState::corrupt;
  const std::span<const std::byte> rest = std::span<const std::byte>(content).subspan(before);
  const Header expected = make_header(kind, identity, rest);
  if (std::memcmp(content.data(), &expected, sizeof expected) != 0 ||
      !std::equal(identity.begin(), identity.end(), content.begin() + sizeof expected))
    return CacheState::corrupt;
  payload.assign(rest.begin(), rest.end());
  return CacheState::good;
}

bool store_cache_file(const std::string& path, const CacheKind& kind, std::span<const std::byte> identity,
                      std::span<const std::byte> payload) {
  static std::atomic<uint32_t> serial = 0;
  if (payload.size() > kind.max_payload) return false;
  const std::string temporary = fmt::format("{}.{}.{}", path, platform::process_id(), serial++);
  const Header header = make_header(kind, identity, payload);
  std::ofstream out(temporary, std::ios::binary);
  const auto write = [&](const void* data, size_t bytes) {
    out.write(static_cast<const char*>(data), std::streamsize(bytes));
  };
  write(&header, sizeof header);
  write(identity.data(), identity.size());
  write(payload.data(), payload.size());
  out.close();
  std::error_code error;
  if (out) std::filesystem::rename(temporary, path, error);
  if (out && !error) return true;
  std::filesystem::remove(temporary, error);
  return false;
}

uint64_t hash64(std::span<const std::byte> bytes, uint64_t seed) {
  uint64_t hash = 0xcbf29ce484222325u ^ seed;
  for (std::byte byte : bytes) hash = (hash ^ uint64_t(byte)) * 0x100000001b3u;
  hash ^= hash >> 32;
  hash *= 0xd6e8feb86659fd93u;
  return hash ^ (hash >> 32);
}

uint64_t hash64(const std::string& text, uint64_t seed) { return hash64(bytes_of(text), seed); }

std::string hash_name(const std::string& text) { return fmt::format("{:016x}", hash64(text)); }

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace surtsey::shaders
