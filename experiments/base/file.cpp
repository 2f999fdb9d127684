#include "experiments/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <vector>

#include "experiments/base/utf8.h"
#include "graph/error.h"

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, std::string_view what, int error) {
  throw UserError(fmt::format("'{}' cannot be {}: {}", path.string(), what, std::strerror(error)));
}

// A file descriptor that closes itself.
class Descriptor {
 public:
  // Messages speak of `shown`.
  Descriptor(const fs::path& path, int flags, const fs::path& shown)
      : path_(shown), fd_(open(path.c_str(), flags | O_CLOEXEC, 0666)) {}
  Descriptor(const fs::path& path, int flags) : Descriptor(path, flags, path) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  bool is_open() const { return fd_ >= 0; }
  int get() const { return fd_; }

  void write_all(std::string_view content) {
    while (!content.empty()) {
      const ssize_t written = ::write(fd_, content.data(), content.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) fail(path_, "written", written < 0 ? errno : ENOSPC);
      content.remove_prefix(static_cast<size_t>(written));
    }
  }

  // Some file systems cannot sync a folder, and pipes are never synced; that is no loss of what was asked of them.
  void sync() {
    if (fsync(fd_) != 0 && errno != EINVAL && errno != ENOTSUP && errno != EROFS) fail(path_, "written", errno);
  }

  // Network file systems say at last here that there is no room.
  void finish() {
    sync();
    const int result = close(fd_);
    fd_ = -1;
    if (result != 0 && errno != EINTR) fail(path_, "written", errno);
  }

 private:
  fs::path path_;
  int fd_;
};

std::optional<std::string> read(const fs::path& path) {
  const Descriptor file(path, O_RDONLY);
  if (!file.is_open()) {
    if (errno == ENOENT || errno == ENOTDIR) return {};
    fail(path, "read", errno);
  }
  std::string content;
  struct stat about = {};
  if (fstat(file.get(), &about) == 0 && S_ISREG(about.st_mode)) content.reserve(static_cast<size_t>(about.st_size) + 1);
  std::vector<char> block(1 << 16);
  while (true) {
    const ssize_t count = ::read(file.get(), block.data(), block.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail(path, "read", errno);
    if (count == 0) return content;
    content.append(block.data(), static_cast<size_t>(count));
  }
}

// Two processes may write the same page at once (`surtsey report`): each has a temporary of its own.
fs::path temporary_beside(const fs::path& path) {
  static std::atomic<uint32_t> serial = 0;
  return path.parent_path() /
         fmt::format("{}{}-{}-{}", kUnfinished, path.filename().string(), getpid(), serial.fetch_add(1));
}

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

}  // namespace

std::string read_file(const fs::path& path) {
  std::optional<std::string> content = read(path);
  if (!content) fail(path, "read", ENOENT);
  return *std::move(content);
}

std::optional<std::string> read_file_if_exists(const fs::path& path) { return read(path); }

std::string read_text(const fs::path& path) {
  std::string text = read_file(path);
  check_utf8(text, path.string());
  if (without_byte_order_mark(text).size() < text.size()) text.erase(0, kByteOrderMark.size());
  return text;
}

void write_file_atomic(const fs::path& path, std::string_view content) {
  write_file_atomic(path, [&](const ContentWriter& write) { write(content); });
}

void write_file_atomic(const fs::path& path, const std::function<void(const ContentWriter&)>& content) {
  std::error_code error;
  if (fs::is_symlink(path, error)) {
    const fs::path target = fs::weakly_canonical(path, error);
    if (!error && target != path && !fs::is_symlink(target, error)) return write_file_atomic(target, content);
  }
  const fs::file_status status = fs::status(path, error);
  if (fs::exists(status) && !fs::is_regular_file(status) && !fs::is_directory(status)) {
    Descriptor file(path, O_WRONLY);
    if (!file.is_open()) fail(path, "written", errno);
    content([&](std::string_view part) { file.write_all(part); });
    return file.finish();
  }
  const fs::path temporary = temporary_beside(path);
  try {
    // The reader of the message knows the file, not the temporary.
    Descriptor file(temporary, O_WRONLY | O_CREAT | O_TRUNC, path);
    if (!file.is_open()) fail(path, "written", errno);
    content([&](std::string_view part) { file.write_all(part); });
    file.finish();
    if (rename(temporary.c_str(), path.c_str()) != 0) fail(path, "replaced", errno);
  } catch (...) {
    unlink(temporary.c_str());
    throw;
  }
  sync_folder(folder_of(path));
}

void write_file_synced(const fs::path& path, std::string_view content) {
  Descriptor file(path, O_WRONLY | O_CREAT | O_TRUNC);
  if (!file.is_open()) fail(path, "written", errno);
  file.write_all(content);
  file.finish();
}

void append_file_synced(const fs::path& path, std::string_view content) {
  Descriptor file(path, O_WRONLY | O_CREAT | O_APPEND);
  if (!file.is_open()) fail(path, "written", errno);
  const off_t size = lseek(file.get(), 0, SEEK_END);
  try {
    file.write_all(content);
    file.finish();
  } catch (...) {
    // Half a line would be the head of the next one.
    if (size >= 0) [[maybe_unused]]
      const int result = truncate(path.c_str(), size);
    throw;
  }
}

void sync_folder(const fs::path& folder) {
  Descriptor file(folder, O_RDONLY | O_DIRECTORY);
  if (!file.is_open()) fail(folder, "read", errno);
  file.sync();
}

void remove_unfinished(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().filename().string().starts_with(kUnfinished)) found.push_back(entry.path());
  }
  for (const fs::path& path : found) fs::remove_all(path, error);
}

}  // namespace surtsey::experiments
