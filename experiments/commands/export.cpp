#include "experiments/models/hub/export.h"
#include "experiments/base/exit_status.h"
#include "experiments/base/file.h"
#include "experiments/commands/asked_model.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/model_tokenizer.h"
#include "graph/error.h"

namespace surtsey::experiments::commands {
namespace {

namespace fs = std::filesystem;

std::string megabytes_rounded(uint64_t bytes) { return fmt::format("{:.1f} MB", double(bytes) / 1e6); }

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
    line +=
        fmt::format("{}{} {} ({})", line.empty() ? "" : ", ", sum.tensors, name(type), megabytes_rounded(sum.bytes));
    total += sum.bytes;
  }
  fmt::print("{}: {} in tensors: {}\n", out, megabytes_rounded(total), line);
}

StoredType parse_type(const std::string& word) {
  const std::optional<StoredType> type = stored_type(word);
  check(type.has_value(), "--type is one of {}, not '{}'", fmt::join(stored_type_names(), ", "), word);
  return *type;
}

void write_gguf_file(const hub::Source& source, const std::string& out, hub::KeptType type) {
  hub::export_gguf(source, out, type, [](const std::string& line) { fmt::print(stderr, "{}\n", line); });
}

// Of the same windows of a text, before and after; their ratio is of pairs.
void print_perplexities(const EvalTask& task, const QuantizeOptions& options, const std::vector<EvalSample>& before,
                        const std::vector<EvalSample>& after) {
  std::vector<TaskResult> results;
  for (const auto& [name, samples] : {std::pair{"before", &before}, {options.type.c_str(), &after}}) {
    results.push_back(task_result(task, AnswerFilter(task), 0, *samples));
    results.back().task.name = fmt::format("{} {}", task.name, name);
  }
  fmt::print("{}", results_table(results));
  std::vector<std::pair<double, double>> differences;
  const auto &first = before.front().answers.front().windows, &second = after.front().answers.front().windows;
  for (size_t i = 0; i < first.size(); ++i) {
    differences.emplace_back(first[i].loglikelihood - second[i].loglikelihood, double(first[i].tokens));
  }
  const Ratio more = ratio_of_sums(differences);
  const std::string reach =
      more.ci95 ? fmt::format(" [{:.4f}, {:.4f}]", std::exp(more.ci95->low), std::exp(more.ci95->high)) : "";
  print_line(fmt::format("token_perplexity after / before: {:.4f}{}, over {} windows", std::exp(more.value), reach,
                         first.size()));
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
  std::optional<EvalTask> task;
  if (!options.text.empty()) task = text_task(fs::path(options.text).filename().string(), read_file(options.text));
  write_gguf_file(*open_source(options.model), options.out, type);
  print_written(options.out);
  if (!task) return;
  engine::Device device = engine::Device::open({.select = options.device});
  const auto ask = [&](const std::string& model) {
    OpenModel open(device, model, {.context = options.context});
    return ask_all(open.asked(), *task, {}, {});
  };
  const std::vector<EvalSample> before = ask(options.model);
  print_perplexities(*task, options, before, ask(options.out));
}

}  // namespace surtsey::experiments::commands
