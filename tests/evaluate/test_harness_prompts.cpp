// Items as prompts, and prompts as tokens.
#include "experiments/base/config.h"
#include "experiments/evaluate/harness/encoding.h"
#include "experiments/evaluate/harness/prompt_template.h"
#include "experiments/evaluate/harness/prompts.h"
#include "experiments/text/byte_bpe_training.h"
#include "graph/error.h"
#include "tests/support/counting_scorer.h"
#include "tests/support/folder.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;
using Json = nlohmann::ordered_json;

namespace {

// A folder with files of tasks.
struct Tasks {
  tests::Folder folder;
  std::filesystem::path write(const std::string& name, const std::string& text) const {
    std::ofstream(folder / name, std::ios::binary) << text;
    return folder / name;
  }
  EvalTask load(const std::string& name, const std::string& text) const { return load_task(write(name, text)); }
};

std::string text_of(const std::string& source, const Json& item) { return PromptTemplate(source, "here").text(item); }

constexpr const char* kQuestions =
    "{\"question\": \"one\", \"choices\": [\"a\", \"b\"], \"answer\": 0}\n"
    "{\"question\": \"two\", \"choices\": [\"a\", \"b\", \"c\"], \"answer\": \"c\"}\n"
    "\n"
    "{\"question\": \"three\", \"choices\": [\"a\", \"b\"], \"answer\": \"1\"}\n";

}  // namespace

TEST_CASE("a template names fields of an item", "[harness]") {
  const Json item =
      Json::parse(R"({"question": "why?", "n": 3, "x": 0.5, "choices": {"text": ["yes", "no"], "label": ["A", "B"]}})");
  CHECK(text_of("question", item) == "why?");
  CHECK(text_of("Q: {question}\nA:", item) == "Q: why?\nA:");
  CHECK(text_of("{n} of {x}, {choices.text[1]}", item) == "3 of 0.5, no");
  CHECK(text_of("a {set} {", Json{{"set", "b"}}) == "a b {");
  CHECK(text_of("{\"key\": 1} { question } {}", item) == "{\"key\": 1} { question } {}");
  CHECK(text_of("no field", item) == "no field");
  CHECK(PromptTemplate("choices.text", "here").value(item) == Json({"yes", "no"}));
  CHECK(PromptTemplate("n", "here").value(item) == 3);
  // Jinja, where there is any; a line break at its end stays.
  CHECK(text_of("Q: {{question}}\n", item) == "Q: why?\n");
  CHECK(text_of("{% for t in choices.text %}{{t}};{% endfor %}{literal}", item) == "yes;no;{literal}");

  CHECK_THROWS_MATCHES(text_of("{qestion}", item), UserError,
                       MessageMatches(ContainsSubstring("no field 'qestion'") && ContainsSubstring("question, n, x")));
  CHECK_THROWS_MATCHES(text_of("{choices.text[2]}", item), UserError, MessageMatches(ContainsSubstring("no field")));
  CHECK_THROWS_MATCHES(text_of("{choices}", item), UserError,
                       MessageMatches(ContainsSubstring("name one of its parts")));
  CHECK_THROWS_AS(PromptTemplate("{{question", "here"), UserError);
}

TEST_CASE("a task is a file, or its items alone", "[harness]") {
  const Tasks tasks;
  const EvalTask bare = tasks.load("bare.jsonl", kQuestions);
  CHECK(bare.name == "bare");
  CHECK(bare.output_type == OutputType::multiple_choice);
  CHECK(bare.items.size() == 3);
  CHECK(bare.metrics == std::vector<std::string>{"acc", "acc_norm", "acc_bytes"});
  CHECK(tasks.load("c.jsonl", R"({"context": "a", "continuation": "b"})").output_type == OutputType::loglikelihood);
  CHECK(tasks.load("g.jsonl", R"({"question": "a", "answer": "b"})").output_type == OutputType::generate_until);
  CHECK(tasks.load("t.jsonl", R"({"text": "a"})").output_type == OutputType::loglikelihood_rolling);
  CHECK(tasks.load("t.txt", "a text").output_type == OutputType::loglikelihood_rolling);

  const EvalTask written = tasks.load("some.toml",
                                      "task = 'arithmetic'\ndataset = 'bare.jsonl'\noutput_type = 'generate_until'\n"
                                      "doc_to_text = \"Q: {question}\\nA:\"\nuntil = [\"\\n\", 'Q:']\n"
                                      "metric_list = ['exact_match']\nnum_fewshot = 1\n");
  CHECK(written.name == "arithmetic");
  CHECK(written.doc_to_target == "answer");
  CHECK(written.until == std::vector<std::string>{"\n", "Q:"});
  CHECK_THAT(written.text, ContainsSubstring("num_fewshot = 1"));

  const auto refused = [&](const std::string& name, const std::string& text, const std::string& message) {
    CAPTURE(name, text);
    CHECK_THROWS_MATCHES(tasks.load(name, text), UserError, MessageMatches(ContainsSubstring(message)));
  };
  refused("x.jsonl", "{\"question\": \"a\", \"answer\": 1}\n[1]\n", "x.jsonl:2: an item");
  refused("x.jsonl", std::string(100'000, '['), "x.jsonl:1: an item");
  refused("x.jsonl", "{\"text\": " + std::string(100'000, '[') + std::string(100'000, ']') + "}", "x.jsonl:1: an item");
  refused("x.jsonl", R"({"text": "a", "text": "b"})", "x.jsonl:1: an item");
  refused("x.jsonl", "\n\n", "has no items");
  refused("x.jsonl", "{\"q\": 1}\n", "says what is asked");
  refused("x.jsonl", "{\"q\": \"\xFF\"}\n", "x.jsonl");
  refused("x.toml", "dataset = 'bare.jsonl'\ndoc_to_txt = 'a'\n", "did you mean 'doc_to_text'");
  refused("x.toml", "doc_to_text = 'a'\n", "dataset is missing");
  refused("x.toml", "dataset = 'no.jsonl'\n", "no.jsonl");
  refused("x.toml", "dataset = 'bare.jsonl'\nmetric_list = ['f1']\n", "has no metric 'f1'; there are acc, acc_norm");
  refused("x.toml", "dataset = 'bare.jsonl'\noutput_type = 'loglikelihood'\ndoc_to_choice = ['choices']\n",
          "goes with output_type multiple_choice");
  refused("x.toml", "dataset = 'bare.jsonl'\ntask = 'a/b'\n", "no name of a task");
  refused("x.csv", "", "a task is a .toml file");
}

TEST_CASE("prompts: shots, description and delimiters", "[harness]") {
  const Tasks tasks;
  const EvalTask bare = tasks.load("bare.jsonl", kQuestions);
  const std::vector<Prompt> zero = make_prompts(bare, {});
  REQUIRE(zero.size() == 3);
  CHECK(zero[1].context == "two");
  CHECK(zero[1].continuations == std::vector<std::string>{" a", " b", " c"});
  CHECK(zero[0].gold == 0);
  CHECK(zero[1].gold == 2);
  CHECK(zero[2].gold == 1);
  CHECK(make_prompts(bare, {.limit = 2}).size() == 2);

  tasks.write("examples.jsonl",
              "{\"question\": \"e1\", \"choices\": [\"x\", \"y\"], \"answer\": 0}\n"
              "{\"question\": \"e2\", \"choices\": [\"x\", \"y\"], \"answer\": 1}\n"
              "{\"question\": \"e3\", \"choices\": [\"x\", \"y\"], \"answer\": 1}\n");
  const EvalTask task = tasks.load("task.toml",
                                   "dataset = 'bare.jsonl'\nfewshot_dataset = 'examples.jsonl'\nnum_fewshot = 2\n"
                                   "output_type = 'multiple_choice'\ndescription = 'Answer. '\n"
                                   "doc_to_text = 'Q: {question} A:'\nfewshot_delimiter = ' | '\n");
  std::set<std::string> orders;
  for (uint32_t seed = 0; seed < 40; ++seed) {
    const std::vector<Prompt> prompts = make_prompts(task, {.seed = seed});
    const std::string& first = prompts[0].context;
    // The same shots in the same order before every item.
    const std::string before = first.substr(0, first.rfind("Q: one A:"));
    CHECK(prompts[1].context == before + "Q: two A:");
    CHECK(make_prompts(task, {.seed = seed})[0].context == first);
    orders.insert(before);
  }
  CHECK(orders.size() == 6);  // every ordered pair of three is drawn
  CHECK(orders.contains("Answer. Q: e2 A: y | Q: e1 A: x | "));
  CHECK(make_prompts(task, {.shots = 0})[0].context == "Answer. Q: one A:");

  // As a message: the whole context is in it, the answer follows without the delimiter, shots keep theirs.
  const auto message = [](const std::string& context) { return "<user>" + context + "<model>"; };
  const std::vector<Prompt> said = make_prompts(task, {.shots = 1, .seed = 4, .chat = message});
  CHECK(said[0].context == "<user>" + make_prompts(task, {.shots = 1, .seed = 4})[0].context + "<model>");
  CHECK(said[0].context.find(" A: ") != std::string::npos);
  CHECK(said[0].continuations == std::vector<std::string>{"a", "b"});

  // From the items themselves: never the one that is asked, and as many for all.
  for (uint32_t seed = 0; seed < 10; ++seed) {
    const std::vector<Prompt> prompts = make_prompts(bare, {.shots = 2, .seed = seed});
    const std::string shots[] = {"one a\n\n", "two c\n\n", "three b\n\n"};
    for (size_t i = 0; i < 3; ++i) {
      for (size_t s = 0; s < 3; ++s) {
        CHECK((prompts[i].context.find(shots[s]) != std::string::npos) == (i != s));
      }
    }
  }
  CHECK_THROWS_MATCHES(make_prompts(bare, {.shots = 3}), UserError, MessageMatches(ContainsSubstring("3 items")));
  CHECK_THROWS_MATCHES(make_prompts(task, {.shots = 4}), UserError, MessageMatches(ContainsSubstring("3 items")));
  const EvalTask wrong = tasks.load("wrong.jsonl", R"({"question": "a", "choices": ["a", "b"], "answer": 2})");
  CHECK_THROWS_MATCHES(make_prompts(wrong, {}), UserError,
                       MessageMatches(ContainsSubstring("wrong, item 0") && ContainsSubstring("the answer 2")));
  const EvalTask text = tasks.load("text.txt", "abc");
  CHECK_THROWS_AS(make_prompts(text, {.shots = 1}), UserError);
}

TEST_CASE("prompts as tokens: continuations, blanks, windows", "[harness]") {
  const text::Tokenizer tokenizer =
      text::parse_tokenizer_json(text::train_byte_bpe("to be or not to be, to be or not", 300).json, "trained");
  const auto ids = [&](const std::string& text) { return tokenizer.encode(text, {.special_tokens = false}); };
  using Ids = std::vector<int32_t>;
  const auto joined = [](Ids first, const Ids& second) {
    first.insert(first.end(), second.begin(), second.end());
    return first;
  };
  const PromptEncoder encoder(tokenizer, {.bos = 7, .eos = {9}}, {});
  REQUIRE(ids(" be").size() == 1);  // what blanks do to tokens can be seen
  const TokenPair plain = encoder.pair("to", " be");
  CHECK(plain.context == ids("to"));
  CHECK(plain.continuation == ids(" be"));
  // A blank at the end of the context goes over.
  const TokenPair moved = encoder.pair("to ", "be");
  CHECK(moved.context == ids("to"));
  CHECK(moved.continuation == ids(" be"));
  CHECK(encoder.pair("", "to be").context == Ids{7});
  CHECK(PromptEncoder(tokenizer, {.eos = {9}}, {}).pair("", "to be").context == Ids{9});
  CHECK(PromptEncoder(tokenizer, {.bos = 7}, {.add_bos_token = true}).pair("to", " be").context ==
        joined({7}, ids("to")));
  CHECK(PromptEncoder(tokenizer, {.bos = 7}, {.add_bos_token = true}).pair("to", " be").continuation == ids(" be"));
  CHECK_THROWS_AS(encoder.pair("to", ""), UserError);
  CHECK_THROWS_AS(PromptEncoder(tokenizer, {}, {}).pair("", "to be"), UserError);
  CHECK(encoder.prompt("to be or not", 2).size() == 2);

  const text::Tokenizer letters = tests::by_characters("abcdefghij");
  const PromptEncoder windows(letters, {.bos = 9}, {});
  const auto shown = [&](const std::vector<TokenPair>& pairs) {
    std::string text;
    for (const TokenPair& pair : pairs) {
      text += letters.decode(pair.context) + ">" + letters.decode(pair.continuation) + " ";
    }
    return text;
  };
  CHECK(shown(windows.rolling("abc", 4, 4)) == "j>abc ");
  CHECK(shown(windows.rolling("abcd", 4, 4)) == "j>abcd ");
  // The last window is as long as any, and what it scores is what is left.
  CHECK(shown(windows.rolling("abcdefghi", 4, 4)) == "j>abcd d>efgh efgh>i ");
  CHECK(shown(windows.rolling("abcdefghi", 4, 2)) == "j>abcd bcd>ef def>gh efgh>i ");
  CHECK(shown(windows.rolling("abcdefghi", 4, 1)).starts_with("j>abcd abcd>e bcde>f"));
  // Of a model without a token that begins or ends texts the first token is given, not asked.
  CHECK(shown(PromptEncoder(letters, {}, {}).rolling("abcdef", 4, 4)) == "a>bcde bcde>f ");
  CHECK_THROWS_AS(windows.rolling("abc", 2, 3), UserError);
}
