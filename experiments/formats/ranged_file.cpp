#include "experiments/formats/ranged_file.h"

#include "graph/error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace surtsey::experiments {

RangedFile::RangedFile(const std::filesystem::path& path) : path_(path.string()) {
  // Without waiting: a pipe that nobody writes would hold the open() itself.
  descriptor_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  check(descriptor_ >= 0, "'{}' cannot be read: {}", path_, std::strerror(errno));
  struct stat status = {};
  const bool known = fstat(descriptor_, &status) == 0;
  if (known && S_ISREG(status.st_mode)) {
    size_ = uint64_t(status.st_size);
    return;
  }
  close(descriptor_);
  throw UserError(fmt::format("'{}' cannot be read: it is no regular file", path_));
}

RangedFile::~RangedFile() { close(descriptor_); }

void RangedFile::read(uint64_t offset, std::span<std::byte> target) const {
  check(offset <= size_ && target.size() <= size_ - offset, "{}: bytes {} to {} are asked for, the file has {}", path_,
        offset, offset + target.size(), size_);
  while (!target.empty()) {
    const ssize_t count = pread(descriptor_, target.data(), target.size(), off_t(offset));
    if (count < 0 && errno == EINTR) continue;
    check(count >= 0, "'{}' cannot be read: {}", path_, std::strerror(errno));
    check(count > 0, "{}: the file has become shorter while it was read", path_);
    offset += uint64_t(count);
    target = target.subspan(size_t(count));
  }
}

}  // namespace surtsey::experiments
