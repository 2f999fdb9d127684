#include "experiments/base/folder_lock.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>

#include "experiments/base/file.h"
#include "graph/error.h"

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFile = "lock";

// A lock of the open file, not of the process: closing another descriptor of the same file does not end it.
struct flock whole_file() {
  struct flock range = {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  return range;
}

// For the message to whoever comes second; a disk that is full has no room for it.
void sign(int descriptor) {
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  const std::string text = fmt::format("process {} on {}\n", getpid(), host);
  if (ftruncate(descriptor, 0) == 0) [[maybe_unused]]
    const auto written = write(descriptor, text.data(), text.size());
}

std::string signature(const fs::path& file) {
  std::string text = read_file_if_exists(file).value_or("");
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.empty() ? "another process" : text;
}

using FileId = std::pair<dev_t, ino_t>;

FileId id_of(int descriptor) {
  struct stat about = {};
  return fstat(descriptor, &about) == 0 ? FileId(about.st_dev, about.st_ino) : FileId();
}

}  // namespace

struct FolderLock::Held {
  explicit Held(int d) : descriptor(d) {}
  ~Held() { close(descriptor); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  int descriptor;
};

std::optional<FolderLock> FolderLock::try_take(const fs::path& folder) {
  static std::mutex mutex;
  static std::map<FileId, std::weak_ptr<Held>> held;  // by this process
  std::error_code error;
  fs::create_directories(folder, error);
  check(!error, "the folder '{}' cannot be made: {}", folder.string(), error.message());
  check(fs::is_directory(folder), "'{}' is not a folder", folder.string());
  const fs::path path = folder / kFile;
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  check(descriptor >= 0, "'{}' cannot be written: {}", path.string(), std::strerror(errno));
  auto opened = std::make_shared<Held>(descriptor);
  const std::lock_guard<std::mutex> guard(mutex);
  std::weak_ptr<Held>& known = held[id_of(descriptor)];
  if (std::shared_ptr<Held> own = known.lock()) return FolderLock(std::move(own));
  struct flock range = whole_file();
  if (fcntl(descriptor, F_OFD_SETLK, &range) != 0) {
    const int reason = errno;
    check(reason == EAGAIN || reason == EACCES, "'{}' cannot be locked: {}", path.string(), std::strerror(reason));
    return {};
  }
  sign(descriptor);
  known = opened;
  return FolderLock(std::move(opened));
}

FolderLock FolderLock::take(const fs::path& folder) {
  std::optional<FolderLock> lock = try_take(folder);
  check(lock.has_value(), "'{}' is being written by {}: wait for its end, stop it, or choose another folder",
        folder.string(), signature(folder / kFile));
  return *std::move(lock);
}

bool FolderLock::is_held(const fs::path& folder) {
  const int descriptor = open((folder / kFile).c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return false;
  struct flock range = whole_file();
  const bool asked = fcntl(descriptor, F_OFD_GETLK, &range) == 0;
  close(descriptor);
  return asked && range.l_type != F_UNLCK;
}

}  // namespace surtsey::experiments
