// The few lines that differ between operating systems, on the one that this is.

#include "graph/error.h"
#include "graph/platform.h"
#include "tests/support/folder.h"

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <thread>

using namespace surtsey;
namespace fs = std::filesystem;

TEST_CASE("platform: a process knows its program, its machine and its time", "[platform]") {
  CHECK(platform::program_path().filename() == "surtsey_tests");
  CHECK(platform::process_id() > 0);
  CHECK(platform::system_name().find(' ') != std::string::npos);
  CHECK_FALSE(platform::machine_name().empty());
  CHECK_FALSE(platform::processor_name().empty());
  const uint64_t before = platform::thread_cpu_ns();
  volatile double sum = 0;
  for (int i = 0; i < 2'000'000; ++i) sum = sum + i;
  const uint64_t worked = platform::thread_cpu_ns();
  CHECK(worked > before);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK(platform::thread_cpu_ns() - worked < 40'000'000);
}

TEST_CASE("platform: variables are set and removed", "[platform]") {
  platform::set_variable("SURTSEY_PLATFORM", "a value");
  CHECK(std::system("test \"$SURTSEY_PLATFORM\" = 'a value'") == 0);
  platform::set_variable("SURTSEY_PLATFORM", "");
  CHECK(std::system("test -z \"${SURTSEY_PLATFORM+set}\"") == 0);
}

TEST_CASE("platform: a lock is held by one at a time, in one process too", "[platform]") {
  const tests::Folder folder;
  const fs::path path = folder / "lock";
  CHECK_FALSE(platform::FileLock::held(path));
  {
    const auto lock = platform::FileLock::take(path);
    REQUIRE(lock);
    CHECK(platform::FileLock::held(path));
    CHECK_FALSE(platform::FileLock::take(path));
    tests::write(path, "still writable");
    CHECK(tests::slurp(path) == "still writable");
  }
  CHECK_FALSE(platform::FileLock::held(path));
  CHECK(platform::FileLock::take(path));
  CHECK_THROWS_AS(platform::FileLock::take(folder / "none" / "lock"), UserError);
}

TEST_CASE("platform: files and folders are synced, and change places", "[platform]") {
  const tests::Folder folder;
  std::FILE* file = std::fopen((folder / "one").string().c_str(), "wb");
  REQUIRE(file != nullptr);
  std::fputs("1", file);
  platform::sync_file(file, folder / "one");
  CHECK(tests::slurp(folder / "one") == "1");  // nothing waits in a buffer
  std::fclose(file);
  platform::sync_directory(folder.path());
  CHECK_THROWS_AS(platform::sync_directory(folder / "none"), UserError);
  tests::write(folder / "two", "2");
  if (platform::exchange(folder / "one", folder / "two")) {
    CHECK(tests::slurp(folder / "one") == "2");
    CHECK(tests::slurp(folder / "two") == "1");
  }
  CHECK_FALSE(platform::exchange(folder / "one", folder / "none"));
}

TEST_CASE("platform: another program gets its words, variables and files, and its end is known", "[platform]") {
  const tests::Folder folder;
  const auto run = [&](const std::string& script) {
    std::FILE* output = std::fopen((folder / "out").string().c_str(), "wb");
    std::FILE* errors = std::fopen((folder / "err").string().c_str(), "wb");
    auto process = platform::Process::start({"/bin/sh", "-c", script, "sh", "two words", "\"quoted\\\""},
                                            {{"SURTSEY_PLATFORM", "there"}, {"HOME", ""}}, output, errors);
    const platform::Ended ended = process.wait();
    std::fclose(output);
    std::fclose(errors);
    return ended;
  };
  const platform::Ended ended = run("echo \"$1|$2|$SURTSEY_PLATFORM|$HOME\"; echo bad >&2; exit 3");
  CHECK_FALSE(ended.died);
  CHECK(ended.number == 3);
  CHECK(ended.describe() == "exit status 3");
  CHECK(tests::slurp(folder / "out") == "two words|\"quoted\\\"|there|\n");
  CHECK(tests::slurp(folder / "err") == "bad\n");
  const platform::Ended died = run("kill -ABRT $$");
  CHECK(died.died);
  CHECK(died.describe() == "signal 6 (Aborted)");
  CHECK(platform::Process::start({(folder / "none").string()}).wait().number == 127);
}

TEST_CASE("platform: a program that runs is asked to end", "[platform]") {
  auto process = platform::Process::start({"/bin/sleep", "60"});
  // Until it is another program, it has this one's handlers of signals.
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK_FALSE(process.poll());
  process.ask_to_end();
  std::optional<platform::Ended> ended;
  for (int i = 0; i < 1000 && !ended; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ended = process.poll();
  }
  REQUIRE(ended);
  CHECK(ended->died);
  CHECK(ended->number == 15);
}

TEST_CASE("platform: a copy hears that it is interrupted, and ends at once", "[platform]") {
  const platform::Ended ended = platform::run_in_copy([] {
    platform::on_interrupt([] {
      platform::say_at_once("");
      platform::end_at_once(42);
    });
    std::raise(SIGINT);
  });
  CHECK_FALSE(ended.died);
  CHECK(ended.number == 42);
}

TEST_CASE("platform: a file is no terminal", "[platform]") {
  const tests::Folder folder;
  std::FILE* file = std::fopen((folder / "file").string().c_str(), "wb");
  CHECK(platform::terminal_columns(file) == 0);
  std::fclose(file);
}
