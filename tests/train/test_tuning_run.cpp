// Training on rows of texts: packed rows, padded rows and micro-batches learn the same; what trains is saved without
// the base it stands on.
#include "experiments/formats/safetensors.h"
#include "experiments/tasks/tuning/tuning_source.h"
#include "experiments/text/byte_bpe_training.h"
#include "experiments/text/tokenizer_json.h"
#include "experiments/train/train.h"
#include "tests/support/folder.h"
#include "tests/support/support_device.h"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include <fstream>
#include <numeric>

using namespace surtsey;
using namespace surtsey::experiments;
using Catch::Approx;

namespace {

// Ten texts of several lengths, by bytes.
struct Texts {
  Texts() : tokenizer(text::parse_tokenizer_json(text::train_byte_bpe("", text::kSmallestVocabulary).json, "bytes")) {
    std::ofstream file(folder / "rows.jsonl");
    for (int i = 0; i < 10; ++i)
      file << nlohmann::json({{"prompt", std::string(size_t(1 + i % 3), char('a' + i)) + ":"},
                              {"completion", std::string(size_t(1 + i * 7 % 5), char('A' + i))}})
           << "\n";
    file.close();
    const tasks::TuningEncoder encoder(tokenizer, {.end_tokens = {256}});
    tasks::TuningDocuments::make(folder / "rows.jsonl", encoder, {.most_tokens = 25}, 0, folder / "tokens");
    documents = std::make_shared<const tasks::TuningDocuments>(folder / "tokens");
    std::vector<uint32_t> all(size_t(documents->count()));
    std::iota(all.begin(), all.end(), 0u);
    picked = all;
  }
  tasks::TuningSource source(tasks::TuningBatches batches) const {
    return {tokenizer, text::kSmallestVocabulary, {documents, picked}, {documents, picked}, batches};
  }

  tests::Folder folder;
  text::Tokenizer tokenizer;
  std::shared_ptr<const tasks::TuningDocuments> documents;
  std::vector<uint32_t> picked;
};

ModelConfig small() {
  ModelConfig config = decoder_config(1, 16, 2, text::kSmallestVocabulary, 32);
  config.position = Position::rotary;
  config.n_kv_head = 1;
  return config;
}

struct Learned {
  std::vector<float> losses;
  std::vector<double> parameters;
};

Learned learn(engine::Device& device, const Model& model, const Texts& texts, tasks::TuningBatches batches,
              int64_t steps) {
  const tasks::TuningSource source = texts.source(batches);
  TrainConfig config;
  config.optimizer.kind = graph::OptimizerKind::sgd;
  config.optimizer.clip_norm = 0;
  config.optimizer.accumulation_steps = batches.accumulation;
  config.members = {{1, 0.5}};
  config.batch_size = batches.batch_size;
  config.block_size = batches.block_size;
  config.steps = steps;
  config.packed = batches.packing;
  config.summed_loss = config.token_accuracy = true;
  engine::Session session(device, {.quiet = true});
  Trainer trainer(session, model, config, source);
  session.allocate();
  trainer.initialise();
  trainer.run();
  CHECK(trainer.token_accuracy().at(0) <= 1);
  return {trainer.losses()[0], trainer.parameters(0).values};
}

}  // namespace

TEST_CASE("texts that are packed into rows are learned as those in rows of their own", "[device][tuning]") {
  engine::Device device = tests::open_test_device();
  const Texts texts;
  const Model model(small());
  // All texts in each step, however they are cut.
  const Learned padded = learn(device, model, texts, {.block_size = 10, .batch_size = 10, .packing = false}, 3);
  const tasks::TuningSource rows = texts.source({.block_size = 24, .packing = true});
  REQUIRE(rows.train_rows() < 5);
  const Learned packed =
      learn(device, model, texts, {.block_size = 24, .batch_size = int32_t(rows.train_rows()), .packing = true}, 3);
  const Learned parts =
      learn(device, model, texts, {.block_size = 10, .batch_size = 2, .accumulation = 5, .packing = false}, 3);
  for (const Learned* other : {&packed, &parts}) {
    REQUIRE(other->losses.size() == 3);
    for (size_t i = 0; i < 3; ++i) CHECK(other->losses[i] == Approx(padded.losses[i]).epsilon(1e-5));
    double difference = 0, size = 0;
    for (size_t i = 0; i < padded.parameters.size(); ++i) {
      difference = std::max(difference, std::abs(other->parameters[i] - padded.parameters[i]));
      size = std::max(size, std::abs(padded.parameters[i]));
    }
    CHECK(difference < 1e-5 * size);
  }
  CHECK(padded.losses[2] < padded.losses[0]);
}

TEST_CASE("what trains beside a base that is kept elsewhere is saved alone", "[device][tuning]") {
  engine::Device device = tests::open_test_device();
  const Texts texts;
  Model model(small());
  model.store().freeze([](const graph::ParameterSpec& spec) { return !spec.name.starts_with("blocks.0.mlp"); });
  const tasks::TuningSource source = texts.source({.block_size = 10, .batch_size = 4, .packing = true});
  TrainConfig config;
  config.members = {{1, 0.01}, {2, 0.01}};
  config.batch_size = 4;
  config.block_size = 10;
  config.steps = 8;
  config.packed = config.summed_loss = config.base_elsewhere = true;
  const auto run = [&](int64_t until, bool resumed) {
    auto session = std::make_unique<engine::Session>(device, engine::SessionOptions{.quiet = true});
    Trainer trainer(*session, model, config, source);
    session->allocate();
    for (const auto& [name, tensor] : model.store().initialise_frozen(9)) session->write(name, tensor);
    if (resumed) {
      CHECK(trainer.load(texts.folder / "save") == 5);
    } else {
      trainer.initialise_each({model.store().initialise(3), model.store().initialise(4)});
    }
    trainer.run({.until = until});
    if (until > 0) trainer.save(texts.folder / "save", nlohmann::json::object());
    return std::vector{trainer.parameters(0).values, trainer.parameters(1).values};
  };
  const auto whole = run(0, false);
  run(5, false);
  CHECK(run(0, true) == whole);
  CHECK(whole[0] != whole[1]);
  const graph::State saved =
      read_safetensors(Trainer::newest_save(texts.folder / "save", 2, 0) + "/model.safetensors").tensors;
  for (const auto& [name, tensor] : saved) CHECK(name.starts_with("blocks.0.mlp"));
  CHECK(saved.size() == 4);  // two matrices with their biases
}
