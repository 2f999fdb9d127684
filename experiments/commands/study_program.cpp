#include "experiments/commands/study_program.h"

#include "experiments/base/config.h"
#include "experiments/base/join.h"
#include "graph/error.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include <unistd.h>

namespace surtsey::experiments::commands {
namespace {

namespace fs = std::filesystem;

// The programs of studies lie beside this one's: build/surtsey, build/experiments/NAME.
fs::path studies_folder() {
  std::error_code error;
  return fs::read_symlink("/proc/self/exe", error).parent_path() / "experiments";
}

std::vector<std::string> study_names() {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(studies_folder(), error)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && name.find('.') == std::string::npos && name != "example" &&
        access(entry.path().c_str(), X_OK) == 0)
      names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

bool names_a_study(const std::string& subject) {
  if (subject.empty() || subject.find_first_of("./") != std::string::npos || fs::exists(subject)) return false;
  const std::vector<std::string> names = study_names();
  if (std::find(names.begin(), names.end(), subject) != names.end()) return true;
  const std::string near = nearest_word(subject, names);
  throw UserError(fmt::format("'{}' is no file and no study{}; studies are {}", subject,
                              near.empty() ? "" : fmt::format("; did you mean '{}'?", near),
                              names.empty() ? "not built" : join(names, ", ")));
}

void run_study_program(const std::string& study, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), (studies_folder() / study).string());
  std::vector<char*> words;
  for (std::string& argument : arguments) words.push_back(argument.data());
  words.push_back(nullptr);
  std::fflush(nullptr);
  execv(words[0], words.data());
  throw UserError(fmt::format("{} cannot be started: {}", arguments[0], std::strerror(errno)));
}

}  // namespace surtsey::experiments::commands
