// A file that is read where it is asked for, and no further: models are larger than what is wanted of them at a time.
// Reads are pread(2), not a mapping: a file that shrinks meanwhile is then an error and not a signal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace surtsey::experiments {

class RangedFile {
 public:
  // UserError, with the path: missing, unreadable, or no regular file.
  explicit RangedFile(const std::filesystem::path& path);
  ~RangedFile();
  RangedFile(const RangedFile&) = delete;
  RangedFile& operator=(const RangedFile&) = delete;

  const std::string& path() const { return path_; }  // for messages
  uint64_t size() const { return size_; }            // when it was opened

  // Fills `target` from byte `offset` on. UserError where the file has no such bytes. Threads may read at once.
  void read(uint64_t offset, std::span<std::byte> target) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

}  // namespace surtsey::experiments
