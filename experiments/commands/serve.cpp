// `surtsey serve`: a model that others trained, over HTTP.
#include "engine/error.h"
#include "experiments/base/exit_status.h"
#include "experiments/base/file.h"
#include "experiments/base/interrupt.h"
#include "experiments/base/json_text.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/model_tokenizer.h"
#include "experiments/commands/retrieval.h"
#include "experiments/models/hub/import.h"
#include "experiments/serve/errors.h"
#include "experiments/serve/http.h"
#include "experiments/serve/slots_generator.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace surtsey::experiments::commands {
namespace {

namespace fs = std::filesystem;

// The name that answers bear: the last part of the path.
std::string name_of(const std::string& path) {
  fs::path whole = fs::absolute(path).lexically_normal();
  if (!whole.has_filename()) whole = whole.parent_path();
  return whole.filename().string();
}

// The folders of the adapters, whose names the model then has.
std::vector<std::string> adapters_of(const ServeOptions& options, serve::ServedModel& model) {
  std::vector<std::string> folders;
  for (const std::string& one : options.adapters) {
    const size_t equals = one.find('=');
    check(equals != one.npos && equals > 0 && equals + 1 < one.size(), "--adapters takes NAME=FOLDER, not '{}'", one);
    const std::string name = one.substr(0, equals);
    check(name != model.name && name != serve::kBaseName, "--adapters: {} is the name of the model without an adapter",
          name);
    check(std::find(model.adapters.begin(), model.adapters.end(), name) == model.adapters.end(),
          "--adapters has {} twice", name);
    model.adapters.push_back(name);
    folders.push_back(one.substr(equals + 1));
  }
  return folders;
}

std::string key_of(const ServeOptions& options) {
  if (options.api_key_file.empty()) return options.api_key;
  std::string key = read_text(options.api_key_file);
  while (!key.empty() && (key.back() == '\n' || key.back() == '\r')) key.pop_back();
  check(!key.empty(), "{}: holds no key", options.api_key_file);
  return key;
}

using Retrieve = decltype(serve::ServedModel::retrieve);

Retrieve retrieve_by(const PassagePrompts& passages) {
  return [&passages](const std::string& prompt, const std::function<bool(const std::string&)>& fits) {
    try {
      const PassagePrompt made = passages.make(prompt, fits);
      return serve::RetrievedPrompt{made.text, json_text(passages_json(made.used))};
    } catch (const engine::DeviceError& error) {
      throw serve::unavailable(error.what(), 5);
    }
  };
}

}  // namespace

void serve(const ServeOptions& options) {
  const std::unique_ptr<hub::Source> source = open_source(options.model);
  const std::string name = options.name.empty() ? name_of(options.model) : options.name;
  serve::ServedModel model(name, tokenizer_of(*source), source->generation());
  model.chat_source = template_text(*source, options.chat_template);
  if (!model.chat_source.empty()) model.chat = template_of(*source, model.tokenizer, options.chat_template);
  const ModelConfig config = hub::model_config(*source, {options.context});
  model.generates = config.head == HeadKind::language && config.architecture == Architecture::decoder;
  if (!model.generates) model.embed = serve::mean_embeddings(*source, options.device);
  check(model.generates || model.embed, "{}: neither continues texts nor gives embeddings of them", options.model);
  model.embedding_context = model.embed ? config.block_size : 0;
  check(model.generates || options.retrieve.index.empty(),
        "{}: continues no text, so there are no prompts to put passages before", options.model);
  const auto passages = open_passages(options.retrieve, options.device);
  if (passages) model.retrieve = retrieve_by(*passages);

  const std::vector<std::string> folders = adapters_of(options, model);
  serve::GeneratorFactory factory;
  if (model.generates) {
    factory = serve::slots_factory(*source,
                                   {.slots = options.max_batch,
                                    .context = options.context,
                                    .weights = options.weights,
                                    .cache_type = options.cache_type,
                                    .adapter = options.adapter,
                                    .adapters = folders,
                                    .scores = true},
                                   options.device);
  }
  serve::Metrics metrics;
  serve::Scheduler scheduler(factory, model, {.queue = options.queue}, metrics);
  serve::Api api(model, scheduler, metrics,
                 {.request_seconds = options.request_seconds, .log_prompts = options.log_prompts});
  serve::HttpServer server(api, metrics,
                           {.host = options.host,
                            .port = int(options.port),
                            .api_key = key_of(options),
                            .limits = {.connections = options.connections, .body_bytes = size_t(options.max_body)},
                            .log_requests = !options.quiet});
  handle_interrupts();
  const int port = server.bind();
  const bool six = options.host.find(':') != std::string::npos;
  print_line(fmt::format("{} at http://{}{}{}:{}/", name, six ? "[" : "", options.host, six ? "]" : "", port));
  if (model.generates) {
    print_line(fmt::format("{} texts at once, {} tokens each{}", scheduler.slots(), scheduler.context(),
                           model.chat ? "" : "; no chat template, so no chat"));
    if (!model.adapters.empty())
      print_line(fmt::format("over one base: {}; a request's \"model\" names one, or {}",
                             fmt::join(model.adapters, ", "), serve::kBaseName));
  }
  server.run(interrupted);
}

}  // namespace surtsey::experiments::commands
