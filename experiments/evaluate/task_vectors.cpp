#include "experiments/evaluate/task_vectors.h"

#include <algorithm>

#include "experiments/models/residual.h"
#include "experiments/results/claims.h"
#include "experiments/train/train_program.h"
#include "graph/functions.h"
#include "graph/random.h"

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::Program;
using graph::random_range;
using graph::Value;

constexpr const char* kProgram = "task_vectors";
constexpr const char* kTokens = "probe.tokens";
constexpr const char* kPosition = "probe.position";

// The answer at a position of every row, and the stream there at every depth, with a patch.
Program probe_program(const Model& model, int64_t rows) {
  Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& graph = *program.graph;
  graph::Parameters parameters(graph, model.store());
  const Value tokens = graph.parameter(kTokens, {DType::u32, {rows, model.config().block_size}});
  const Value position = graph.parameter(kPosition, {DType::u32, {}});
  Residuals residuals(model);
  for (int64_t depth = 0; depth <= model.config().n_layer; ++depth) {
    residuals.read(depth, position);
  }
  residuals.patch();
  ForwardOptions options;
  options.residual = residuals.hook();
  const Value hidden = model.hidden(parameters, tokens, options);
  const Value logits = model.head(parameters, graph::gather(hidden, position, 1));
  program.outputs = residuals.outputs();
  program.outputs.emplace_back("answer", graph::argmax(logits, -1, false));
  return program;
}

// One kind of prompt of all pairs, and how answers to it are scored.
class Prompts {
 public:
  Prompts(engine::Session& session, size_t members, const std::vector<TaskVectors::Pair>& pairs, bool few_shot,
          int32_t block, int32_t padding)
      : session_(session), program_(session.program(kProgram)), members_(members), pairs_(pairs), few_shot_(few_shot) {
    for (const TaskVectors::Pair& pair : pairs) {
      std::vector<int32_t> row = few_shot ? pair.few_shot : pair.zero_shot;
      position_ = static_cast<uint32_t>(row.size() - 1);
      row.resize(static_cast<size_t>(block), padding);
      tokens_.insert(tokens_.end(), row.begin(), row.end());
    }
  }

  // Right answers of each member with the stream patched at a depth (kNoPatch: as it is).
  std::vector<int64_t> run(uint32_t depth) {
    session_.write(kTokens, tokens_);
    session_.write(kPosition, std::vector<uint32_t>{position_});
    session_.write("patch.position", std::vector<uint32_t>{position_});
    session_.write("patch.depth", std::vector<uint32_t>{depth});
    program_.run();
    const std::vector<uint32_t> answers = program_.read_words("answer");
    std::vector<int64_t> right(members_, 0);
    for (size_t e = 0; e < members_; ++e) {
      for (size_t n = 0; n < pairs_.size(); ++n) {
        const int32_t wanted = few_shot_ ? pairs_[n].few_shot_answer : pairs_[n].zero_shot_answer;
        right[e] += answers[e * pairs_.size() + n] == static_cast<uint32_t>(wanted) ? 1 : 0;
      }
    }
    return right;
  }

 private:
  engine::Session& session_;
  engine::SessionProgram program_;
  size_t members_;
  const std::vector<TaskVectors::Pair>& pairs_;
  bool few_shot_;
  uint32_t position_ = 0;
  std::vector<uint32_t> tokens_;
};

}  // namespace

TaskVectors::TaskVectors(std::shared_ptr<const tasks::PermutationTask> task, int32_t rows, int32_t layers)
    : task_(std::move(task)), rows_(rows), layers_(layers) {
  check(task_->options().tasks > 1, "[task_vectors] one task has no other to compare with");
  check(rows > 0 && layers > 0, "[task_vectors] {} rows of {} layers", rows, layers);
}

std::vector<TaskVectors::Pair> TaskVectors::draw(uint32_t seed) const {
  const tasks::PermutationOptions& o = task_->options();
  const uint32_t key = graph::stream_seed(seed, "task_vectors");
  const auto symbols = static_cast<uint32_t>(o.symbols);
  std::vector<Pair> pairs;
  for (uint32_t n = 0; n < static_cast<uint32_t>(rows_); ++n) {
    // Streams of its own: no prompt is one of the task's test questions by construction.
    const uint32_t own = graph::random_bits(key, 0, n);
    Pair& pair = pairs.emplace_back();
    pair.permutation = static_cast<int32_t>(random_range(own, 0, 0, static_cast<uint32_t>(o.tasks)));
    const auto& image = task_->permutations()[static_cast<size_t>(pair.permutation)];
    std::vector<int32_t> inputs;
    for (uint32_t drawn = 0; inputs.size() <= static_cast<size_t>(o.shots); ++drawn) {
      const auto input = static_cast<int32_t>(random_range(own, 1, drawn, symbols));
      if (std::find(inputs.begin(), inputs.end(), input) == inputs.end()) inputs.push_back(input);
    }
    for (const int32_t input : inputs) {
      pair.few_shot.insert(pair.few_shot.end(), {input, o.symbols});
      pair.few_shot_answer = image[static_cast<size_t>(input)];
      if (input != inputs.back()) pair.few_shot.push_back(pair.few_shot_answer);
    }
    const auto query = static_cast<int32_t>(random_range(own, 2, 0, symbols));
    pair.zero_shot = {query, o.symbols};
    pair.zero_shot_answer = image[static_cast<size_t>(query)];
  }
  for (size_t n = 0; n < pairs.size(); ++n) {
    size_t other = n;
    do {
      other = (other + 1) % pairs.size();
    } while (other != n && pairs[other].permutation == pairs[n].permutation);
    check(other != n, "[task_vectors] {} prompts are all of one task", pairs.size());
    pairs[n].other = other;
  }
  return pairs;
}

void TaskVectors::add_programs(engine::Session& session, const Model& model, size_t members) const {
  check(model.config().n_layer == layers_, "[task_vectors] {} layers, the model has {}", layers_,
        model.config().n_layer);
  session.add_program(kProgram, for_members(probe_program(model, rows_), members, residual_member_state()));
}

std::vector<std::vector<Measure>> TaskVectors::measure(engine::Session& session, size_t members, uint32_t seed) const {
  const std::vector<Pair> pairs = draw(seed);
  const size_t count = pairs.size();
  const auto prompts = [&](bool few_shot) {
    return Prompts(session, members, pairs, few_shot, task_->block_size(), task_->padding_token());
  };
  std::vector<std::vector<Measure>> all(members);
  const auto add = [&](const std::string& name, const std::vector<int64_t>& right) {
    for (size_t e = 0; e < members; ++e) all[e].push_back(share_measure(name, right[e], static_cast<int64_t>(count)));
  };
  add("few_shot", prompts(true).run(kNoPatch));
  std::vector<std::vector<float>> vectors;  // [depth]: [E, N, C]
  for (int32_t depth = 0; depth <= layers_; ++depth) {
    vectors.push_back(session.program(kProgram).read_floats(fmt::format("residual.{}", depth)));
  }
  Prompts zero_shot = prompts(false);
  add("zero_shot", zero_shot.run(kNoPatch));
  for (int32_t depth = 0; depth <= layers_; ++depth) {
    const std::vector<float>& own = vectors[static_cast<size_t>(depth)];
    const size_t width = own.size() / (members * count);
    std::vector<float> others(own.size());
    for (size_t row = 0; row < members * count; ++row) {
      const size_t from = row / count * count + pairs[row % count].other;
      std::copy_n(own.begin() + static_cast<std::ptrdiff_t>(from * width), width,
                  others.begin() + static_cast<std::ptrdiff_t>(row * width));
    }
    session.write("patch.value", own);
    add(fmt::format("patched.{}", depth), zero_shot.run(static_cast<uint32_t>(depth)));
    session.write("patch.value", others);
    add(fmt::format("control.{}", depth), zero_shot.run(static_cast<uint32_t>(depth)));
  }
  return all;
}

}  // namespace surtsey::experiments
