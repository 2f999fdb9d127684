#include "experiments/base/interrupt.h"

#include "experiments/base/exit_status.h"

#include <unistd.h>

#include <csignal>

namespace surtsey::experiments {
namespace {

// The only things a signal handler may touch.
volatile std::sig_atomic_t stop_requested = 0;

void on_signal(int) {
  if (stop_requested != 0) _exit(kInterruptedStatus);
  stop_requested = 1;
  const char text[] = "\nstopping after the work in flight; once more to stop at once\n";
  [[maybe_unused]] const auto written = write(STDERR_FILENO, text, sizeof text - 1);
}

}  // namespace

void handle_interrupts() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return stop_requested != 0; }
void set_interrupted(bool value) { stop_requested = value ? 1 : 0; }

}  // namespace surtsey::experiments
