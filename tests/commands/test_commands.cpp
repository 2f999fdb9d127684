// The parts of the umbrella tool that need no device.
#include "experiments/commands/keys.h"
#include "experiments/commands/records.h"
#include "experiments/train/options.h"

#include "graph/error.h"
#include "graph/interpret.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <cmath>
#include <filesystem>
#include <fstream>

#include <unistd.h>

namespace surtsey::experiments::commands {
namespace {

using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::MessageMatches;

struct Keys {
  Keys() { add_training_fields(table, training); }
  void read(const std::vector<std::string>& arguments, const std::string& file = "") {
    read_keys(model, table, file, arguments);
  }
  ModelConfig model;
  TrainingKeys training;
  ConfigTable table;
};

std::string write_file(const std::string& name, const std::string& text) {
  const auto path = std::filesystem::temp_directory_path() / fmt::format("surtsey-keys-{}-{}", getpid(), name);
  std::ofstream(path) << text;
  return path.string();
}

TEST_CASE("keys go to the model or to the table, overrides after files", "[commands]") {
  Keys keys;
  const std::string toml = write_file("a.toml", "n_layer = 3\nposition = \"rotary\"\nbatch_size = 5\nbias = false\n");
  keys.read({"--n_layer=7", "--learning_rate", "0.5", "--norm_bias=true"}, toml);
  CHECK(keys.model.n_layer == 7);
  CHECK(keys.model.position == Position::rotary);
  CHECK(keys.model.bias == false);
  CHECK(keys.model.norm_bias == true);
  CHECK(keys.training.batch_size == 5);
  CHECK(keys.training.learning_rate == 0.5);
  CHECK(keys.training.n_layer == TrainingKeys().n_layer);
  std::filesystem::remove(toml);

  Keys from_json;
  const std::string json = write_file("b.json", R"({"config": {"model": {"n_layer": 5}, "vocabulary": "x"}})");
  from_json.read({}, json);
  CHECK(from_json.model.n_layer == 5);
  std::filesystem::remove(json);
}

TEST_CASE("a descriptor sets the size before other keys", "[commands]") {
  Keys keys;
  keys.read({"--n_head=4", "--model=d2"});
  CHECK(keys.model.n_layer == 2);
  CHECK(keys.model.n_embd == 128);
  CHECK(keys.model.n_head == 4);
}

TEST_CASE("wrong keys are one clear message", "[commands]") {
  const auto message = [](const std::vector<std::string>& arguments, const std::string& text,
                          const std::string& file = "") {
    CHECK_THROWS_MATCHES(Keys().read(arguments, file), UserError, MessageMatches(ContainsSubstring(text)));
  };
  message({"--n_layr=3"}, "did you mean 'n_layer'");
  message({"--learning_rat=3"}, "did you mean 'learning_rate'");
  message({"--n_layer"}, "needs a value");
  message({"n_layer=3"}, "unexpected argument 'n_layer=3'");
  message({"--n_layer=x"}, "n_layer");
  message({"--batch_size=x"}, "batch_size");
  message({"--model=big"}, "big");
  message({}, "/no/such/file.toml", "/no/such/file.toml");
  const std::string toml = write_file("c.toml", "n_layer = \n");
  message({}, toml + ":1:", toml);
  // What a model cannot have is told with the places of the keys that it names.
  write_file("c.toml", "dropout = 0\nn_layer = 99999999999\n");
  message({}, toml + ":2:1: [config] n_layer is 99999999999", toml);
  write_file("c.toml", "n_embd = 30\n");
  message({"--n_head=4"}, "--n_head=4, " + toml + ":1:1: [config] n_head 4 does not divide", toml);
  std::filesystem::remove(toml);
}

TEST_CASE("samples become a median and a deviation", "[commands]") {
  CHECK(median({5, 1, 3}) == 3);
  CHECK(median({4, 1, 3, 2}) == 2.5);
  Record record;
  add_samples(record, {1000, 3000, 2000});
  CHECK(record.number("median_ns") == 2000);
  CHECK(record.number("deviation_ns") == 1000);
  CHECK(std::get<std::vector<uint64_t>>(record.at("samples_ns")) == std::vector<uint64_t>{1000, 3000, 2000});
  int calls = 0;
  const auto samples = take_samples(2, 3, [&] { return uint64_t(++calls); });
  CHECK(samples == std::vector<uint64_t>{3, 4, 5});
}

TEST_CASE("lists make a cross product, the last runs fastest", "[commands]") {
  std::vector<std::vector<int64_t>> seen;
  for_each_combination({{1, 2}, {3}, {4, 5}}, [&](const auto& values) { seen.push_back(values); });
  CHECK(seen == std::vector<std::vector<int64_t>>{{1, 3, 4}, {1, 3, 5}, {2, 3, 4}, {2, 3, 5}});
}

TEST_CASE("one step graph: two members have the losses of each alone, each on the batch of its seed", "[commands]") {
  ModelConfig config;
  config.n_layer = 1;
  config.n_head = 1;
  config.n_embd = 4;
  config.block_size = 3;
  config.vocab_size = 5;
  const Model model(config);
  TrainConfig train;
  train.batch_size = 2;
  train.members = {{.seed = 0}, {.seed = 1}};
  const auto start = [&](const TrainConfig& of, const std::vector<double>& tokens, const std::vector<double>& targets) {
    graph::State state = initial_train_state(model, of);
    const graph::Shape shape = {1, int64_t(of.members.size()), 2, 3};
    state["data.tokens"] = graph::HostTensor({graph::DType::u32, shape}, tokens);
    state["data.targets"] = graph::HostTensor({graph::DType::u32, shape}, targets);
    state["data.weights"] = graph::HostTensor({graph::DType::f32, shape}, std::vector<double>(tokens.size(), 1));
    return state;
  };
  std::vector<double> alone, tokens, targets;
  for (const Member& member : train.members) {
    TrainConfig one = train;
    one.members = {member};
    const double e = member.seed;
    const std::vector<double> own_tokens = {0, 1, 2, e, 4, 0}, own_targets = {1, 2, 3, 4, 0, e};
    tokens.insert(tokens.end(), own_tokens.begin(), own_tokens.end());
    targets.insert(targets.end(), own_targets.begin(), own_targets.end());
    graph::State state = start(one, own_tokens, own_targets);
    alone.push_back(graph::interpret(train_step(model, one, 1), state).at("loss").values[0]);
  }
  CHECK(std::abs(alone[0] - std::log(5.0)) < 0.1);  // an untrained model guesses
  CHECK(alone[0] != alone[1]);
  graph::State both = start(train, tokens, targets);
  CHECK(graph::interpret(train_step(model, train, 1), both).at("loss").values == alone);
}

}  // namespace
}  // namespace surtsey::experiments::commands
