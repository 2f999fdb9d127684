#include "experiments/base/exit_status.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>

#include "engine/error.h"
#include "engine/standard_descriptors.h"
#include "experiments/base/interrupt.h"

namespace surtsey::experiments {
namespace {

std::atomic<bool> output_lost = false;
std::atomic<int> stdout_error = 0;  // errno of the first write that failed

int status_of(const std::exception& error) {
  if (dynamic_cast<const CommandLineError*>(&error) != nullptr) return kCommandLineStatus;
  if (dynamic_cast<const Interrupted*>(&error) != nullptr) return kInterruptedStatus;
  if (dynamic_cast<const Diverged*>(&error) != nullptr) return kDivergedStatus;
  if (dynamic_cast<const NotComputing*>(&error) != nullptr) return kNotComputingStatus;
  const auto* device = dynamic_cast<const engine::DeviceError*>(&error);
  return device != nullptr && device->lost() ? kDeviceLostStatus : kErrorStatus;
}

ssize_t write_to_stderr(void*, const char* data, size_t size) {
  for (size_t done = 0; done < size;) {
    const ssize_t count = write(STDERR_FILENO, data + done, size - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    done += static_cast<size_t>(count);
  }
  return static_cast<ssize_t>(size);
}

// What stderr does not take is lost. fmt::print throws where a stream fails, and a warning onto a full disk would end
// the run that it is about.
void let_stderr_fail() {
  static bool done = false;
  if (done) return;
  done = true;
  cookie_io_functions_t functions = {};
  functions.write = write_to_stderr;
  std::FILE* stream = fopencookie(nullptr, "w", functions);
  if (stream == nullptr) return;
  std::setvbuf(stream, nullptr, _IONBF, 0);
  stderr = stream;
}

void flush_stdout() {
  errno = 0;
  if ((std::fflush(stdout) != 0 || std::ferror(stdout) != 0) && stdout_error == 0) {
    // The reason is gone where another stream over this one met it first: a byte more gets it again.
    if (errno == 0 && ::write(STDOUT_FILENO, "\n", 1) >= 0) errno = EIO;
    stdout_error = errno;
  }
}

}  // namespace

const std::vector<ExitStatus>& exit_statuses() {
  static const std::vector<ExitStatus> kStatuses = {
      {kDoneStatus, "done, and everything is written"},
      {kErrorStatus, "an error: of the user, of a file, of the device; or not all could be written"},
      {kCommandLineStatus, "a wrong command line"},
      {kDivergedStatus, "every model diverged: the same command would do it again, another learning rate may not"},
      {kNotComputingStatus,
       "the device does not compute, and nothing that it gave was saved as done: run surtsey selftest"},
      {kDeviceLostStatus, "the device was lost: the same command with --resume goes on"},
      {kInterruptedStatus, "interrupted; what was done is saved"},
  };
  return kStatuses;
}

std::string exit_status_help() {
  std::string text = "Exit status:\n";
  for (const ExitStatus& one : exit_statuses()) text += fmt::format("  {:3}  {}\n", one.status, one.meaning);
  return text;
}

int guarded(const std::string& program, const std::function<int()>& work) {
  engine::open_standard_descriptors();
  let_stderr_fail();
  std::signal(SIGXFSZ, SIG_IGN);
  int status = kErrorStatus;
  try {
    status = work();
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", program, error.what());
    status = status_of(error);
  }
  // C's stream first: std::cout writes through it, and its own flush would take the reason of a failure away.
  flush_stdout();
  std::cout.flush();
  if (stdout_error != 0)
    fmt::print(stderr, "{}: stdout could not be written: {}\n", program, std::strerror(stdout_error));
  const bool all_written = stdout_error == 0 && !output_lost;
  return status == kDoneStatus && !all_written ? kErrorStatus : status;
}

void note_lost_output(const std::string& message) {
  output_lost = true;
  fmt::print(stderr, "{}\n", message);
}

void print_line(std::string_view line) {
  std::fwrite(line.data(), 1, line.size(), stdout);
  std::fputc('\n', stdout);
  flush_stdout();
}

}  // namespace surtsey::experiments
