// Signals and exit statuses, in processes of their own.
#include "engine/error.h"
#include "experiments/base/exit_status.h"
#include "experiments/base/interrupt.h"
#include "tests/support/child.h"

#include <catch2/catch_test_macros.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <thread>

namespace surtsey::experiments {
namespace {

using tests::in_child;

constexpr int kAlive = 7;

void wait_for(int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }

TEST_CASE("every signal that asks to stop is heard, and sets nothing but that", "[interrupt]") {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGXCPU, SIGUSR1, SIGUSR2}) {
    CAPTURE(signal);
    CHECK(in_child([&] {
            handle_interrupts();
            if (interrupted()) return 1;
            raise(signal);
            return interrupted() ? kAlive : 2;
          }) == kAlive);
  }
}

TEST_CASE("what was ignored stays ignored, as under nohup", "[interrupt]") {
  for (const int signal : {SIGHUP, SIGXCPU, SIGUSR1, SIGUSR2}) {
    CAPTURE(signal);
    CHECK(in_child([&] {
            std::signal(signal, SIG_IGN);
            handle_interrupts();
            raise(signal);
            return interrupted() ? 1 : kAlive;
          }) == kAlive);
  }
}

TEST_CASE("a second signal within a second is the first one again", "[interrupt]") {
  CHECK(in_child([] {
          handle_interrupts();
          for (const int signal : {SIGTERM, SIGTERM, SIGINT, SIGCONT, SIGTERM}) raise(signal);
          return kAlive;
        }) == kAlive);
  CHECK(in_child([] {
          handle_interrupts();
          raise(SIGTERM);
          wait_for(1050);
          raise(SIGTERM);
          return kAlive;
        }) == kInterruptedStatus);
}

TEST_CASE("the kernel's reminders and a parent's never end a process at once", "[interrupt]") {
  CHECK(in_child([] {
          handle_interrupts();
          raise(SIGINT);
          wait_for(1050);
          for (const int signal : {SIGXCPU, SIGHUP, SIGUSR1, SIGUSR2}) raise(signal);
          ask_to_stop(getpid());
          return interrupted() ? kAlive : 1;
        }) == kAlive);
}

TEST_CASE("exceptions and lost output decide the status", "[exit]") {
  const auto throws = [](const auto& error) {
    return in_child([&] { return guarded("x", [&]() -> int { throw error; }); });
  };
  CHECK(throws(UserError("x")) == kErrorStatus);
  CHECK(throws(CommandLineError("x")) == kCommandLineStatus);
  CHECK(throws(Interrupted("x")) == kInterruptedStatus);
  CHECK(throws(std::runtime_error("x")) == kErrorStatus);
  CHECK(throws(Diverged("x")) == kDivergedStatus);
  CHECK(throws(NotComputing("x")) == kNotComputingStatus);
  CHECK(throws(engine::DeviceError("vkWaitForFences", "ErrorDeviceLost", "", "")) == kDeviceLostStatus);
  CHECK(throws(engine::DeviceError("vkWaitForFences", "ErrorOutOfHostMemory", "", "")) == kErrorStatus);
  CHECK(in_child([] { return guarded("x", [] { return kDoneStatus; }); }) == kDoneStatus);
  CHECK(in_child([] {
          return guarded("x", [] {
            note_lost_output("a line was lost");
            return kDoneStatus;
          });
        }) == kErrorStatus);
  // The status of what went wrong before stays.
  CHECK(in_child([] {
          return guarded("x", []() -> int {
            note_lost_output("a line was lost");
            throw Interrupted("x");
          });
        }) == kInterruptedStatus);
}

TEST_CASE("a line that stdout does not take ends nothing but is told at the end", "[exit]") {
  const auto onto_full = [](const std::function<void()>& print) {
    return in_child([&] {
      const int full = open("/dev/full", O_WRONLY);
      dup2(full, STDOUT_FILENO);
      return guarded("x", [&] {
        print();
        return kDoneStatus;
      });
    });
  };
  CHECK(onto_full([] {}) == kDoneStatus);
  CHECK(onto_full([] {
          for (int i = 0; i < 10; ++i) print_line("loss 1");
        }) == kErrorStatus);
  CHECK(onto_full([] { fmt::print("short\n"); }) == kErrorStatus);
  CHECK(onto_full([] { fmt::print("{}\n", std::string(100'000, 'x')); }) == kErrorStatus);
}

TEST_CASE("what stderr does not take ends nothing", "[exit]") {
  CHECK(in_child([] {
          const int full = open("/dev/full", O_WRONLY);
          dup2(full, STDERR_FILENO);
          return guarded("x", [] {
            for (int i = 0; i < 10; ++i) fmt::print(stderr, "warning {}\n", std::string(1000, 'x'));
            return kDoneStatus;
          });
        }) == kDoneStatus);
}

TEST_CASE("descriptors that are closed are opened before anything else takes their numbers", "[exit]") {
  CHECK(in_child([] {
          for (int descriptor = 0; descriptor <= 2; ++descriptor) close(descriptor);
          return guarded("x", [] {
            const int next = open("/dev/zero", O_RDONLY);
            fmt::print("into nothing\n");
            return next > 2 ? kDoneStatus : kErrorStatus;
          });
        }) == kDoneStatus);
}

TEST_CASE("the table of statuses names every one once", "[exit]") {
  for (const int status : {kDoneStatus, kErrorStatus, kCommandLineStatus, kDivergedStatus, kNotComputingStatus,
                           kDeviceLostStatus, kInterruptedStatus}) {
    int count = 0;
    for (const ExitStatus& one : exit_statuses()) count += one.status == status;
    CHECK(count == 1);
    CHECK(exit_status_help().find(fmt::format("  {:3}  ", status)) != std::string::npos);
  }
}

}  // namespace
}  // namespace surtsey::experiments
