#include "experiments/models/hub/export.h"
#include "experiments/base/computing_device.h"
#include "experiments/base/exit_status.h"
#include "experiments/base/file.h"
#include "experiments/commands/adapted_source.h"
#include "experiments/commands/asked_model.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/labels_file.h"
#include "experiments/commands/model_tokenizer.h"
#include "experiments/models/hub/import.h"
#include "experiments/models/hub/label_head.h"
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
void print_perplexities(const EvalTask& task, const char* first_name, const char* second_name,
                        const std::vector<EvalSample>& before, const std::vector<EvalSample>& after) {
  std::vector<TaskResult> results;
  for (const auto& [name, samples] : {std::pair{first_name, &before}, {second_name, &after}}) {
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
  print_line(fmt::format("token_perplexity {} / {}: {:.4f}{}, over {} windows", second_name, first_name,
                         std::exp(more.value), reach, first.size()));
}

std::optional<EvalTask> task_of(const std::string& text) {
  if (text.empty()) return {};
  return text_task(fs::path(text).filename().string(), read_text(text));
}

std::vector<EvalSample> asked(engine::Device& device, const EvalTask& task, const std::string& model,
                              SlotOptions options) {
  OpenModel open(device, model, std::move(options));
  return ask_all(open.asked(), task, {}, {});
}

void write_model(const hub::Source& source, const std::string& out, const std::string& type) {
  check(!out.empty(), "--out is missing: a folder, or a file that ends in .gguf");
  const hub::KeptType kept = type.empty() ? hub::KeptType() : parse_type(type);
  if (fs::path(out).extension() == ".gguf") {
    write_gguf_file(source, out, kept);
  } else {
    hub::export_folder(source, out, kept);
  }
  print_written(out);
}

}  // namespace

void export_model(const ExportOptions& options) { write_model(*open_source(options.model), options.out, options.type); }

void quantize(const QuantizeOptions& options) {
  const StoredType type = parse_type(options.type);
  check(is_block_type(type), "--type {} has no blocks; `surtsey export` writes it", options.type);
  check(fs::path(options.out).extension() == ".gguf", "--out is a file that ends in .gguf, not '{}'", options.out);
  const std::optional<EvalTask> task = task_of(options.text);
  write_gguf_file(*open_source(options.model), options.out, type);
  print_written(options.out);
  if (!task) return;
  engine::Device device = open_computing_device({.select = options.device});
  const std::vector<EvalSample> before = asked(device, *task, options.model, {.context = options.context});
  print_perplexities(*task, "before", options.type.c_str(), before,
                     asked(device, *task, options.out, {.context = options.context}));
}

void merge(const MergeOptions& options) {
  const std::optional<EvalTask> task = task_of(options.text);
  const std::unique_ptr<hub::Source> source = open_source(options.model);
  if (const int64_t labels = adapter_labels(options.adapter); labels > 0) {
    check(!task, "--text: a head of labels has no perplexity");
    const tasks::LabelSet set = read_labels(options.adapter);
    hub::give_label_head(*source, labels);
    check(set.count() == labels, "{}: the head has {} labels, labels.json names {}", options.adapter, labels,
          set.count());
    hub::name_labels(*source, set.names, name(set.problem));
  }
  const Model model(hub::model_config(*source));
  const Adaptation adaptation(options.adapter, *source, model);
  adapt_source(*source, adaptation, model, adaptation.tensors());
  write_model(*source, options.out, options.type);
  if (!task) return;
  engine::Device device = open_computing_device({.select = options.device});
  const std::vector<EvalSample> before =
      asked(device, *task, options.model, {.context = options.context, .adapter = options.adapter});
  print_perplexities(*task, "beside", "merged", before,
                     asked(device, *task, options.out, {.context = options.context}));
}

}  // namespace surtsey::experiments::commands
