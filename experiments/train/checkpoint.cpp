#include "experiments/train/checkpoint.h"

#include <nlohmann/json.hpp>

#include "experiments/formats/safetensors.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;
using graph::HostTensor;
using graph::State;
using nlohmann::json;

constexpr size_t kKeep = 2;
constexpr const char* kFormat = "surtsey-checkpoint-1";
constexpr const char* kPrefix = "step-";
constexpr const char* kTemporary = ".tmp-";

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// Makes the names in a directory durable.
void sync_directory(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_DIRECTORY);
  check(file >= 0, "{}: cannot be opened: {}", path, std::strerror(errno));
  const int failed = ::fsync(file);
  const int error = errno;
  ::close(file);
  // Some file systems cannot sync a directory; there is nothing to do about it there.
  check(failed == 0 || error == EINVAL, "{}: cannot be synced: {}", path, std::strerror(error));
}

void write_file(const std::string& path, std::span<const std::byte> content) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  check(file >= 0, "{}: cannot be written: {}", path, std::strerror(errno));
  int error = 0;
  while (!content.empty() && error == 0) {
    const ssize_t count = ::write(file, content.data(), content.size());
    if (count >= 0) {
      content = content.subspan(size_t(count));
    } else if (errno != EINTR) {
      error = errno;
    }
  }
  if (error == 0 && ::fsync(file) != 0) error = errno;
  if (::close(file) != 0 && error == 0) error = errno;
  check(error == 0, "{}: cannot be written: {}", path, std::strerror(error));
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

std::string parent_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

void write_atomically(const std::string& path, std::span<const std::byte> content) {
  const std::string temporary = path + ".tmp";
  try {
    write_file(temporary, content);
    rename_path(temporary, path);
    sync_directory(parent_of(path));
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

std::string read_text(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  check(stream.is_open(), "{}: cannot be opened: {}", path, std::strerror(errno));
  return {std::istreambuf_iterator<char>(stream), {}};
}

bool is_save(const fs::directory_entry& entry) {
  return entry.is_directory() && entry.path().filename().string().starts_with(kPrefix);
}

// Removes what a killed save left behind.
void remove_unfinished(const std::string& root) {
  std::error_code error;
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(root, error)) {
    if (entry.path().filename().string().starts_with(kTemporary)) found.push_back(entry.path());
  }
  for (const fs::path& path : found) fs::remove_all(path, error);
}

// Removes all but the newest saves. Failing to is no reason to fail the save that succeeded.
void remove_old(const std::string& root, const std::string& newest) {
  std::error_code error;
  std::set<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(root, error)) {
    if (is_save(entry)) names.insert(entry.path().filename().string());
  }
  // The one just written stays even when a run went back in its steps.
  names.erase(newest);
  while (names.size() > kKeep - 1) {
    fs::remove_all(fs::path(root) / *names.begin(), error);
    names.erase(names.begin());
  }
}

// A save's directory: the path itself, or what its pointer names.
std::string resolve(const std::string& path) {
  std::error_code error;
  check(fs::is_directory(path, error), "{}: there is no checkpoint directory", path);
  if (fs::exists(path + "/config.json", error)) return path;
  const std::string pointer = path + "/latest";
  check(fs::exists(pointer, error), "{}: there is no checkpoint: neither config.json nor latest", path);
  std::string name = read_text(pointer);
  while (!name.empty() && std::isspace(static_cast<unsigned char>(name.back()))) name.pop_back();
  check(name.starts_with(kPrefix) && name.find('/') == std::string::npos, "{}: names no checkpoint: {}", pointer,
        json(name).dump(-1, ' ', true, json::error_handler_t::replace));
  const std::string directory = path + "/" + name;
  check(fs::is_directory(directory, error), "{}: points to {}, which is missing", pointer, directory);
  return directory;
}

json read_config(const std::string& directory) {
  const std::string path = directory + "/config.json";
  const json config = json::parse(read_text(path), nullptr, false);
  check(!config.is_discarded() && config.is_object(), "{}: is not a JSON object (truncated?)", path);
  check(config.value("format", json()) == kFormat, "{}: is not a checkpoint of this format: {}", path, kFormat);
  check(config.contains("step") && config["step"].is_number_integer() && config.contains("config") &&
            config["config"].is_object(),
        "{}: misses step or config", path);
  return config;
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

void write_file_atomically(const std::string& path, const std::vector<std::byte>& content) {
  write_atomically(path, content);
}

void write_file_atomically(const std::string& path, std::string_view content) {
  write_atomically(path, bytes_of(content));
}

std::string save_checkpoint(const std::string& root, const Checkpoint& checkpoint, const graph::ParameterStore& store) {
  check(checkpoint.config->is_object(), "a checkpoint's config must be an object");
  const auto flat = checkpoint.state.find(graph::kParameters);
  check(flat != checkpoint.state.end(), "a checkpoint needs the state tensor {}", graph::kParameters);
  Safetensors model{store.unpack(flat->second), {{"format", "pt"}}};
  Safetensors rest{checkpoint.state, {{"format", kFormat}}};
  rest.tensors.erase(graph::kParameters);
  const json config = {{"format", kFormat}, {"step", checkpoint.step}, {"config", *checkpoint.config}};

  const std::string directory = checkpoint_directory(root, checkpoint.step);
  const std::string name = fs::path(directory).filename().string();
  const std::string temporary = root + "/" + kTemporary + name;
  std::error_code error;
  fs::create_directories(root, error);
  check(!error, "{}: cannot be created: {}", root, error.message());
  remove_unfinished(root);
  try {
    fs::remove_all(temporary, error);
    fs::create_directory(temporary, error);
    check(!error, "{}: cannot be created: {}", temporary, error.message());
    write_file(temporary + "/model.safetensors", format_safetensors(model));
    write_file(temporary + "/optimizer.safetensors", format_safetensors(rest));
    write_file(temporary + "/config.json", bytes_of(config.dump(2) + "\n"));
    sync_directory(temporary);
    replace_directory(temporary, directory);
    sync_directory(root);
  } catch (...) {
    fs::remove_all(temporary, error);
    throw;
  }
  write_file_atomically(root + "/latest", name + "\n");
  remove_old(root, name);
  return directory;
}

json load_checkpoint_config(const std::string& path) { return read_config(resolve(path)).at("config"); }

int64_t load_checkpoint_step(const std::string& path) { return read_config(resolve(path)).at("step").get<int64_t>(); }

Checkpoint load_checkpoint(const std::string& path, const graph::ParameterStore& store) {
  const std::string directory = resolve(path);
  const json config = read_config(directory);
  Checkpoint checkpoint;
  checkpoint.config = config.at("config");
  checkpoint.step = config.at("step").get<int64_t>();
  checkpoint.state = read_safetensors(directory + "/optimizer.safetensors").tensors;
  const std::string model = directory + "/model.safetensors";
  const State tensors = read_safetensors(model).tensors;
  try {
    checkpoint.state[graph::kParameters] = store.pack(tensors);
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
  return fs::exists(root + "/latest", error);
}

std::vector<int64_t> checkpoint_steps(const std::string& root) {
  std::vector<int64_t> steps;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix) || !fs::exists(entry.path() / "config.json")) continue;
    steps.push_back(std::strtoll(name.c_str() + std::string_view(kPrefix).size(), nullptr, 10));
  }
  std::sort(steps.begin(), steps.end());
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
