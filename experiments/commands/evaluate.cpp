// `surtsey evaluate`: a model's answers to files of items.
#include "experiments/adapt/peft.h"
#include "experiments/base/computing_device.h"
#include "experiments/base/exit_status.h"
#include "experiments/base/file.h"
#include "experiments/base/interrupt.h"
#include "experiments/base/json_text.h"
#include "experiments/commands/asked_model.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/keys.h"
#include "experiments/commands/model_tokenizer.h"
#include "experiments/commands/retrieval.h"
#include "experiments/results/environment.h"
#include "shaders/cache_file.h"

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

namespace surtsey::experiments::commands {
namespace {

namespace fs = std::filesystem;

void check_options(const EvaluateOptions& options) {
  check_text_or_json(options.format);
  check(options.shots.value_or(0) >= 0, "--shots is a number from 0, not {}", options.shots.value_or(0));
  check(options.batch_size > 0, "--batch_size is at least 1, not {}", options.batch_size);
  for (const auto& [flag, value] : {std::pair{"limit", options.limit},
                                    {"context", options.context},
                                    {"window", options.window},
                                    {"stride", options.stride}}) {
    check(value >= 0, "--{} is a number from 0, not {}", flag, value);
  }
  if (options.resume && options.out.empty()) throw CommandLineError("--resume goes on with an --out");
}

std::vector<EvalTask> load_tasks(const std::vector<std::string>& files) {
  std::vector<EvalTask> tasks;
  std::set<std::string> names;
  for (const std::string& file : files) {
    tasks.push_back(load_task(file));
    check(names.insert(tasks.back().name).second, "{}: there are two tasks '{}'; the key task gives one another name",
          file, tasks.back().name);
  }
  return tasks;
}

// Of what PEFT's files of an adapter hold, wherever they lie.
std::string fingerprint_of(const fs::path& adapter) {
  uint64_t hash = 0;
  for (const char* file : {kAdapterConfig, kAdapterTensors}) {
    hash = shaders::hash64(read_file_if_exists(adapter / file).value_or(""), hash);
  }
  return fmt::format("{:016x}", hash);
}

// What the answers depend on, and what a reader is to know.
std::map<std::string, std::string> config_of(const EvaluateOptions& options, const std::vector<EvalTask>& tasks,
                                             const OpenModel& model, const std::optional<PassagePrompts>& passages) {
  std::map<std::string, std::string> config = {{"model", "surtsey"},
                                               {"model_args", "pretrained=" + options.model},
                                               {"model_fingerprint", model.fingerprint()},
                                               {"weights", options.weights},
                                               {"adapter", options.adapter},
                                               {"max_length", fmt::format("{}", options.context)},
                                               {"window", fmt::format("{}", options.window)},
                                               {"stride", fmt::format("{}", options.stride)},
                                               {"limit", fmt::format("{}", options.limit)},
                                               {"fewshot_seed", fmt::format("{}", options.seed)},
                                               {"shots", options.shots ? fmt::format("{}", *options.shots) : "own"},
                                               {"apply_chat_template", options.apply_chat_template ? "true" : "false"},
                                               {"add_bos_token", options.add_bos_token ? "true" : "false"}};
  if (!options.adapter.empty()) config["adapter_fingerprint"] = fingerprint_of(options.adapter);
  if (options.cache_type != "f32") config["cache_type"] = options.cache_type;
  if (passages) config["retrieve"] = passages->description();
  for (const EvalTask& task : tasks) {
    uint64_t hash = shaders::hash64(task.text);
    for (const auto* lines : {&task.items, &task.shots}) {
      for (const std::string& line : *lines) hash = shaders::hash64(line, hash);
    }
    config["task " + task.name] = fmt::format("{:016x}", hash);
  }
  return config;
}

// Passages before prompts, as far as the model has room for them, what is asked and its answer.
void put_passages(const PassagePrompts& passages, const AskedModel& model, const EvalTask& task,
                  const std::function<std::string(const std::string&)>& chat, std::vector<Prompt>& prompts,
                  const std::vector<std::string>& questions) {
  const auto length = [&](const std::string& text) { return std::ssize(model.tokenizer.encode(text)); };
  for (size_t i = 0; i < prompts.size(); ++i) {
    Prompt& prompt = prompts[i];
    // A continuation's last token is scored and not read; one more may go to a first token of the text.
    int64_t answer = task.output_type == OutputType::generate_until ? task.max_gen_toks : 0;
    for (const std::string& continuation : prompt.continuations) answer = std::max(answer, length(continuation));
    const auto fits = [&](const std::string& text) {
      return length(chat ? chat(text) : text) + answer <= model.scorer.context();
    };
    PassagePrompt made = std::move(passages.make({prompt.context}, {questions[i]}, fits).front());
    prompt.context = std::move(made.text);
    prompt.retrieved = json_text(passages_json(made.used));
  }
}

}  // namespace

void evaluate(const EvaluateOptions& options) {
  handle_interrupts();
  check_options(options);
  const auto began = std::chrono::steady_clock::now();
  const std::vector<EvalTask> tasks = load_tasks(options.tasks);
  PromptOptions prompts = {.shots = options.shots, .seed = options.seed, .limit = options.limit};
  const AskOptions asking = {
      .add_bos_token = options.add_bos_token, .window = options.window, .stride = options.stride};
  const std::optional<PassagePrompts> passages = open_passages(options.retrieve, options.device);
  std::map<std::string, std::string> scored;  // the texts of each task whose perplexity is asked for
  for (const EvalTask& task : tasks) {
    const std::vector<Prompt> made = make_prompts(task, prompts);  // what is wrong with one is said before all
    if (task.output_type != OutputType::loglikelihood_rolling) continue;
    for (const Prompt& prompt : made) scored[task.name] += prompt.target;
  }
  const bool writes = std::any_of(tasks.begin(), tasks.end(),
                                  [](const EvalTask& task) { return task.output_type == OutputType::generate_until; });

  engine::Device device = open_computing_device({.select = options.device});
  OpenModel model(device, options.model,
                  {.slots = writes ? options.batch_size : 1,
                   .context = options.context,
                   .weights = options.weights,
                   .cache_type = options.cache_type,
                   .adapter = options.adapter});
  for (const auto& [task, text] : scored) tell_left_out(model.asked().tokenizer, text, task);
  if (options.apply_chat_template) prompts.chat = model.chat();
  if (passages) {
    prompts.retrieve = [&, chat = prompts.chat](const EvalTask& task, std::vector<Prompt>& made,
                                                const std::vector<std::string>& questions) {
      put_passages(*passages, model.asked(), task, chat, made, questions);
    };
  }
  const std::map<std::string, std::string> config = config_of(options, tasks, model, passages);
  std::optional<EvaluationFolder> folder;
  if (!options.out.empty()) {
    folder.emplace(options.out, config, options.resume);
    write_environment(options.out, describe_environment(device.info(), options.command));
  }
  std::vector<TaskResult> results;
  for (const EvalTask& task : tasks) {
    results.push_back(folder ? folder->run(model.asked(), task, prompts, asking)
                             : evaluate_task(model.asked(), task, prompts, asking));
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  if (folder) folder->write_results(results, seconds);
  fmt::print("{}", options.format == "json" ? results_json(results, config, seconds) : results_table(results));
}

}  // namespace surtsey::experiments::commands
