#include "experiments/models/hub/export.h"
#include "experiments/commands/commands.h"
#include "experiments/train/checkpoint.h"
#include "graph/error.h"

namespace surtsey::experiments::commands {
namespace {

namespace fs = std::filesystem;

// A model of others, or the newest save of a run of ours.
std::unique_ptr<hub::Source> open_source(const std::string& model) {
  check(!model.empty(), "which model? A folder, a GGUF file, or a run");
  const std::string root = checkpoint_folder(model);
  const std::vector<int64_t> steps = checkpoint_steps(root);
  return hub::open_model(steps.empty() ? fs::path(model) : fs::path(checkpoint_directory(root, steps.back())));
}

std::string megabytes(uint64_t bytes) { return fmt::format("{:.1f} MB", double(bytes) / 1e6); }

// What was written, by type.
void print_written(const std::string& out) {
  const std::unique_ptr<hub::Source> written = hub::open_model(out);
  struct Sum {
    uint64_t tensors = 0, bytes = 0;
  };
  std::map<StoredType, Sum> sums;
  for (const hub::TensorInfo& info : written->tensors()) {
    sums[info.type].tensors += 1;
    sums[info.type].bytes += info.bytes;
  }
  std::string line;
  uint64_t total = 0;
  for (const auto& [type, sum] : sums) {
    line += fmt::format("{}{} {} ({})", line.empty() ? "" : ", ", sum.tensors, name(type), megabytes(sum.bytes));
    total += sum.bytes;
  }
  fmt::print("{}: {} in tensors: {}\n", out, megabytes(total), line);
}

StoredType parse_type(const std::string& word) {
  const std::optional<StoredType> type = stored_type(word);
  check(type.has_value(), "--type is one of {}, not '{}'", fmt::join(stored_type_names(), ", "), word);
  return *type;
}

void write_gguf_file(const hub::Source& source, const std::string& out, hub::KeptType type) {
  hub::export_gguf(source, out, type, [](const std::string& line) { fmt::print(stderr, "{}\n", line); });
}

}  // namespace

void export_model(const ExportOptions& options) {
  check(!options.out.empty(), "--out is missing: a folder, or a file that ends in .gguf");
  const hub::KeptType type = options.type.empty() ? hub::KeptType() : parse_type(options.type);
  const std::unique_ptr<hub::Source> source = open_source(options.model);
  if (fs::path(options.out).extension() == ".gguf") {
    write_gguf_file(*source, options.out, type);
  } else {
    hub::export_folder(*source, options.out, type);
  }
  print_written(options.out);
}

void quantize(const QuantizeOptions& options) {
  const StoredType type = parse_type(options.type);
  check(is_block_type(type), "--type {} has no blocks; `surtsey export` writes it", options.type);
  check(fs::path(options.out).extension() == ".gguf", "--out is a file that ends in .gguf, not '{}'", options.out);
  write_gguf_file(*open_source(options.model), options.out, type);
  print_written(options.out);
}

}  // namespace surtsey::experiments::commands
