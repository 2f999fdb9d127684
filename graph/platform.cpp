#include "graph/platform.h"

#include "graph/error.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <io.h>
#include <process.h>
#else
#include <fcntl.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ctime>
#endif
#ifdef __APPLE__
#include <mach-o/dyld.h>
#include <sys/sysctl.h>
#endif
#ifdef __linux__
#include <sys/prctl.h>
#endif

namespace surtsey::platform {
namespace {

namespace fs = std::filesystem;

constexpr int kUsualColumns = 80;

std::atomic<void (*)()> interrupt_handler = nullptr;
static_assert(std::atomic<void (*)()>::is_always_lock_free, "a signal handler reads it");

}  // namespace

#ifdef _WIN32

namespace {

std::string reason() {
  const std::error_code code(int(GetLastError()), std::system_category());
  return code.message();
}

std::wstring wide(const std::string& text) { return fs::path(text).wstring(); }

// A text of the registry's machine part; empty where there is none.
std::string registry(const wchar_t* key, const wchar_t* name) {
  wchar_t text[256] = {};
  DWORD bytes = sizeof text - sizeof *text;
  if (RegGetValueW(HKEY_LOCAL_MACHINE, key, name, RRF_RT_REG_SZ, nullptr, text, &bytes) != ERROR_SUCCESS) return {};
  return fs::path(text).string();
}

BOOL WINAPI on_console(DWORD) {
  if (void (*handler)() = interrupt_handler) handler();
  return TRUE;
}

HANDLE handle_of(std::FILE* file) { return reinterpret_cast<HANDLE>(_get_osfhandle(_fileno(file))); }
HANDLE handle_of(intptr_t handle) { return reinterpret_cast<HANDLE>(handle); }

// One argument of a command line, so that the usual start of a program takes it apart as it was: quotes are escaped,
// and so are backslashes where a quote follows.
std::wstring quoted(const std::wstring& word) {
  std::wstring text = L"\"";
  size_t backslashes = 0;
  for (const wchar_t c : word) {
    if (c == L'"') text.append(backslashes + 1, L'\\');
    backslashes = c == L'\\' ? backslashes + 1 : 0;
    text += c;
  }
  return text.append(backslashes, L'\\') + L'"';
}

std::wstring command_line(const std::vector<std::string>& words) {
  std::wstring line;
  for (const std::string& word : words) line += (line.empty() ? L"" : L" ") + quoted(wide(word));
  return line;
}

// The environment with changes, as CreateProcess takes it: NAME=value, each with a zero behind it, and one more.
std::wstring environment_block(const Variables& variables) {
  std::vector<std::wstring> entries;
  wchar_t* const own = GetEnvironmentStringsW();
  for (const wchar_t* at = own; at != nullptr && *at != 0; at += std::wcslen(at) + 1) entries.emplace_back(at);
  FreeEnvironmentStringsW(own);
  for (const auto& [name, value] : variables) {
    const std::wstring begin = wide(name) + L"=";
    std::erase_if(entries, [&](const std::wstring& entry) {
      return entry.size() >= begin.size() && _wcsnicmp(entry.c_str(), begin.c_str(), begin.size()) == 0;
    });
    if (!value.empty()) entries.push_back(begin + wide(value));
  }
  std::wstring block;
  for (const std::wstring& entry : entries) block.append(entry).push_back(0);
  block.push_back(0);
  return block;
}

// What is in this job ends when the last handle to it is closed, which the end of this process does.
HANDLE family() {
  static const HANDLE job = [] {
    const HANDLE made = CreateJobObjectW(nullptr, nullptr);
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits = {};
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    SetInformationJobObject(made, JobObjectExtendedLimitInformation, &limits, sizeof limits);
    return made;
  }();
  return job;
}

// Beyond any content, as a locked byte can be read by nobody else.
constexpr DWORD kLockedByte = 0x40000000;

}  // namespace

uint64_t process_id() { return GetCurrentProcessId(); }

fs::path program_path() {
  std::wstring path(32768, 0);
  path.resize(GetModuleFileNameW(nullptr, path.data(), DWORD(path.size())));
  return path;
}

void set_variable(const std::string& name, const std::string& value) { _putenv_s(name.c_str(), value.c_str()); }

uint64_t thread_cpu_ns() {
  FILETIME created, ended, kernel, user;
  if (!GetThreadTimes(GetCurrentThread(), &created, &ended, &kernel, &user)) return 0;
  const auto ns = [](const FILETIME& time) { return (uint64_t(time.dwHighDateTime) << 32 | time.dwLowDateTime) * 100; };
  return ns(kernel) + ns(user);
}

std::string system_name() {
  return "Windows " + registry(L"SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion", L"CurrentBuildNumber");
}

std::string machine_name() {
  SYSTEM_INFO info = {};
  GetNativeSystemInfo(&info);
  return info.wProcessorArchitecture == PROCESSOR_ARCHITECTURE_ARM64 ? "arm64" : "x86_64";
}

std::string processor_name() {
  const std::string name = registry(L"HARDWARE\\DESCRIPTION\\System\\CentralProcessor\\0", L"ProcessorNameString");
  return name.empty() ? "unknown" : name;
}

int terminal_columns(std::FILE* stream) {
  if (!_isatty(_fileno(stream))) return 0;
  CONSOLE_SCREEN_BUFFER_INFO info = {};
  if (!GetConsoleScreenBufferInfo(handle_of(stream), &info)) return kUsualColumns;
  return info.srWindow.Right - info.srWindow.Left + 1;
}

void on_interrupt(void (*handler)()) {
  interrupt_handler = handler;
  SetConsoleCtrlHandler(on_console, TRUE);
}

void say_at_once(std::string_view text) {
  DWORD written = 0;
  WriteFile(GetStdHandle(STD_ERROR_HANDLE), text.data(), DWORD(text.size()), &written, nullptr);
}

void end_at_once(int status) {
  TerminateProcess(GetCurrentProcess(), UINT(status));
  std::abort();  // not reached
}

void sync_file(std::FILE* file, const fs::path& path) {
  check(std::fflush(file) == 0 && _commit(_fileno(file)) == 0, "'{}' cannot be synced: {}", path.string(),
        std::strerror(errno));
}

void sync_directory(const fs::path&) {}  // names are in the file system's journal

bool exchange(const fs::path&, const fs::path&) { return false; }

std::optional<FileLock> FileLock::take(const fs::path& path) {
  const HANDLE file = CreateFileW(path.c_str(), GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE,
                                  nullptr, OPEN_ALWAYS, FILE_ATTRIBUTE_NORMAL, nullptr);
  check(file != INVALID_HANDLE_VALUE, "cannot open '{}': {}", path.string(), reason());
  OVERLAPPED range = {};
  range.Offset = kLockedByte;
  if (LockFileEx(file, LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &range))
    return FileLock(reinterpret_cast<intptr_t>(file));
  const bool taken = GetLastError() == ERROR_LOCK_VIOLATION || GetLastError() == ERROR_IO_PENDING;
  const std::string why = reason();
  CloseHandle(file);
  check(taken, "cannot lock '{}': {}", path.string(), why);
  return {};
}

bool FileLock::held(const fs::path& path) { return fs::exists(path) && !take(path); }

FileLock::~FileLock() {
  if (handle_ != -1) CloseHandle(handle_of(handle_));
}

std::string Ended::describe() const {
  return died ? fmt::format("exception {:#x}", number) : fmt::format("exit status {}", number);
}

Process Process::start(const std::vector<std::string>& words, const Variables& variables, std::FILE* output,
                       std::FILE* errors) {
  const auto inherited = [](std::FILE* file, DWORD standard) {
    const HANDLE own = file != nullptr ? handle_of(file) : GetStdHandle(standard);
    HANDLE copy = nullptr;
    DuplicateHandle(GetCurrentProcess(), own, GetCurrentProcess(), &copy, 0, TRUE, DUPLICATE_SAME_ACCESS);
    return copy;
  };
  STARTUPINFOW info = {};
  info.cb = sizeof info;
  info.dwFlags = STARTF_USESTDHANDLES;
  info.hStdInput = inherited(nullptr, STD_INPUT_HANDLE);
  info.hStdOutput = inherited(output, STD_OUTPUT_HANDLE);
  info.hStdError = inherited(errors, STD_ERROR_HANDLE);
  std::wstring line = command_line(words), block = environment_block(variables);
  PROCESS_INFORMATION made = {};
  // A group of its own, so that ask_to_end() reaches it and not this process.
  const BOOL started =
      CreateProcessW(wide(words[0]).c_str(), line.data(), nullptr, nullptr, TRUE,
                     CREATE_UNICODE_ENVIRONMENT | CREATE_NEW_PROCESS_GROUP, block.data(), nullptr, &info, &made);
  const std::string why = started ? "" : reason();
  for (const HANDLE copy : {info.hStdInput, info.hStdOutput, info.hStdError})
    if (copy != nullptr) CloseHandle(copy);
  check(started, "'{}' cannot be started: {}", words[0], why);
  AssignProcessToJobObject(family(), made.hProcess);
  CloseHandle(made.hThread);
  return Process(reinterpret_cast<intptr_t>(made.hProcess), made.dwProcessId);
}

std::optional<Ended> Process::poll() {
  if (WaitForSingleObject(handle_of(handle_), 0) == WAIT_TIMEOUT) return {};
  return wait();
}

Ended Process::wait() {
  WaitForSingleObject(handle_of(handle_), INFINITE);
  DWORD status = 0;
  GetExitCodeProcess(handle_of(handle_), &status);
  return {.died = status >= 0xc0000000, .number = status};
}

void Process::ask_to_end() { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, DWORD(id_)); }

Process::~Process() {
  if (handle_ != 0) CloseHandle(handle_of(handle_));
}

// The shell of Windows would take this process's end for that of the other, so it waits.
void become(const std::vector<std::string>& words) {
  try {
    std::exit(int(Process::start(words).wait().number));
  } catch (const UserError&) {
    errno = ENOENT;
  }
}

Ended run_in_copy(const std::function<void()>&, const Variables&, std::FILE*) {
  throw UserError("Windows starts no copy of a process: what needs one works on Linux and macOS only");
}

#else  // Linux and macOS

namespace {

void on_signal(int) {
  if (void (*handler)() = interrupt_handler) handler();
}

// fork(), with the changes made in the child.
pid_t fork_with(const Variables& variables, std::FILE* output, std::FILE* errors) {
  std::fflush(nullptr);  // what is buffered would be written twice
  [[maybe_unused]] const pid_t parent = getpid();
  const pid_t child = fork();
  if (child != 0) return child;
#ifdef __linux__
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // it died before
#endif
  if (output != nullptr) dup2(fileno(output), STDOUT_FILENO);
  if (errors != nullptr) dup2(fileno(errors), STDERR_FILENO);
  for (const auto& [name, value] : variables) set_variable(name, value);
  return 0;
}

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> list;
  for (const std::string& word : words) list.push_back(const_cast<char*>(word.c_str()));
  list.push_back(nullptr);
  return list;
}

Ended ended(int status) {
  if (WIFSIGNALED(status)) return {.died = true, .number = uint32_t(WTERMSIG(status))};
  return {.died = false, .number = uint32_t(WEXITSTATUS(status))};
}

Ended wait_for(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0) ensure(errno == EINTR, "waitpid: {}", std::strerror(errno));
  return ended(status);
}

#ifdef __linux__
// Of the open file, not of the process: whoever else opens it in this process meets the lock, and closing another
// descriptor does not lose it.
struct flock whole_file() {
  struct flock range = {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  return range;
}
#endif

bool lock_descriptor(int descriptor) {
#ifdef __linux__
  struct flock range = whole_file();
  return fcntl(descriptor, F_OFD_SETLK, &range) == 0;
#else
  return flock(descriptor, LOCK_EX | LOCK_NB) == 0;
#endif
}

}  // namespace

uint64_t process_id() { return uint64_t(getpid()); }

fs::path program_path() {
#ifdef __APPLE__
  uint32_t size = 0;
  _NSGetExecutablePath(nullptr, &size);
  std::string path(size, '\0');
  check(_NSGetExecutablePath(path.data(), &size) == 0, "this program's own path cannot be read");
  return fs::canonical(path.c_str());
#else
  return fs::read_symlink("/proc/self/exe");
#endif
}

void set_variable(const std::string& name, const std::string& value) {
  if (value.empty())
    unsetenv(name.c_str());
  else
    setenv(name.c_str(), value.c_str(), 1);
}

uint64_t thread_cpu_ns() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return uint64_t(time.tv_sec) * 1'000'000'000 + uint64_t(time.tv_nsec);
}

std::string system_name() {
  utsname names = {};
  return uname(&names) == 0 ? fmt::format("{} {}", names.sysname, names.release) : "unknown";
}

std::string machine_name() {
  utsname names = {};
  return uname(&names) == 0 ? names.machine : "unknown";
}

std::string processor_name() {
#ifdef __APPLE__
  char text[256] = {};
  size_t size = sizeof text - 1;
  if (sysctlbyname("machdep.cpu.brand_string", text, &size, nullptr, 0) == 0) return text;
#else
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
#endif
  return "unknown";
}

int terminal_columns(std::FILE* stream) {
  if (isatty(fileno(stream)) == 0) return 0;
  winsize size{};
  return ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kUsualColumns;
}

void on_interrupt(void (*handler)()) {
  interrupt_handler = handler;
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

void say_at_once(std::string_view text) {
  [[maybe_unused]] const auto written = write(STDERR_FILENO, text.data(), text.size());
}

void end_at_once(int status) { _exit(status); }

void sync_file(std::FILE* file, const fs::path& path) {
  const bool flushed = std::fflush(file) == 0;
  // Pipes and some file systems have nothing to sync.
  const bool synced = flushed && (fsync(fileno(file)) == 0 || errno == EINVAL || errno == ENOTSUP);
  check(synced, "'{}' cannot be synced: {}", path.string(), std::strerror(errno));
}

void sync_directory(const fs::path& path) {
  const int directory = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  check(directory >= 0, "'{}' cannot be opened: {}", path.string(), std::strerror(errno));
  const bool synced = fsync(directory) == 0 || errno == EINVAL || errno == ENOTSUP;
  const int error = errno;
  close(directory);
  check(synced, "'{}' cannot be synced: {}", path.string(), std::strerror(error));
}

bool exchange(const fs::path& one, const fs::path& other) {
#ifdef __APPLE__
  return renamex_np(one.c_str(), other.c_str(), RENAME_SWAP) == 0;
#else
  return renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE) == 0;
#endif
}

std::optional<FileLock> FileLock::take(const fs::path& path) {
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  check(descriptor >= 0, "cannot open '{}': {}", path.string(), std::strerror(errno));
  if (lock_descriptor(descriptor)) return FileLock(descriptor);
  const int error = errno;
  close(descriptor);
  check(error == EAGAIN || error == EWOULDBLOCK || error == EACCES, "cannot lock '{}': {}", path.string(),
        std::strerror(error));
  return {};
}

bool FileLock::held(const fs::path& path) {
  const int descriptor = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return false;
#ifdef __linux__
  // Asked without taking it, which another would meet.
  struct flock range = whole_file();
  const bool is_held = fcntl(descriptor, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
#else
  const bool is_held = !lock_descriptor(descriptor);
#endif
  close(descriptor);
  return is_held;
}

FileLock::~FileLock() {
  if (handle_ != -1) close(int(handle_));
}

std::string Ended::describe() const {
  return died ? fmt::format("signal {} ({})", number, strsignal(int(number))) : fmt::format("exit status {}", number);
}

Process Process::start(const std::vector<std::string>& words, const Variables& variables, std::FILE* output,
                       std::FILE* errors) {
  const std::vector<char*> list = pointers(words);
  const pid_t child = fork_with(variables, output, errors);
  check(child >= 0, "'{}' cannot be started: {}", words[0], std::strerror(errno));
  if (child == 0) {
    execv(list[0], list.data());
    _exit(127);
  }
  return Process(child, uint64_t(child));
}

std::optional<Ended> Process::poll() {
  int status = 0;
  const pid_t found = waitpid(pid_t(handle_), &status, WNOHANG);
  if (found != pid_t(handle_)) return {};
  handle_ = 0;
  return ended(status);
}

Ended Process::wait() { return wait_for(pid_t(std::exchange(handle_, 0))); }

void Process::ask_to_end() {
  if (handle_ > 0) kill(pid_t(handle_), SIGTERM);
}

// One that nobody waited for goes on.
Process::~Process() = default;

void become(const std::vector<std::string>& words) {
  std::fflush(nullptr);
  execv(words[0].c_str(), pointers(words).data());
}

Ended run_in_copy(const std::function<void()>& work, const Variables& variables, std::FILE* errors) {
  const pid_t child = fork_with(variables, nullptr, errors);
  check(child >= 0, "no child process can be started: {}", std::strerror(errno));
  if (child == 0) {
    // A crash is an answer, not a fault that wants a trace.
    for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) std::signal(signal, SIG_DFL);
    work();
    _exit(0);
  }
  return wait_for(child);
}

#endif

}  // namespace surtsey::platform
