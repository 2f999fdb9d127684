#include "experiments/evaluate/harness/evaluation.h"

#include "experiments/base/exit_status.h"
#include "experiments/base/file.h"
#include "experiments/base/interrupt.h"
#include "experiments/base/json_text.h"
#include "experiments/base/progress.h"
#include "graph/error.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;

// Texts that are written are handed to the model so many at a time: a run that is stopped loses no more.
constexpr size_t kWrittenAtOnce = 64;

void stop_if_asked() {
  if (interrupted()) throw Interrupted("stopped; what was answered is kept: go on with --resume");
}

class Asker {
 public:
  Asker(const AskedModel& model, const EvalTask& task, const std::vector<Prompt>& prompts, const AskOptions& options,
        const std::function<void(size_t, std::vector<Answer>)>& answered)
      : model_(model),
        task_(task),
        prompts_(prompts),
        options_(options),
        answered_(answered),
        encoder_(model.tokenizer, model.tokens,
                 {.add_bos_token = options.add_bos_token, .is_encoder_decoder = model.scorer.is_encoder_decoder()}) {}

  void ask() {
    if (task_.output_type == OutputType::generate_until) {
      write();
    } else {
      score();
    }
    if (shortened_ > 0) {
      fmt::print(stderr, "{}: {} prompts are longer than the {} tokens of the model and lost their beginning\n",
                 task_.name, shortened_, model_.scorer.context());
    }
  }

 private:
  template <class Work>
  auto of_item(const Prompt& prompt, const Work& work) {
    try {
      return work();
    } catch (const UserError& error) {
      throw UserError(fmt::format("{}, item {}: {}", task_.name, prompt.doc, error.what()));
    }
  }

  // ---- what is scored ----

  void score() {
    std::vector<std::vector<TokenPair>> pairs;
    for (const Prompt& prompt : prompts_) pairs.push_back(of_item(prompt, [&] { return pairs_of(prompt); }));
    std::vector<size_t> order(prompts_.size());
    std::iota(order.begin(), order.end(), 0);
    // Neighbours in the order of tokens share the longest beginnings.
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      const std::vector<int32_t>&left = pairs[a].front().context, &right = pairs[b].front().context;
      return left != right ? left < right : a < b;
    });
    int64_t total = 0, done = 0;
    for (const auto& of_one : pairs) total += std::ssize(of_one);
    Progress progress(task_.name, total);
    for (const size_t i : order) {
      answered_(i, of_item(prompts_[i], [&] { return answers_to(pairs[i], [&] { progress.update(++done); }); }));
    }
    progress.finish();
  }

  // One a continuation; of a text one a window.
  std::vector<TokenPair> pairs_of(const Prompt& prompt) {
    const int64_t context = model_.scorer.context();
    if (task_.output_type == OutputType::loglikelihood_rolling) {
      check(!model_.scorer.is_encoder_decoder(),
            "the perplexity of a text is a decoder's: an encoder-decoder answers one text with another");
      const int64_t window = options_.window > 0 ? options_.window : context;
      check(window <= context, "a window of {} tokens, the model reads {}", window, context);
      return encoder_.rolling(prompt.target, window, options_.stride > 0 ? options_.stride : window);
    }
    std::vector<TokenPair> pairs;
    for (const std::string& continuation : prompt.continuations) {
      pairs.push_back(encoder_.pair(prompt.context, continuation));
      TokenPair& pair = pairs.back();
      const auto length = std::ssize(pair.continuation);
      check(length <= context, "a continuation of {} tokens, the model reads {}", length, context);
      const int64_t room = model_.scorer.is_encoder_decoder() ? context : context + 1 - length;
      if (std::ssize(pair.context) <= room) continue;
      pair.context.erase(pair.context.begin(), pair.context.end() - room);
      shortened_ += 1;
    }
    return pairs;
  }

  template <class Told>
  std::vector<Answer> answers_to(const std::vector<TokenPair>& pairs, const Told& told) {
    const bool rolling = task_.output_type == OutputType::loglikelihood_rolling;
    std::vector<Answer> answers(rolling ? 1 : pairs.size());
    // Choices in the order of their tokens, as items.
    std::vector<size_t> order(pairs.size());
    std::iota(order.begin(), order.end(), 0);
    if (!rolling) {
      std::stable_sort(order.begin(), order.end(),
                       [&](size_t a, size_t b) { return pairs[a].continuation < pairs[b].continuation; });
    }
    for (const size_t i : order) {
      stop_if_asked();
      Answer::Part part{0, std::ssize(pairs[i].continuation)};
      bool greedy = true;
      for (const TokenLikelihood& token : model_.scorer.score(pairs[i].context, pairs[i].continuation)) {
        part.loglikelihood += token.logprob;
        greedy = greedy && token.likeliest;
      }
      Answer& answer = answers[rolling ? 0 : i];
      answer.loglikelihood += part.loglikelihood;
      answer.greedy = greedy;
      if (rolling) answer.windows.push_back(part);
      told();
    }
    return answers;
  }

  // ---- what is written ----

  // A text on its way, up to what ends it.
  struct Written {
    text::DecodeStream stream;
    std::string text;
  };

  void write() {
    const bool source = model_.scorer.is_encoder_decoder();
    const int64_t context = model_.scorer.context(), room = source ? context : context - task_.max_gen_toks;
    check(room > 0, "{}: max_gen_toks {} leave no room for a prompt in the {} tokens of the model", task_.name,
          task_.max_gen_toks, context);
    std::vector<Scorer::Request> requests;
    for (const Prompt& prompt : prompts_) {
      std::vector<int32_t> ids = encoder_.prompt(prompt.context, context);
      if (std::ssize(ids) > room) {
        ids.erase(ids.begin(), ids.end() - room);
        shortened_ += 1;
      }
      requests.push_back({std::move(ids), task_.max_gen_toks});
    }
    std::vector<size_t> order(requests.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return requests[a].prompt.size() > requests[b].prompt.size(); });
    Progress progress(task_.name, std::ssize(order));
    int64_t done = 0;
    for (size_t begin = 0; begin < order.size(); begin += kWrittenAtOnce) {
      stop_if_asked();
      const size_t end = std::min(begin + kWrittenAtOnce, order.size());
      std::vector<Scorer::Request> part;
      std::vector<Written> texts;
      for (size_t i = begin; i < end; ++i) {
        part.push_back(std::move(requests[order[i]]));
        texts.push_back({text::DecodeStream(model_.tokenizer, {.skip_special_tokens = true}), ""});
      }
      model_.scorer.generate(
          part, {}, 0, [&](size_t place, int32_t token) { return goes_on(texts[place], token); },
          [&](size_t place) {
            Written& text = texts[place];
            text.text += text.stream.finish();
            cut(text.text);
            Answer answer;
            answer.text = std::move(text.text);
            answered_(order[begin + place], {std::move(answer)});
            progress.update(++done);
          });
    }
    progress.finish();
  }

  bool goes_on(Written& text, int32_t token) const {
    const auto& ends = model_.tokens.eos;
    if (std::find(ends.begin(), ends.end(), token) != ends.end()) return false;
    text.text += text.stream.push(token);
    return !cut(text.text);
  }

  // Before the first of what ends an answer; whether there was one.
  bool cut(std::string& text) const {
    size_t first = text.npos;
    for (const std::string& stop : task_.until) first = std::min(first, text.find(stop));
    if (first == text.npos) return false;
    text.resize(first);
    return true;
  }

  const AskedModel& model_;
  const EvalTask& task_;
  const std::vector<Prompt>& prompts_;
  const AskOptions& options_;
  const std::function<void(size_t, std::vector<Answer>)>& answered_;
  PromptEncoder encoder_;
  int64_t shortened_ = 0;
};

// Lines that are synced every second, and at the end, however that comes.
class KeptLines {
 public:
  KeptLines(fs::path path, std::string_view before) : path_(std::move(path)) { write_file_atomic(path_, before); }
  ~KeptLines() {
    try {
      flush();
    } catch (const std::exception& error) {
      note_lost_output(error.what());
    }
  }
  KeptLines(const KeptLines&) = delete;
  KeptLines& operator=(const KeptLines&) = delete;

  void add(const std::string& line) {
    lines_ += line + "\n";
    if (std::chrono::steady_clock::now() - last_ > std::chrono::seconds(1)) flush();
  }

 private:
  void flush() {
    if (!lines_.empty()) append_file_synced(path_, lines_);
    lines_.clear();
    last_ = std::chrono::steady_clock::now();
  }

  fs::path path_;
  std::string lines_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// Lines of a file that are whole.
std::vector<std::string> whole_lines(const fs::path& path) {
  const std::string text = read_file_if_exists(path).value_or("");
  std::vector<std::string> lines;
  for (size_t at = 0, end = 0; (end = text.find('\n', at)) != text.npos; at = end + 1) {
    lines.push_back(text.substr(at, end - at));
  }
  return lines;
}

// Where files lie, which is another thing from another folder. Fingerprints tell what they hold.
const std::set<std::string> kPathKeys = {"adapter", "model_args"};

std::string told(const std::map<std::string, std::string>& config) {
  return json_text(nlohmann::json(config), 2) + "\n";
}

}  // namespace

void ask(const AskedModel& model, const EvalTask& task, const std::vector<Prompt>& prompts, const AskOptions& options,
         const std::function<void(size_t, std::vector<Answer>)>& answered) {
  if (!prompts.empty()) Asker(model, task, prompts, options, answered).ask();
}

EvaluationFolder::EvaluationFolder(fs::path folder, std::map<std::string, std::string> config, bool resume)
    : folder_(std::move(folder)), lock_(FolderLock::take(folder_)), config_(std::move(config)) {
  remove_unfinished(folder_);
  const fs::path path = folder_ / "config.json";
  const std::optional<std::string> before = read_file_if_exists(path);
  check(!before || resume, "{} holds an evaluation: go on with it by --resume, or choose another --out",
        folder_.string());
  if (before) {
    // As both are written: a path that is not UTF-8 reads back otherwise.
    const nlohmann::json saved = nlohmann::json::parse(*before, nullptr, false);
    const nlohmann::json now = nlohmann::json::parse(told(config_));
    for (const auto& [key, value] : now.items()) {
      if (kPathKeys.contains(key)) continue;
      const bool same = saved.is_object() && saved.contains(key) && saved[key] == value;
      check(same, "--resume: the evaluation in {} was told another {}: say the same, or choose another --out",
            folder_.string(), key);
    }
  }
  write_file_atomic(path, told(config_));
}

TaskResult EvaluationFolder::run(const AskedModel& model, const EvalTask& task, const PromptOptions& prompt_options,
                                 const AskOptions& options) {
  const std::vector<Prompt> prompts = make_prompts(task, prompt_options);
  const AnswerFilter filter(task);
  const fs::path done = folder_ / fmt::format("samples_{}.jsonl", task.name);
  const fs::path unfinished = folder_ / fmt::format("unfinished_{}.jsonl", task.name);
  std::vector<EvalSample> samples;
  for (const Prompt& prompt : prompts) samples.push_back({prompt, {}});
  for (const fs::path& path : {done, unfinished}) {
    for (const std::string& line : whole_lines(path)) {
      const int64_t item = item_of(line);
      if (item < 0 || item >= std::ssize(samples)) continue;
      EvalSample& sample = samples[size_t(item)];
      if (auto answers = answers_of(line, task, sample.prompt)) sample.answers = *std::move(answers);
    }
  }
  std::vector<Prompt> open;
  for (const EvalSample& sample : samples) {
    if (sample.answers.empty()) open.push_back(sample.prompt);
  }
  if (open.size() < samples.size()) {
    fmt::print(stderr, "{}: {} of {} items are answered already\n", task.name, samples.size() - open.size(),
               samples.size());
  }
  const auto lines = [&] {
    std::string text;
    for (const EvalSample& sample : samples) {
      if (!sample.answers.empty()) text += to_json_line(task, filter, sample) + "\n";
    }
    return text;
  };
  {
    KeptLines kept(unfinished, lines());  // a line that a killed run tore is gone
    ask(model, task, open, options, [&](size_t place, std::vector<Answer> answers) {
      EvalSample& sample = samples[size_t(open[place].doc)];
      sample.answers = std::move(answers);
      kept.add(to_json_line(task, filter, sample));
    });
  }
  write_file_atomic(done, lines());
  std::error_code error;
  fs::remove(unfinished, error);
  return task_result(task, filter, prompt_options.shots.value_or(task.num_fewshot), samples);
}

void EvaluationFolder::write_results(const std::vector<TaskResult>& results, double seconds) {
  write_file_atomic(folder_ / "results.json", results_json(results, config_, seconds));
}

std::vector<EvalSample> ask_all(const AskedModel& model, const EvalTask& task, const PromptOptions& prompt_options,
                                const AskOptions& options) {
  const std::vector<Prompt> prompts = make_prompts(task, prompt_options);
  std::vector<EvalSample> samples;
  for (const Prompt& prompt : prompts) samples.push_back({prompt, {}});
  ask(model, task, prompts, options,
      [&](size_t place, std::vector<Answer> answers) { samples[place].answers = std::move(answers); });
  return samples;
}

TaskResult evaluate_task(const AskedModel& model, const EvalTask& task, const PromptOptions& prompt_options,
                         const AskOptions& options) {
  return task_result(task, AnswerFilter(task), prompt_options.shots.value_or(task.num_fewshot),
                     ask_all(model, task, prompt_options, options));
}

}  // namespace surtsey::experiments
