// A file of a cache on disk: whole or not there, and verified before it is believed.
//
// Layout: magic u32, format u32, identity bytes u64, payload bytes u64, hash u64, then the identity
// and the payload. The hash covers everything else, so a bit flipped anywhere is found; the
// identity is what the payload was made for and with (a device and its driver, a compiler and its
// options), verbatim. Files are written under a temporary name and renamed: processes can share a
// directory, and one that is killed leaves nothing half written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace surtsey::shaders {

struct CacheKind {
  uint32_t magic = 0;        // one per kind of cache
  uint32_t format = 0;       // of identity and payload
  uint64_t max_payload = 0;  // bytes: longer ones are neither read nor written
};

enum class CacheState { absent, corrupt, good };

// `payload` is filled only when the state is good: the file is of this kind and identity and passes
// verification.
CacheState load_cache_file(const std::string& path, const CacheKind& kind, std::span<const std::byte> identity,
                           std::vector<std::byte>& payload);

// Replaces the file. False when it cannot be written or the payload is too long; the caller goes on
// without it.
bool store_cache_file(const std::string& path, const CacheKind& kind, std::span<const std::byte> identity,
                      std::span<const std::byte> payload);

// FNV-1a with a final mix. One changed byte always changes it. Stable over machines, so it can name
// files.
uint64_t hash64(std::span<const std::byte> bytes, uint64_t seed = 0);
uint64_t hash64(const std::string& text, uint64_t seed = 0);
// That of a text as sixteen hexadecimal digits.
std::string hash_name(const std::string& text);

// A text as identity or payload.
std::span<const std::byte> bytes_of(const std::string& text);

}  // namespace surtsey::shaders
