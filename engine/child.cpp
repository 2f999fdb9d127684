#include "engine/child.h"

#include "graph/error.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace surtsey::engine {
namespace {

constexpr size_t kProgressBytes = 4096;

class Shared : public Progress {
 public:
  Shared()
      : memory_(static_cast<char*>(
            mmap(nullptr, kProgressBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
    ensure(memory_ != MAP_FAILED, "mmap of {} bytes: {}", kProgressBytes, std::strerror(errno));
  }
  ~Shared() override { munmap(memory_, kProgressBytes); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  void set(const std::string& what) override { std::strncpy(memory_, what.c_str(), kProgressBytes - 1); }
  std::string get() const { return {memory_, strnlen(memory_, kProgressBytes)}; }

 private:
  char* memory_;
};

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

File temporary() {
  File file(std::tmpfile(), std::fclose);
  check(file != nullptr, "no temporary file can be made: {}", std::strerror(errno));
  return file;
}

std::string content(std::FILE* file) {
  std::string text;
  char piece[65536];
  std::rewind(file);
  for (size_t n = 0; (n = std::fread(piece, 1, sizeof piece, file)) > 0;) text.append(piece, n);
  return text;
}

void write_all(std::FILE* file, char kind, const std::string& text) {
  std::fputc(kind, file);
  std::fwrite(text.data(), 1, text.size(), file);
  std::fflush(file);
}

[[noreturn]] void child(const std::vector<std::pair<std::string, std::string>>& environment,
                        const std::function<std::string(Progress&)>& work, Shared& progress, std::FILE* output,
                        std::FILE* errors) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // it does not outlive the parent
  // A crash of the driver is an answer, not a fault of ours that wants a trace.
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) std::signal(signal, SIG_DFL);
  dup2(fileno(errors), STDERR_FILENO);
  for (const auto& [name, value] : environment) {
    if (value.empty())
      unsetenv(name.c_str());
    else
      setenv(name.c_str(), value.c_str(), 1);
  }
  try {
    write_all(output, 'R', work(progress));
  } catch (const UserError& error) {
    write_all(output, 'U', error.what());
  } catch (const std::exception& error) {
    write_all(output, 'E', error.what());
  }
  _exit(0);
}

}  // namespace

ChildResult run_in_child(const std::vector<std::pair<std::string, std::string>>& environment,
                         const std::function<std::string(Progress&)>& work) {
  Shared progress;
  const File output = temporary(), errors = temporary();
  std::fflush(nullptr);  // what is buffered would be written twice
  const pid_t pid = fork();
  check(pid >= 0, "no child process can be started: {}", std::strerror(errno));
  if (pid == 0) child(environment, work, progress, output.get(), errors.get());
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) ensure(errno == EINTR, "waitpid: {}", std::strerror(errno));

  ChildResult result;
  result.progress = progress.get();
  result.errors = content(errors.get());
  const std::string text = content(output.get());
  if (WIFSIGNALED(status))
    result.death = fmt::format("signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)));
  else if (WEXITSTATUS(status) != 0 || text.empty())
    result.death = fmt::format("exit status {}", WEXITSTATUS(status));
  if (!result.death.empty()) return result;
  result.finished = text[0] == 'R';
  result.user_error = text[0] == 'U';
  result.output = text.substr(1);
  return result;
}

}  // namespace surtsey::engine
