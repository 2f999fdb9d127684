// What each operating system does in its own way: Linux, macOS, Windows. No other file asks which one this is.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace surtsey::platform {

// This process.
uint64_t process_id();
std::filesystem::path program_path();                                  // the file that it runs
void set_variable(const std::string& name, const std::string& value);  // of its environment; an empty value removes it
uint64_t thread_cpu_ns();                                              // processor time of the calling thread

// This machine.
std::string system_name();     // "Linux 6.1.0"
std::string machine_name();    // "x86_64"
std::string processor_name();  // as its maker calls it, or "unknown"

// How wide a terminal `stream` is; 0 where it is none.
int terminal_columns(std::FILE* stream);

// `handler` is called on Ctrl-C and when the process is asked to end, in the middle of anything. It may call the next
// two functions and nothing else of this program.
void on_interrupt(void (*handler)());
void say_at_once(std::string_view text);  // to stderr
[[noreturn]] void end_at_once(int status);

// Files. Writes that returned survive a crash of the system once they are synced; a name does once its directory is.
// Both throw UserError; what a file system has no notion of is left undone.
void sync_file(std::FILE* file, const std::filesystem::path& path);
void sync_directory(const std::filesystem::path& path);
// Two names change places, so that a crash finds both. False where the file system cannot.
bool exchange(const std::filesystem::path& one, const std::filesystem::path& other);

// A file that one process at a time holds, until it ends however it ends.
class FileLock {
 public:
  // Makes the file where there is none. Nothing when another holder has it; UserError when it cannot be opened.
  static std::optional<FileLock> take(const std::filesystem::path& path);
  static bool held(const std::filesystem::path& path);  // by anyone
  FileLock(FileLock&& other) noexcept : handle_(std::exchange(other.handle_, -1)) {}
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  explicit FileLock(intptr_t handle) : handle_(handle) {}
  intptr_t handle_;
};

struct Ended {
  bool died = false;  // of a signal, on Windows of an exception; it ended by itself otherwise
  uint32_t number = 0;
  std::string describe() const;  // "signal 6 (Aborted)", "exit status 3"
};

using Variables = std::vector<std::pair<std::string, std::string>>;

// Another program, which does not outlive this process where the system can see to that (macOS cannot).
class Process {
 public:
  // The path of the program and its arguments; the variables as set_variable() takes them; files in the place of this
  // process's own output. A program that cannot be started ends with status 127 or UserError.
  static Process start(const std::vector<std::string>& words, const Variables& variables = {},
                       std::FILE* output = nullptr, std::FILE* errors = nullptr);
  std::optional<Ended> poll();  // nothing while it runs
  Ended wait();
  void ask_to_end();  // as on_interrupt() there hears it
  Process(Process&& other) noexcept : handle_(std::exchange(other.handle_, 0)), id_(other.id_) {}
  Process& operator=(Process&&) = delete;
  ~Process();

 private:
  Process(intptr_t handle, uint64_t id) : handle_(handle), id_(id) {}
  intptr_t handle_;
  uint64_t id_;
};

// Goes on as another program. Returns only where that cannot be started; errno says why.
void become(const std::vector<std::string>& words);

// Runs `work` in a copy of this process that ends after it, without destructors; variables and `errors` as above. The
// caller has no other thread that holds a lock of a library that `work` uses. UserError where the system copies no
// process: Windows.
Ended run_in_copy(const std::function<void()>& work, const Variables& variables = {}, std::FILE* errors = nullptr);

}  // namespace surtsey::platform
