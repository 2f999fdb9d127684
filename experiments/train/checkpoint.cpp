#include "experiments/train/checkpoint.h"

#include <nlohmann/json.hpp>
#include "experiments/base/file.h"
#include "experiments/base/json_text.h"
#include "experiments/formats/safetensors.h"
#include "experiments/models/hub/own.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;
using graph::HostTensor;
using graph::State;
using nlohmann::json;

constexpr size_t kKeep = 2;
constexpr const char* kFormat = hub::kCheckpointFormat;
constexpr const char* kPrefix = "step-";
constexpr const char* kLatest = "latest";
constexpr const char* kModel = "model.safetensors";
constexpr const char* kRest = "optimizer.safetensors";

std::string_view text_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void rename_path(const std::string& from, const std::string& to) {
  check(::rename(from.c_str(), to.c_str()) == 0, "{}: cannot be renamed to {}: {}", from, to, std::strerror(errno));
}

// Moves a directory to where another may stand. The two change places, so that a crash finds one or
// the other; only where the file system cannot do that does the old one go first.
void replace_directory(const std::string& from, const std::string& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) != 0) {
    std::error_code error;
    fs::remove_all(to, error);
    rename_path(from, to);
    return;
  }
  std::error_code error;
  fs::remove_all(from, error);
}

// The step of a name such as step-00001000; -1 for any other name.
int64_t step_of(const std::string& name) {
  if (!name.starts_with(kPrefix)) return -1;
  const char* first = name.data() + std::string_view(kPrefix).size();
  int64_t step = -1;
  const auto [end, error] = std::from_chars(first, name.data() + name.size(), step);
  return error == std::errc() && end == name.data() + name.size() ? step : -1;
}

json read_config(const std::string& directory) {
  const std::string path = directory + "/config.json";
  const json config = json::parse(read_file(path), nullptr, false);
  check(!config.is_discarded() && config.is_object(), "{}: is not a JSON object (truncated?)", path);
  check(config.value("format", json()) == kFormat, "{}: is not a checkpoint of this format: {}", path, kFormat);
  check(config.contains("step") && config["step"].is_number_integer() && config.contains("config") &&
            config["config"].is_object(),
        "{}: misses step or config", path);
  return config;
}

// Why a save does not have all its parts, of their full length; empty where it has. No tensor is read.
std::string fault_of(const std::string& directory) {
  try {
    read_config(directory);
    for (const char* file : {kModel, kRest}) check_safetensors_size(directory + "/" + file);
    return "";
  } catch (const UserError& error) {
    return error.what();
  }
}

bool is_whole(const std::string& directory) { return fault_of(directory).empty(); }

// The steps of ROOT's saves, ascending.
std::vector<int64_t> steps_under(const std::string& root) {
  std::vector<int64_t> steps;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(root, error)) {
    const int64_t step = step_of(entry.path().filename().string());
    if (step >= 0 && entry.is_directory(error)) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

// Removes the saves before the newest ones. Failing to is no reason to fail the save that succeeded. What stands
// behind the one just written (a run went back in its steps) and what cannot be read is not ours to remove.
void remove_old(const std::string& root, int64_t written) {
  std::vector<int64_t> old;
  for (const int64_t step : steps_under(root)) {
    if (step < written && is_whole(checkpoint_directory(root, step))) old.push_back(step);
  }
  std::error_code error;
  for (size_t i = 0; i + kKeep - 1 < old.size(); ++i) fs::remove_all(checkpoint_directory(root, old[i]), error);
}

// Makes room for a save where one stands that cannot be read: it keeps what it has under another name.
void set_aside(const std::string& directory) {
  std::error_code error;
  if (!fs::exists(directory, error) || is_whole(directory)) return;
  const fs::path path(directory);
  for (int number = 1;; ++number) {
    const std::string to =
        (path.parent_path() / fmt::format("unreadable-{}-{}", path.filename().string(), number)).string();
    if (fs::exists(to, error)) continue;
    rename_path(directory, to);
    fmt::print(stderr, "warning: {} is no whole save; it is now {}\n", directory, to);
    return;
  }
}

// The directory that ROOT/latest names; empty, with the reason, when it names none.
std::string pointed_to(const std::string& root, std::string& why) {
  const std::string pointer = root + "/" + kLatest;
  std::optional<std::string> name;
  try {
    name = read_file_if_exists(pointer);
  } catch (const UserError& error) {
    why = error.what();
    return "";
  }
  if (!name) {
    why = fmt::format("{} is missing", pointer);
    return "";
  }
  while (!name->empty() && std::isspace(static_cast<unsigned char>(name->back()))) name->pop_back();
  if (step_of(*name) < 0) {
    why = fmt::format("{} names no checkpoint: {}", pointer, json_text(json(*name)));
    return "";
  }
  const std::string directory = root + "/" + *name;
  std::error_code error;
  if (fs::is_directory(directory, error)) return directory;
  why = fmt::format("{} points to {}, which is missing", pointer, directory);
  return "";
}

// A save's directory: the path itself, what its pointer names, or else the newest whole save under it. `note` says why
// the pointer was not followed.
std::string resolve(const std::string& path, std::string& note) {
  std::error_code error;
  check(fs::is_directory(path, error), "{}: there is no checkpoint directory", path);
  if (fs::exists(path + "/config.json", error)) return path;
  std::string why;
  std::string directory = pointed_to(path, why);
  if (!directory.empty()) return directory;
  const std::vector<int64_t> steps = steps_under(path);
  std::string faults;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    directory = checkpoint_directory(path, *step);
    const std::string fault = fault_of(directory);
    if (!fault.empty()) {
      faults += "\n  " + fault;
      continue;
    }
    note = fmt::format("{}: its newest whole save is taken, {}", why, fs::path(directory).filename().string());
    return directory;
  }
  throw UserError(fmt::format("{}: there is no checkpoint: no config.json, and {}{}", path, why,
                              faults.empty() ? "" : "; none of its saves is whole:" + faults));
}

std::string resolve(const std::string& path) {
  std::string note;
  return resolve(path, note);
}

// What a pointer names is not passed over in silence: its steps would be lost. The error of reading it says what else
// there is.
template <typename Read>
auto read_save(const std::string& path, const std::string& directory, const Read& read) {
  try {
    return read();
  } catch (const UserError& error) {
    std::string whole, faults;
    const std::vector<int64_t> steps = directory == path ? std::vector<int64_t>{} : steps_under(path);
    for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
      const std::string other = checkpoint_directory(path, *step);
      if (other == directory) continue;
      const std::string fault = fault_of(other);
      if (!fault.empty()) faults += "\n  " + fault;
      if (fault.empty() && whole.empty()) whole = fs::path(other).filename().string();
    }
    throw UserError(fmt::format(
        "{}{}{}", error.what(),
        whole.empty() ? ""
                      : fmt::format("; {} is whole: write this name into {}/{} to go on there", whole, path, kLatest),
        faults.empty() ? "" : "; others that cannot be read:" + faults));
  }
}

bool matches(const std::string& name, const std::set<std::string>& patterns) {
  for (const std::string& pattern : patterns) {
    if (pattern.ends_with('*') ? name.starts_with(pattern.substr(0, pattern.size() - 1)) : name == pattern) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::string save_checkpoint(const std::string& root, const Checkpoint& checkpoint, const graph::ParameterStore& store,
                            bool trained_only) {
  check(checkpoint.config->is_object(), "a checkpoint's config must be an object");
  Safetensors model{
      trained_only ? store.unpack(checkpoint.state.at(graph::kParameters)) : store.to_tensors(checkpoint.state),
      {{"format", "pt"}}};
  Safetensors rest{checkpoint.state, {{"format", kFormat}}};
  rest.tensors.erase(graph::kParameters);
  for (const auto& [name, type] : store.frozen_state()) rest.tensors.erase(name);
  const json config = {{"format", kFormat}, {"step", checkpoint.step}, {"config", *checkpoint.config}};

  const std::string directory = checkpoint_directory(root, checkpoint.step);
  const std::string name = fs::path(directory).filename().string();
  const std::string temporary = root + "/" + kUnfinished + name;
  std::error_code error;
  fs::create_directories(root, error);
  check(!error, "{}: cannot be created: {}", root, error.message());
  remove_unfinished(root);
  try {
    fs::remove_all(temporary, error);
    fs::create_directory(temporary, error);
    check(!error, "{}: cannot be created: {}", temporary, error.message());
    write_file_synced(temporary + "/" + kModel, text_of(format_safetensors(model)));
    write_file_synced(temporary + "/" + kRest, text_of(format_safetensors(rest)));
    write_file_synced(temporary + "/config.json", json_text(config, 2) + "\n");
    sync_folder(temporary);
    set_aside(directory);
    replace_directory(temporary, directory);
    sync_folder(root);
  } catch (...) {
    fs::remove_all(temporary, error);
    throw;
  }
  write_file_atomic(root + "/" + kLatest, name + "\n");
  remove_old(root, checkpoint.step);
  return directory;
}

json load_checkpoint_config(const std::string& path) {
  const std::string directory = resolve(path);
  return read_save(path, directory, [&] { return read_config(directory).at("config"); });
}

int64_t load_checkpoint_step(const std::string& path) {
  const std::string directory = resolve(path);
  return read_save(path, directory, [&] { return read_config(directory).at("step").get<int64_t>(); });
}

Checkpoint load_checkpoint(const std::string& path, const graph::ParameterStore& store, bool trained_only) {
  std::string note;
  const std::string directory = resolve(path, note);
  if (!note.empty()) fmt::print(stderr, "warning: {}\n", note);
  Checkpoint checkpoint;
  const std::string model = directory + "/" + kModel;
  State tensors = read_save(path, directory, [&] {
    const json config = read_config(directory);
    checkpoint.config = config.at("config");
    checkpoint.step = config.at("step").get<int64_t>();
    checkpoint.state = read_safetensors(directory + "/" + kRest).tensors;
    return read_safetensors(model).tensors;
  });
  try {
    if (trained_only) {
      checkpoint.state[graph::kParameters] = store.pack(tensors);
    } else {
      checkpoint.state.merge(store.to_state(std::move(tensors)));
    }
  } catch (const UserError& error) {
    throw UserError(fmt::format("{}: does not fit the model: {}", model, error.what()));
  }
  return checkpoint;
}

std::string checkpoint_folder(const std::string& directory) {
  const std::string inside = (std::filesystem::path(directory) / "checkpoint").string();
  return std::filesystem::is_directory(inside) ? inside : directory;
}

bool has_checkpoint(const std::string& root) {
  std::error_code error;
  return fs::exists(root + "/" + kLatest, error) || !steps_under(root).empty();
}

std::vector<int64_t> checkpoint_steps(const std::string& root) {
  std::vector<int64_t> steps = steps_under(root);
  std::erase_if(steps, [&](int64_t step) { return !fs::exists(checkpoint_directory(root, step) + "/config.json"); });
  return steps;
}

std::string checkpoint_directory(const std::string& root, int64_t step) {
  return fmt::format("{}/{}{:08}", root, kPrefix, step);
}

State member_state(const State& state, const std::set<std::string>& per_member, int64_t member) {
  State result;
  for (const auto& [name, tensor] : state) {
    if (!matches(name, per_member)) {
      result.emplace(name, tensor);
      continue;
    }
    check(!tensor.type.shape.empty() && member >= 0 && member < tensor.type.shape[0], "{} is {}: it has no member {}",
          name, to_string(tensor.type), member);
    graph::Type type = tensor.type;
    type.shape.erase(type.shape.begin());
    const int64_t count = graph::element_count(type.shape);
    const auto first = tensor.values.begin() + member * count;
    result.emplace(name, HostTensor(type, {first, first + count}));
  }
  return result;
}

State ensemble_state(const std::vector<State>& members, const std::set<std::string>& per_member) {
  check(!members.empty(), "an ensemble has at least one member");
  State result = members[0];
  for (auto& [name, tensor] : result) {
    if (!matches(name, per_member)) continue;
    const graph::Type type = tensor.type;
    tensor.type.shape.insert(tensor.type.shape.begin(), int64_t(members.size()));
    for (size_t i = 1; i < members.size(); ++i) {
      const auto found = members[i].find(name);
      check(found != members[i].end() && found->second.type == type, "member {} of the ensemble has no {} of type {}",
            i, name, to_string(type));
      tensor.values.insert(tensor.values.end(), found->second.values.begin(), found->second.values.end());
    }
  }
  return result;
}

}  // namespace surtsey::experiments
