// The server over real models: a LLaMA of transformers' on the device, and build/surtsey serve as a process.
#include "experiments/evaluate/model_outputs.h"
#include "experiments/serve/http.h"
#include "experiments/serve/slots_generator.h"
#include "experiments/text/tokenizer_json.h"
#include "tests/serve/fake_model.h"
#include "tests/support/folder.h"
#include "tests/support/shared.h"
#include "tests/support/support_device.h"
#include "tests/support/tool.h"

#include <fcntl.h>
#include <sys/wait.h>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstring>
#include <fstream>
#include <future>
#include <nlohmann/json.hpp>

using namespace surtsey;
using namespace surtsey::experiments;
using Json = nlohmann::ordered_json;

namespace {

constexpr const char* kServedLetters = "abcdefghijklmnopqrstuvwxyz 0123456789.,:;!?{}[]\"-_+*/=<>()|";

// Letters as tokens, with the model's own ids for its special ones.
std::string letter_tokenizer() {
  Json vocabulary = {{"<pad>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (const char letter : std::string_view(kServedLetters)) {
    if (vocabulary.size() < 60) vocabulary[std::string(1, letter)] = vocabulary.size();
  }
  vocabulary["<end>"] = 60;
  Json added = Json::array();
  for (const auto& [token, id] : vocabulary.items()) {
    if (token.size() > 1) {
      added.push_back({{"id", id},
                       {"content", token},
                       {"special", true},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false}});
    }
  }
  const Json file = {{"version", "1.0"},
                     {"added_tokens", added},
                     {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", Json::array()}}},
                     {"decoder", {{"type", "Fuse"}}}};
  return file.dump();
}

// The golden model with a tokenizer beside it.
void make_folder(const tests::Folder& folder) {
  for (const char* file : {"config.json", "generation_config.json", "model.safetensors"})
    std::filesystem::copy(tests::shared_folder("goldens") / "llama" / file, folder / file);
  std::ofstream(folder / "tokenizer.json") << letter_tokenizer();
}

Json ask(int port, const Json& body) {
  const tests::HttpAnswer answer = tests::http_ask(port, "POST", "/v1/completions", body.dump());
  CAPTURE(answer.body);
  REQUIRE(answer.status == 200);
  return Json::parse(answer.body)["choices"];
}

// build/surtsey serve, in the background; its address is read from what it prints.
class Process {
 public:
  explicit Process(const std::vector<std::string>& arguments) {
    int pipe_ends[2];
    REQUIRE(pipe(pipe_ends) == 0);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(pipe_ends[1], 1);
      const int nowhere = open("/dev/null", O_WRONLY);
      dup2(nowhere, 2);
      std::vector<char*> words = {const_cast<char*>(SURTSEY_TOOL)};
      for (const std::string& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
      words.push_back(nullptr);
      execv(SURTSEY_TOOL, words.data());
      _exit(127);
    }
    ::close(pipe_ends[1]);
    std::string line;
    for (char letter = 0; ::read(pipe_ends[0], &letter, 1) == 1 && letter != '\n';) line += letter;
    out_ = pipe_ends[0];
    const size_t colon = line.rfind(':');
    if (colon != std::string::npos) port_ = std::atoi(line.c_str() + colon + 1);
  }
  ~Process() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    ::close(out_);
  }
  int port() const { return port_; }
  void signal(int number) const { kill(pid_, number); }
  // The exit status; -1 after a signal.
  int wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t pid_ = 0;
  int out_ = -1, port_ = 0;
};

}  // namespace

TEST_CASE("serve: a real model answers eight at once as one, and scores as its logits say", "[serve][device]") {
  const tests::Folder folder;
  make_folder(folder);
  tests::open_test_device();
  const auto source = hub::open_model(folder.path());
  serve::ServedModel model("llama", text::load_tokenizer(folder.path()), source->generation());
  serve::Metrics metrics;
  serve::Scheduler scheduler(serve::slots_factory(*source, {.slots = 8, .context = 64, .scores = true}, ""), model, {},
                             metrics);
  serve::Api api(model, scheduler, metrics, {});
  serve::HttpServer server(api, metrics, {.port = 0, .log_requests = false});
  const int port = server.bind();
  std::thread running([&] { server.run({}); });
  const auto body = [](int i) {
    return Json{{"prompt", std::string("the cat and the dog").substr(0, size_t(3 + 2 * i))},
                {"max_tokens", 8 + 2 * i},
                {"seed", i},
                {"temperature", i % 2},
                {"logprobs", 3},
                {"ignore_eos", true}};
  };
  std::vector<std::string> alone;
  for (int i = 0; i < 8; ++i) alone.push_back(ask(port, body(i)).dump());
  std::vector<std::future<std::string>> together;
  for (int i = 0; i < 8; ++i)
    together.push_back(std::async(std::launch::async, [&, i] { return ask(port, body(i)).dump(); }));
  for (size_t i = 0; i < 8; ++i) CHECK(together[i].get() == alone[i]);

  // As lm-evaluation-harness scores a continuation, against a whole pass of the same model.
  const std::vector<int32_t> tokens = model.encode("is this likely?", true);
  engine::Device device = tests::open_test_device();
  const graph::HostTensor logits = model_outputs(device, *source, {.input_ids = {tokens}}).at("logits");
  const auto width = size_t(logits.type.shape.back());
  const Json scores = ask(port, {{"prompt", Json::array({tokens})},
                                 {"echo", true},
                                 {"logprobs", 1},
                                 {"max_tokens", 1},
                                 {"temperature", 0},
                                 {"seed", 1234}})[0]["logprobs"];
  REQUIRE(scores["token_logprobs"].size() == tokens.size() + 1);
  CHECK(scores["token_logprobs"][0] == nullptr);
  for (size_t i = 1; i < tokens.size(); ++i) {
    const double* row = logits.values.data() + (i - 1) * width;
    double sum = 0;
    for (size_t v = 0; v < width; ++v) sum += std::exp(row[v]);
    CHECK(std::abs(scores["token_logprobs"][i].get<double>() - (row[tokens[i]] - std::log(sum))) < 1e-4);
    const bool is_greedy = std::max_element(row, row + width) - row == tokens[i];
    CHECK((scores["top_logprobs"][i].begin()->get<double>() == scores["token_logprobs"][i].get<double>()) == is_greedy);
  }
  server.stop();
  running.join();
}

TEST_CASE("serve: the tool serves a folder and ends cleanly", "[serve][device]") {
  const tests::Folder folder;
  make_folder(folder);
  tests::open_test_device();
  std::ofstream(folder / "key") << "secret\n";
  Process process({"serve", folder.path().string(), "--port", "0", "--max_batch", "2", "--name", "little",
                   "--cache_type", "f16", "--api_key_file", (folder / "key").string()});
  REQUIRE(process.port() > 0);
  const std::string key = "Authorization: Bearer secret\r\n";
  CHECK(tests::http_ask(process.port(), "GET", "/v1/models").status == 401);
  const tests::HttpAnswer models = tests::http_ask(process.port(), "GET", "/v1/models", "", key);
  REQUIRE(models.status == 200);
  CHECK(Json::parse(models.body)["data"][0]["id"] == "little");
  const Json body = {{"prompt", "hello"}, {"max_tokens", 50}, {"ignore_eos", true}, {"stream", true}, {"n", 2}};
  tests::HttpConnection connection(process.port());
  connection.send(tests::http_request("POST", "/v1/completions", body.dump(), key));
  REQUIRE(connection.receive());
  process.signal(SIGTERM);
  const tests::HttpAnswer answer = connection.answer();
  CHECK(answer.whole);
  CHECK(tests::events_of(answer.body).done);
  CHECK(process.wait() == 0);

  const tests::Outcome refused =
      tests::run(folder, fmt::format("serve '{}' --host 0.0.0.0 --port 0", folder.path().string()));
  CHECK(refused.status == 1);
  CHECK(refused.err.find("--api_key") != std::string::npos);
  const tests::Outcome other =
      tests::run(folder, fmt::format("serve '{}' --port 0 --cache_type=int8", folder.path().string()));
  CHECK(other.status == 1);
  CHECK(other.err.find("cache_type is f32, f16 or q8_0") != std::string::npos);
}

TEST_CASE("serve: embeddings are means of a real encoder's last hidden states", "[serve][device]") {
  const tests::Folder folder;
  const std::filesystem::path golden = tests::shared_folder("goldens") / "bert-classify";
  // The encoder alone: its classifier is left out.
  const std::string file = tests::slurp(golden / "model.safetensors");
  uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  const Json header = Json::parse(file.substr(8, length));
  Json fresh = Json::object();
  std::string data;
  for (auto [name, tensor] : header.items()) {
    if (name == "__metadata__" || name.starts_with("classifier.")) continue;
    const size_t begin = tensor["data_offsets"][0], end = tensor["data_offsets"][1];
    Json kept = tensor;
    kept["data_offsets"] = {data.size(), data.size() + end - begin};
    fresh[name] = kept;
    data += file.substr(8 + length + begin, end - begin);
  }
  const std::string text = fresh.dump();
  length = text.size();
  std::ofstream(folder / "model.safetensors", std::ios::binary)
      << std::string(reinterpret_cast<const char*>(&length), 8) << text << data;
  Json config = Json::parse(tests::slurp(golden / "config.json"));
  config["architectures"] = {"BertModel"};
  std::ofstream(folder / "config.json") << config.dump();

  engine::Device device = tests::open_test_device();
  const auto source = hub::open_model(folder.path());
  const auto embed = serve::mean_embeddings(*source, "");
  REQUIRE(embed);
  const std::vector<std::vector<int32_t>> texts = {{5, 9, 3}, {7, 8, 9, 10, 11, 12, 13}, {2}};
  const auto means = embed(texts);
  REQUIRE(means.size() == 3);
  for (size_t i = 0; i < texts.size(); ++i) {
    const graph::HostTensor hidden = model_outputs(device, *source, {.input_ids = {texts[i]}}).at("last_hidden_state");
    const auto width = size_t(hidden.type.shape.back());
    REQUIRE(means[i].size() == width);
    for (size_t c = 0; c < width; ++c) {
      double sum = 0;
      for (size_t t = 0; t < texts[i].size(); ++t) sum += hidden.values[t * width + c];
      CHECK(std::abs(means[i][c] - sum / double(texts[i].size())) < 1e-4);
    }
  }
}
