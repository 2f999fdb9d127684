// A function of a test in a process of its own.
#pragma once

#include <csignal>
#include <cstdio>
#include <stdexcept>
#include <utility>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace surtsey::tests {

// It begins at once and says nothing. Nothing that another process may not hold is to be open in this one by then: an
// index (SQLite's connections do not outlive a fork), a device.
class Child {
 public:
  template <class Work>
  explicit Child(const Work& work) {
    std::fflush(nullptr);  // what stands there is not the child's to write
    process_ = fork();
    if (process_ < 0) throw std::runtime_error("fork failed");
    if (process_ != 0) return;
    // Catch2 would write the totals of the suite a second time, from here.
    for (const int signal : {SIGINT, SIGILL, SIGFPE, SIGSEGV, SIGTERM, SIGABRT}) std::signal(signal, SIG_DFL);
    // Descriptors, as a test may have put another stream in the place of stderr.
    const int nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, STDOUT_FILENO);
    dup2(nowhere, STDERR_FILENO);
    int status = threw;
    try {
      status = work();
    } catch (...) {
    }
    _exit(status);
  }
  ~Child() { status(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // Waits for its end: what `work` returned, `threw` where it threw, -signal where one ended it.
  int status() {
    if (process_ == 0) return status_;
    int raw = 0;
    waitpid(std::exchange(process_, 0), &raw, 0);
    return status_ = WIFEXITED(raw) ? WEXITSTATUS(raw) : -WTERMSIG(raw);
  }

  static constexpr int threw = 99;

 private:
  pid_t process_ = 0;
  int status_ = 0;
};

template <class Work>
int in_child(const Work& work) {
  return Child(work).status();
}

}  // namespace surtsey::tests
