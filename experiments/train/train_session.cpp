#include "experiments/train/train_session.h"

#include "experiments/train/checkpoint.h"
#include "graph/random.h"

namespace surtsey::experiments {

void add_train_programs(engine::Session& session, const Model& model, const TrainConfig& config) {
  for (const auto& [name, program] : train_programs(model, config).programs) {
    session.add_program(name, program, compile_options(config, name));
  }
  for (const char* name : {"data.tokens", "data.targets", "data.weights", "data.source", "data.starts",
                           "data.distributions", "data.kinds", "data.lengths", "data.labels", "data.numbers"}) {
    if (session.has_state(name)) session.share_with_host(name);
  }
}

void write_state(engine::Session& session, const graph::State& state) {
  for (const auto& [name, tensor] : state) {
    if (session.has_state(name)) session.write(name, tensor);
  }
}

void write_models(engine::Session& session, const Model& model, const std::vector<Member>& members) {
  std::vector<graph::State> states;
  for (const Member& member : members) states.push_back({{graph::kParameters, model.store().initialise(member.seed)}});
  write_state(session, states.size() == 1 ? states[0] : ensemble_state(states, member_state_names()));
  for (const graph::ParameterSpec& spec : model.store().specs()) {
    if (spec.frozen()) write_state(session, model.store().initialise_frozen(spec, members.front().seed));
  }
  write_state(session, model.constants());
}

void write_uniform_start(engine::Session& session, const Model& model, const TrainConfig& config) {
  write_state(session, initial_train_state(model, config));
  write_uniform_tokens(session, model.config(), config.members.front().seed);
}

void write_uniform_tokens(engine::Session& session, const ModelConfig& model, uint32_t seed) {
  const auto count = [&](const char* name) {
    return static_cast<size_t>(graph::element_count(session.state_type(name).shape));
  };
  for (const char* name : {"tokens", "source", "data.tokens", "data.targets", "data.source"}) {
    if (!session.has_state(name)) continue;
    const uint32_t stream = graph::stream_seed(seed, name);
    // [R, G, B, T] of a ring: what a group reads does not depend on how many groups there are.
    const graph::Shape shape = session.state_type(name).shape;
    const size_t groups = shape.size() == 4 ? static_cast<size_t>(shape[1]) : 1;
    std::vector<uint32_t> words(count(name));
    const size_t slots = shape.size() == 4 ? static_cast<size_t>(shape[0]) : 1, batch = words.size() / (groups * slots);
    for (size_t i = 0; i < words.size(); ++i) {
      const size_t slot = i / (groups * batch), group = i / batch % groups, inside = slot * batch + i % batch;
      words[i] = graph::random_range(stream, static_cast<uint32_t>(group), static_cast<uint32_t>(inside),
                                     static_cast<uint32_t>(model.vocab_size));
    }
    session.write(name, words);
  }
  if (session.has_state("data.weights")) session.write("data.weights", std::vector<float>(count("data.weights"), 1.0f));
}

}  // namespace surtsey::experiments
