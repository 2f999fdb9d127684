#include "experiments/base/interrupt.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <ctime>

#include "experiments/base/exit_status.h"

namespace surtsey::experiments {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

// When the first signal came, in nanoseconds; 0: none did. The only thing that the handler touches, from any thread.
std::atomic<int64_t> requested_at = 0;
static_assert(std::atomic<int64_t>::is_always_lock_free);

int64_t now() {
  timespec time = {};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{time.tv_sec} * kSecond + time.tv_nsec;
}

void on_signal(int signal) {
  int64_t first = 0;
  if (requested_at.compare_exchange_strong(first, now())) {
    const char text[] = "\nstopping after the work in flight; once more, a second from now, to stop at once\n";
    [[maybe_unused]] const auto written = write(STDERR_FILENO, text, sizeof text - 1);
    return;
  }
  // The kernel repeats SIGXCPU every second of CPU time; only a person or a batch system insists.
  if ((signal == SIGINT || signal == SIGTERM) && now() - first >= kSecond) _exit(kInterruptedStatus);
}

bool is_ignored(int signal) {
  struct sigaction action = {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

void handle_interrupts() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  std::signal(SIGPIPE, SIG_IGN);
  // A shell's background job ignores SIGINT; who sends it one by name means it.
  for (const int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
  for (const int signal : {SIGHUP, SIGXCPU, SIGUSR1, SIGUSR2}) {
    if (!is_ignored(signal)) sigaction(signal, &action, nullptr);
  }
}

bool interrupted() { return requested_at != 0; }

void set_interrupted(bool value) { requested_at = value ? now() : 0; }

void ask_to_stop(pid_t process) { kill(process, SIGUSR1); }

}  // namespace surtsey::experiments
