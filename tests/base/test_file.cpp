// Files read and written, the lock of a folder, any bytes as UTF-8 and JSON.
#include "experiments/base/file.h"
#include "experiments/base/folder_lock.h"
#include "experiments/base/json_text.h"
#include "experiments/base/utf8.h"
#include "graph/error.h"
#include "tests/support/child.h"
#include "tests/support/folder.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <nlohmann/json.hpp>

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

namespace surtsey::experiments {
namespace {

using Catch::Matchers::ContainsSubstring;
using tests::Folder;
using tests::in_child;
using tests::slurp;
namespace fs = std::filesystem;

TEST_CASE("a reader reads files and pipes to their end, and no folders", "[file]") {
  const Folder folder;
  std::ofstream(folder / "a") << std::string("one\0two", 7);
  CHECK(read_file(folder / "a") == std::string("one\0two", 7));
  CHECK_THROWS_WITH(read_file(folder / "none"), ContainsSubstring("none") && ContainsSubstring("No such file"));
  CHECK_THROWS_WITH(read_file(folder.path()), ContainsSubstring("Is a directory"));
  CHECK_FALSE(read_file_if_exists(folder / "none"));
  CHECK_FALSE(read_file_if_exists(folder / "a" / "below"));
  CHECK_THROWS_AS(read_file_if_exists(folder.path()), UserError);

  REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  const std::string long_text(300'000, 'x');
  std::thread writer([&] { std::ofstream(folder / "pipe") << long_text; });
  CHECK(read_file(folder / "pipe") == long_text);
  writer.join();
}

TEST_CASE("a file is replaced or stays as it was", "[file]") {
  const Folder folder;
  const fs::path file = folder / "a.json";
  write_file_atomic(file, "old");
  CHECK_THROWS_WITH(write_file_atomic(folder / "no" / "a", "x"), ContainsSubstring("no/a"));
  // Larger than this process may write: as on a full disk.
  CHECK(in_child([&] {
          std::signal(SIGXFSZ, SIG_IGN);
          const rlimit limit = {1000, 1000};
          if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 3;
          try {
            write_file_atomic(file, std::string(5000, 'x'));
          } catch (const UserError& error) {
            return std::string(error.what()).find("a.json' cannot be written: File too large") == std::string::npos ? 4
                                                                                                                    : 0;
          }
          return 2;
        }) == 0);
  CHECK(slurp(file) == "old");
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 1);
  write_file_atomic(file, "new");
  CHECK(slurp(file) == "new");
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 1);

  // A link stays one, and so does what is no file.
  fs::create_symlink("a.json", folder / "link");
  write_file_atomic(folder / "link", "linked");
  CHECK(fs::is_symlink(folder / "link"));
  CHECK(slurp(file) == "linked");
  write_file_atomic("/dev/null", "nothing");
  CHECK(fs::is_character_file("/dev/null"));
  CHECK_THROWS_WITH(write_file_atomic("/dev/full", "x"), ContainsSubstring("No space left"));
}

TEST_CASE("lines are added whole or not at all", "[file]") {
  const Folder folder;
  const fs::path file = folder / "lines";
  append_file_synced(file, "first\n");
  CHECK(in_child([&] {
          std::signal(SIGXFSZ, SIG_IGN);
          const rlimit limit = {10, 10};
          if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 3;
          try {
            append_file_synced(file, "second line\n");
          } catch (const UserError&) {
            return 0;
          }
          return 2;
        }) == 0);
  append_file_synced(file, "third\n");
  CHECK(slurp(file) == "first\nthird\n");
}

TEST_CASE("what a killed writer left goes, and nothing else", "[file]") {
  const Folder folder;
  write_file_atomic(folder / "kept", "x");
  std::ofstream(folder / (std::string(kUnfinished) + "a-1-0")) << "half";
  fs::create_directories(folder / (std::string(kUnfinished) + "step-00000001") / "inside");
  remove_unfinished(folder.path());
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 1);
  CHECK(slurp(folder / "kept") == "x");
}

TEST_CASE("a folder has one writer, as long as that lives", "[file]") {
  const Folder folder;
  const fs::path run = folder / "deep" / "run";
  const auto other_takes = [&] { return in_child([&] { return FolderLock::try_take(run) ? 1 : 0; }) == 1; };
  CHECK_FALSE(FolderLock::is_held(run));
  {
    const FolderLock lock = FolderLock::take(run);
    CHECK(FolderLock::is_held(run));
    CHECK_FALSE(other_takes());
    {
      const std::optional<FolderLock> again = FolderLock::try_take(run);
      CHECK(again.has_value());
    }
    // The second one's end did not end the first.
    CHECK_FALSE(other_takes());
    CHECK(in_child([&] {
            try {
              FolderLock::take(run);
            } catch (const UserError& error) {
              const std::string text = error.what();
              const bool names = text.find(fmt::format("process {} on", getppid())) != std::string::npos &&
                                 text.find(run.string()) != std::string::npos;
              return names ? 0 : 1;
            }
            return 2;
          }) == 0);
  }
  CHECK_FALSE(FolderLock::is_held(run));
  CHECK(other_takes());
  CHECK_FALSE(FolderLock::is_held(run));

  // A process that is killed holds nothing.
  int ready[2] = {};
  REQUIRE(pipe(ready) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const FolderLock lock = FolderLock::take(run);
    [[maybe_unused]] const auto written = write(ready[1], "x", 1);
    while (true) pause();
  }
  char letter = 0;
  REQUIRE(read(ready[0], &letter, 1) == 1);
  CHECK(FolderLock::is_held(run));
  CHECK_THROWS_WITH(FolderLock::take(run), ContainsSubstring(fmt::format("process {} on", child)));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  CHECK_FALSE(FolderLock::is_held(run));
  for (const int end : ready) close(end);

  std::ofstream(folder / "file") << "x";
  CHECK_THROWS_WITH(FolderLock::take(folder / "file"), ContainsSubstring("file"));
}

TEST_CASE("any bytes come back from UTF-8", "[utf8]") {
  CHECK(bytes_to_utf8("plain, ü, 火, 😀") == "plain, ü, 火, 😀");
  CHECK(bytes_to_utf8("caf\xE9") == "caf\xEE\xBF\xA9");
  // Stray bytes, a cut and an overlong form, a surrogate, beyond the last code point, and a code point that stands for
  // a byte itself.
  for (const std::string& bytes :
       {std::string("\x80\xFF"), std::string("\xC3"), std::string("\xC0\xAF"), std::string("\xED\xA0\x80"),
        std::string("\xF5\x80\x80\x80"), std::string("a\xEE\xBF\xA9z"), std::string("x\0y", 3)}) {
    const std::string text = bytes_to_utf8(bytes);
    for (size_t at = 0; at < text.size(); at += code_point_at(text, at).length) {
      REQUIRE(code_point_at(text, at).length > 0);
    }
    CHECK(bytes_from_utf8(text) == bytes);
  }
}

TEST_CASE("a text is read without a byte order mark, and a fault of it by byte and line", "[file][utf8]") {
  const Folder folder;
  std::ofstream(folder / "a.txt") << "\xEF\xBB\xBFone\xEF\xBB\xBF";
  CHECK(read_text(folder / "a.txt") == "one\xEF\xBB\xBF");
  std::ofstream(folder / "b.txt") << "one\ntw\xFFo\n";
  CHECK_THROWS_WITH(read_text(folder / "b.txt"), ContainsSubstring("b.txt: byte 6 is not UTF-8 (in line 2)"));
  CHECK_THROWS_WITH(check_utf8("caf\xE9", "--prompt"),
                    ContainsSubstring("--prompt: byte 3 is not UTF-8") && !ContainsSubstring("line"));
}

TEST_CASE("JSON is written whatever bytes its strings have", "[utf8]") {
  const nlohmann::ordered_json plain = {{"b", 1}, {"a", {1.5, nullptr, "ü"}}};
  CHECK(json_text(plain) == plain.dump());
  CHECK(json_text(plain, 2) == plain.dump(2));
  nlohmann::json odd = {{"list", {"caf\xE9", 2}}};
  odd["k\xE9y"] = true;
  const auto back = nlohmann::json::parse(json_text(odd));
  CHECK(bytes_from_utf8(back["list"][0].get<std::string>()) == "caf\xE9");
  CHECK(back["list"][1] == 2);
  CHECK(back[bytes_to_utf8("k\xE9y")] == true);
}

}  // namespace
}  // namespace surtsey::experiments
