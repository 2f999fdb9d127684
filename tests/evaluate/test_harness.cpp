// Asking, scores and files, of a model whose numbers can be computed by hand.
#include "experiments/base/interrupt.h"
#include "experiments/evaluate/harness/evaluation.h"
#include "graph/error.h"
#include "tests/support/counting_scorer.h"
#include "tests/support/folder.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <numbers>

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Approx;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using nlohmann::json;

namespace {

const std::string kHarnessLetters = "abcdefgh .";

struct Setup {
  tests::CountingScorer scorer{int32_t(kHarnessLetters.size()), 8};
  text::Tokenizer tokenizer = tests::by_characters(kHarnessLetters);
  AskedModel model() { return {scorer, tokenizer, {.bos = 9}}; }
};

EvalTask task_of(OutputType type, const std::vector<std::string>& items) {
  EvalTask task;
  task.name = "task";
  task.output_type = type;
  task.items = items;
  task.target_delimiter = "";
  task.metrics = metrics_of(type);
  return task;
}

EvalTask likelihoods(const std::vector<std::pair<std::string, std::string>>& pairs) {
  std::vector<std::string> items;
  for (const auto& [context, continuation] : pairs) {
    items.push_back(json{{"context", context}, {"continuation", continuation}}.dump());
  }
  EvalTask task = task_of(OutputType::loglikelihood, items);
  task.doc_to_text = "context";
  task.doc_to_target = "continuation";
  return task;
}

EvalTask written(const std::vector<std::pair<std::string, std::string>>& pairs) {
  std::vector<std::string> items;
  for (const auto& [question, answer] : pairs) {
    items.push_back(json{{"question", question}, {"answer", answer}}.dump());
  }
  EvalTask task = task_of(OutputType::generate_until, items);
  task.doc_to_text = "question";
  task.doc_to_target = "answer";
  task.max_gen_toks = 4;
  task.until = {"."};
  return task;
}

const MetricResult& metric(const TaskResult& result, const std::string& name) {
  const auto found = std::find_if(result.metrics.begin(), result.metrics.end(),
                                  [&](const MetricResult& one) { return one.name == name; });
  REQUIRE(found != result.metrics.end());
  return *found;
}

// Metrics of one item from answers.
double of_item(const EvalTask& task, const Prompt& prompt, const std::vector<Answer>& answers,
               const std::string& name) {
  for (const ItemMetric& one : item_metrics(task, AnswerFilter(task), prompt, answers)) {
    if (one.name == name) return one.value;
  }
  FAIL("no metric " << name);
  return 0;
}

}  // namespace

TEST_CASE("harness: log-likelihoods are those of the continuation behind its context", "[harness]") {
  Setup setup;
  const double yes = setup.scorer.likely(), no = setup.scorer.unlikely();
  const EvalTask task = likelihoods({{"ab", "cd"}, {"ab", "cc"}, {"", "ab"}, {"a ", "b"}});
  const std::vector<EvalSample> samples = ask_all(setup.model(), task, {}, {});
  REQUIRE(samples.size() == 4);
  CHECK(samples[0].answers[0].loglikelihood == 2 * yes);
  CHECK(samples[0].answers[0].greedy);
  CHECK(samples[1].answers[0].loglikelihood == yes + no);
  CHECK_FALSE(samples[1].answers[0].greedy);
  CHECK(samples[2].answers[0].loglikelihood == 2 * yes);  // behind the first token of texts, '.'
  CHECK(samples[3].answers[0].loglikelihood == 2 * no);   // the blank is part of the continuation
  // Contexts in the order of their tokens: what begins alike is asked together.
  using Contexts = std::vector<std::vector<int32_t>>;
  CHECK(setup.scorer.asked == Contexts{{0}, {0, 1}, {0, 1}, {9}});

  const TaskResult result = evaluate_task(setup.model(), task, {}, {});
  CHECK(metric(result, "acc").value == .5);
  CHECK(*metric(result, "acc").standard_error == Approx(std::sqrt(1.0 / 3) / 2));
  CHECK(metric(result, "acc").ci95->low == wilson(2, 4).low);
  const double mean_nll = -(5 * yes + 3 * no) / 4;
  CHECK(metric(result, "perplexity").value == Approx(std::exp(mean_nll)));
  const std::vector<double> nlls = {-2 * yes, -yes - no, -2 * yes, -2 * no};
  CHECK(*metric(result, "perplexity").standard_error == Approx(std::exp(mean_nll) * standard_error(nlls)));
  CHECK(metric(result, "perplexity").ci95->high == Approx(std::exp(t_interval(nlls).high)));

  // A context that is too long loses its beginning, a continuation does not.
  setup.scorer.asked.clear();
  ask_all(setup.model(), likelihoods({{"abcdefgh", "ab"}}), {}, {});
  CHECK(setup.scorer.asked[0] == std::vector<int32_t>{1, 2, 3, 4, 5, 6, 7});
  CHECK_THROWS_MATCHES(ask_all(setup.model(), likelihoods({{"a", "abcdefgha"}}), {}, {}), UserError,
                       MessageMatches(ContainsSubstring("task, item 0: a continuation of 9 tokens")));
}

TEST_CASE("harness: choices by likelihood, by characters and by bytes", "[harness]") {
  Setup setup;
  EvalTask task =
      task_of(OutputType::multiple_choice, {R"({"question": "ab", "choices": ["cd", "d"], "answer": 0})",
                                            R"({"question": "ab", "choices": ["cdefc", "d"], "answer": "cdefc"})"});
  task.doc_to_text = "question";
  task.doc_to_choice = {"choices"};
  task.doc_to_target = "answer";
  const TaskResult result = evaluate_task(setup.model(), task, {}, {});
  // ln(1/4) against ln(1/18); ln(1/288) against ln(1/18), but a fifth of it for each character.
  CHECK(metric(result, "acc").value == .5);
  CHECK(metric(result, "acc_norm").value == 1);

  Prompt prompt;
  prompt.choices = {"ééé", "abcd"};
  prompt.continuations = prompt.choices;
  const std::vector<Answer> answers = {{.loglikelihood = -5}, {.loglikelihood = -5.2}};
  prompt.gold = 0;
  CHECK(of_item(task, prompt, answers, "acc") == 1);
  CHECK(of_item(task, prompt, answers, "acc_norm") == 0);   // -5/3 < -5.2/4
  CHECK(of_item(task, prompt, answers, "acc_bytes") == 1);  // -5/6 > -5.2/4
  const std::vector<Answer> equal = {{.loglikelihood = -5}, {.loglikelihood = -5}};
  CHECK(of_item(task, prompt, equal, "acc") == 1);  // the first of equals
}

TEST_CASE("harness: written answers end where they are told to", "[harness]") {
  Setup setup;
  const EvalTask task = written({{"a", "bcde"}, {"g", "h"}, {"h", ""}, {"c", "d"}});
  const std::vector<EvalSample> samples = ask_all(setup.model(), task, {}, {});
  CHECK(samples[0].answers[0].text == "bcde");  // four tokens
  CHECK(samples[1].answers[0].text == "h ");    // up to '.', which also is the next token
  CHECK(samples[2].answers[0].text == " ");
  const TaskResult result = evaluate_task(setup.model(), task, {}, {});
  CHECK(metric(result, "exact_match").value == .75);  // blanks around an answer do not count
  // The model's own end: '.' is one, and what is not decoded is not looked at.
  EvalTask endless = task;
  endless.until = {"x"};
  AskedModel model{setup.scorer, setup.tokenizer, {.bos = 9, .eos = {9}}};
  CHECK(ask_all(model, endless, {}, {})[1].answers[0].text == "h ");
  EvalTask stop = task;
  stop.until = {"ef", "de"};  // over two tokens; the first in the text counts
  CHECK(ask_all(setup.model(), stop, {}, {})[0].answers[0].text == "bc");
  EvalTask room = task;
  room.max_gen_toks = 8;
  CHECK_THROWS_MATCHES(ask_all(setup.model(), room, {}, {}), UserError,
                       MessageMatches(ContainsSubstring("max_gen_toks 8")));
}

TEST_CASE("harness: what of an answer is compared", "[harness]") {
  EvalTask task = written({{"a", "b"}});
  const auto filtered = [&](const std::string& text) { return AnswerFilter(task).filter(text); };
  CHECK(filtered(" 12\n") == "12");
  CHECK(filtered("\u00A0é \u2003") == "é");
  task.regex = R"(#### (-?[0-9.,]+)|is ([0-9]+))";
  CHECK(filtered("so it is 12 or #### 1,3 .") == "12");
  task.regex_group_select = 1;
  CHECK(filtered("so it is 12 or #### 1,3 .") == "1,3");
  task.regex_group_select = -1;
  CHECK(filtered("so it is 12 or is 14") == "14");
  CHECK(filtered("nothing") == "[invalid]");
  task.regex = "[0-9]+";
  CHECK(filtered("a 7 b 8") == "8");
  task.strip = false;
  task.regex.clear();
  CHECK(filtered(" 12") == " 12");
  CHECK_FALSE(AnswerFilter(task).equal("A, b1", "a b"));
  task.ignore_case = task.ignore_punctuation = task.ignore_numbers = true;
  CHECK(AnswerFilter(task).equal("A, b1", "a b"));
  task.regex = "(";
  CHECK_THROWS_MATCHES(AnswerFilter(task), UserError, MessageMatches(ContainsSubstring("task: regex")));
}

TEST_CASE("harness: perplexity of texts", "[harness]") {
  CHECK(count_words("a b") == 2);
  CHECK(count_words(" a\n\tb ") == 4);  // as a split at runs of blanks has it
  CHECK(count_words("") == 1);
  Setup setup;
  const double yes = setup.scorer.likely(), no = setup.scorer.unlikely();
  EvalTask task = task_of(OutputType::loglikelihood_rolling, {R"({"text": "abcdefgh .ab cd"})"});
  task.doc_to_target = "text";
  // 15 tokens: 'b' to 'b' follow their neighbour, 'a' the first token of texts; ' ' and 'c' behind it do not.
  const double total = -(13 * yes + 2 * no);
  const TaskResult one = evaluate_task(setup.model(), task, {}, {});
  CHECK(metric(one, "bits_per_byte").value == Approx(total / 15 / std::numbers::ln2));
  CHECK(metric(one, "byte_perplexity").value == Approx(std::exp(total / 15)));
  CHECK(metric(one, "token_perplexity").value == Approx(std::exp(total / 15)));
  CHECK(metric(one, "word_perplexity").value == Approx(std::exp(total / 3)));
  // Two windows, of 8 and of 7 tokens, the second with all that is unlikely.
  const std::vector<std::pair<double, double>> pairs = {{-8 * yes, 8}, {-5 * yes - 2 * no, 7}};
  const Ratio ratio = ratio_of_sums(pairs);
  CHECK(ratio.value == Approx(total / 15));
  const double first = -8 * yes - 8 * ratio.value, second = -5 * yes - 2 * no - 7 * ratio.value;
  CHECK(*ratio.standard_error == Approx(std::sqrt(2 * (first * first + second * second)) / 15));
  CHECK(*metric(one, "bits_per_byte").standard_error == Approx(*ratio.standard_error / std::numbers::ln2));
  CHECK(*metric(one, "byte_perplexity").standard_error == Approx(*ratio.standard_error * std::exp(total / 15)));
  CHECK(*metric(one, "word_perplexity").standard_error == Approx(*ratio.standard_error * 15 / 3 * std::exp(total / 3)));

  // However a text is cut, every token counts once; windows of one token more see one more.
  for (const int64_t stride : {1, 3, 8}) {
    const TaskResult again = evaluate_task(setup.model(), task, {}, {.window = 8, .stride = stride});
    CHECK(metric(again, "bits_per_byte").value == Approx(total / 15 / std::numbers::ln2));
  }
  CHECK_THROWS_AS(evaluate_task(setup.model(), task, {}, {.window = 9}), UserError);

  // Several texts: each is an item.
  task.items = {R"({"text": "abcd"})", R"({"text": "a c"})"};
  const TaskResult two = evaluate_task(setup.model(), task, {}, {});
  const std::vector<std::pair<double, double>> words = {{-4 * yes, 1}, {-yes - 2 * no, 2}};
  CHECK(metric(two, "word_perplexity").value == Approx(std::exp(ratio_of_sums(words).value)));
  CHECK(*metric(two, "word_perplexity").standard_error ==
        Approx(*ratio_of_sums(words).standard_error * std::exp(ratio_of_sums(words).value)));
}

TEST_CASE("harness: results and samples have the harness's form", "[harness]") {
  Setup setup;
  const tests::Folder folder;
  EvalTask task = likelihoods({{"ab", "cd"}, {"ab", "cc"}});
  task.num_fewshot = 0;
  EvaluationFolder out(folder / "out", {{"model", "surtsey"}, {"limit", "0"}}, false);
  const std::vector<TaskResult> results = {out.run(setup.model(), task, {}, {})};
  out.write_results(results, 1.5);
  const json file = json::parse(tests::slurp(folder / "out" / "results.json"));
  const json& one = file.at("results").at("task");
  CHECK(one.at("acc,none") == .5);
  CHECK(one.at("acc_stderr,none") == Approx(.5));
  CHECK(one.at("alias") == "task");
  CHECK(file.at("n-shot").at("task") == 0);
  CHECK(file.at("higher_is_better").at("task") == json{{"acc", true}, {"perplexity", false}});
  CHECK(file.at("n-samples").at("task") == json{{"effective", 2}, {"original", 2}});
  CHECK(file.at("configs").at("task").at("output_type") == "loglikelihood");
  CHECK(file.at("config").at("limit") == 0);
  CHECK(file.at("config").at("stderr").get<std::string>().find("delta") != std::string::npos);

  std::istringstream lines(tests::slurp(folder / "out" / "samples_task.jsonl"));
  std::vector<json> samples;
  for (std::string line; std::getline(lines, line);) samples.push_back(json::parse(line));
  REQUIRE(samples.size() == 2);
  CHECK(samples[1].at("doc_id") == 1);
  CHECK(samples[1].at("doc") == json{{"context", "ab"}, {"continuation", "cc"}});
  CHECK(samples[1].at("target") == "cc");
  CHECK(samples[1].at("arguments") == json{{"gen_args_0", {{"arg_0", "ab"}, {"arg_1", "cc"}}}});
  CHECK(samples[1].at("acc") == 0);
  const auto response = samples[1].at("resps").at(0).at(0);
  CHECK(std::stod(response.at(0).get<std::string>()) == setup.scorer.likely() + setup.scorer.unlikely());
  CHECK(response.at(1) == "False");
  CHECK(samples[1].at("filtered_resps").at(0) == response);
  CHECK_FALSE(std::filesystem::exists(folder / "out" / "unfinished_task.jsonl"));
  const std::string table = results_table(results);
  CHECK_THAT(table, ContainsSubstring("task") && ContainsSubstring("0.5000") && ContainsSubstring("acc ↑"));
}

TEST_CASE("harness: an evaluation that was stopped goes on, and asks nothing twice", "[harness]") {
  const tests::Folder folder;
  const std::map<std::string, std::string> config = {{"model", "m"}};
  EvalTask task = likelihoods({{"ab", "cd"}, {"ab", "cc"}, {"b", "c"}, {"c", "d"}, {"d", "e"}});
  const auto result_of = [&](const std::filesystem::path& path, Setup& setup, bool resume) {
    EvaluationFolder out(path, config, resume);
    out.write_results({out.run(setup.model(), task, {}, {})}, 0);
    return tests::slurp(path / "results.json") + tests::slurp(path / "samples_task.jsonl");
  };
  Setup whole;
  const std::string expected = result_of(folder / "whole", whole, false);

  Setup stopped;
  stopped.scorer.before_score = [&] {
    if (stopped.scorer.asked.size() == 2) set_interrupted(true);
  };
  CHECK_THROWS_AS(result_of(folder / "out", stopped, false), Interrupted);
  set_interrupted(false);
  CHECK(stopped.scorer.asked.size() == 3);
  CHECK_FALSE(std::filesystem::exists(folder / "out" / "results.json"));
  CHECK_THROWS_MATCHES(result_of(folder / "out", stopped, false), UserError,
                       MessageMatches(ContainsSubstring("--resume")));
  // A line that a killed run tore counts for nothing, and does no harm.
  std::ofstream(folder / "out" / "unfinished_task.jsonl", std::ios::app) << "{\"doc_id\": 4, \"do";
  Setup resumed;
  CHECK(result_of(folder / "out", resumed, true) == expected);
  CHECK(resumed.scorer.asked.size() == 2);
  Setup again;
  CHECK(result_of(folder / "out", again, true) == expected);
  CHECK(again.scorer.asked.empty());
  CHECK_THROWS_MATCHES(EvaluationFolder(folder / "out", {{"model", "other"}}, true), UserError,
                       MessageMatches(ContainsSubstring("another model")));
  // What is told is told in other bytes, and from another folder: the fingerprint is the model's.
  const std::string index = "index caf\xE9";
  const auto from = [&](const char* path) {
    EvaluationFolder(folder / "elsewhere",
                     {{"model_args", path}, {"adapter", path}, {"model_fingerprint", "1"}, {"retrieve", index}}, true);
  };
  from("pretrained=caf\xE9");
  CHECK_NOTHROW(from("pretrained=caf\xE9"));
  CHECK_NOTHROW(from("pretrained=../caf\xE9"));
  CHECK_THROWS_MATCHES(EvaluationFolder(folder / "elsewhere", {{"model_fingerprint", "2"}}, true), UserError,
                       MessageMatches(ContainsSubstring("another model_fingerprint")));
  // An item that has changed is asked again.
  task.items[2] = json{{"context", "b"}, {"continuation", "e"}}.dump();
  Setup changed;
  CHECK(result_of(folder / "out", changed, true) != expected);
  CHECK(changed.scorer.asked.size() == 1);
}

TEST_CASE("harness: written answers and texts are kept and read again", "[harness]") {
  const tests::Folder folder;
  EvalTask text = task_of(OutputType::loglikelihood_rolling, {R"({"text": "abcdefgh .ab cd"})"});
  text.name = "text";
  text.doc_to_target = "text";
  for (const EvalTask& task : {written({{"a", "bcde"}, {"g", "h"}}), text}) {
    Setup first, second;
    const auto run = [&](Setup& setup, bool resume) {
      EvaluationFolder out(folder / task.name, {}, resume);
      return results_table({out.run(setup.model(), task, {}, {})});
    };
    const std::string table = run(first, false);
    CHECK_FALSE(first.scorer.asked.empty());
    CHECK(run(second, true) == table);
    CHECK(second.scorer.asked.empty());
  }
}
