// A folder has one writer: a lock that ends with the process that holds it, however that ends.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

namespace surtsey::experiments {

// Held as long as a copy of it lives. The lock is the process's: it takes one that it holds already once more.
// FOLDER/lock carries it, and says who wrote last.
class FolderLock {
 public:
  // Makes the folder where there is none. UserError that says who holds it.
  static FolderLock take(const std::filesystem::path& folder);
  // The same, but nothing when another process holds it.
  static std::optional<FolderLock> try_take(const std::filesystem::path& folder);
  // Whether anybody does, this process included. Asking does not take it.
  static bool is_held(const std::filesystem::path& folder);

 private:
  struct Held;
  explicit FolderLock(std::shared_ptr<Held> held) : held_(std::move(held)) {}
  std::shared_ptr<Held> held_;
};

}  // namespace surtsey::experiments
