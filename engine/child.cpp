#include "engine/child.h"

#include "graph/error.h"
#include "graph/platform.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace surtsey::engine {
namespace {

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

// What was set last stays in the file when the child dies.
class Written : public Progress {
 public:
  explicit Written(std::FILE* file) : file_(file) {}
  void set(const std::string& what) override {
    std::rewind(file_);
    std::fwrite(what.c_str(), 1, what.size() + 1, file_);
    std::fflush(file_);
  }

 private:
  std::FILE* file_;
};

void write_answer(const std::function<std::string(Progress&)>& work, std::FILE* output, std::FILE* progress) {
  Written written(progress);
  try {
    write_all(output, 'R', work(written));
  } catch (const UserError& error) {
    write_all(output, 'U', error.what());
  } catch (const std::exception& error) {
    write_all(output, 'E', error.what());
  }
}

}  // namespace

ChildResult run_in_child(const std::vector<std::pair<std::string, std::string>>& environment,
                         const std::function<std::string(Progress&)>& work) {
  const File output = temporary(), errors = temporary(), progress = temporary();
  const platform::Ended ended =
      platform::run_in_copy([&] { write_answer(work, output.get(), progress.get()); }, environment, errors.get());

  ChildResult result;
  result.progress = content(progress.get()).c_str();
  result.errors = content(errors.get());
  const std::string text = content(output.get());
  if (ended.died || ended.number != 0 || text.empty()) result.death = ended.describe();
  if (!result.death.empty()) return result;
  result.finished = text[0] == 'R';
  result.user_error = text[0] == 'U';
  result.output = text.substr(1);
  return result;
}

}  // namespace surtsey::engine
