// `surtsey index`: makes, changes and asks an index.
#include "experiments/base/exit_status.h"
#include "experiments/base/file.h"
#include "experiments/base/interrupt.h"
#include "experiments/base/json_text.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/keys.h"
#include "experiments/commands/retrieval.h"
#include "experiments/commands/text_encoder.h"
#include "experiments/retrieve/write.h"

#include <nlohmann/json.hpp>

namespace surtsey::experiments::commands {
namespace {

using Json = nlohmann::ordered_json;

// The one of the index, or what `model` says stands elsewhere now.
std::optional<TextEncoder> encoder_for(const IndexSettings& settings, const std::string& model,
                                       const std::string& device) {
  if (!settings.has_vectors() && model.empty()) return std::nullopt;
  return open_encoder(model.empty() ? settings.model : model, device);
}

void print_counts(const std::string& index, const IndexCounts& counts, const std::string& format) {
  if (format == "json") {
    print_line(json_text(Json{{"index", index},
                              {"documents", counts.documents},
                              {"passages", counts.passages},
                              {"replaced", counts.replaced}}));
    return;
  }
  print_line(fmt::format("{}: {} documents in {} passages{}", index, counts.documents, counts.passages,
                         counts.replaced > 0 ? fmt::format("; {} took the place of others", counts.replaced) : ""));
}

std::vector<std::string> lines_of(const std::string& path) {
  const std::string content = read_text(path);
  std::vector<std::string> lines;
  for (size_t at = 0; at < content.size();) {
    const size_t end = std::min(content.find('\n', at), content.size());
    if (end > at) lines.push_back(content.substr(at, end - at));
    at = end + 1;
  }
  check(!lines.empty(), "{}: there is nothing in it to ask", path);
  return lines;
}

void print_found(const std::string& query, const std::vector<FoundPassage>& found, const std::string& format) {
  if (format == "json") {
    print_line(json_text(Json{{"query", query}, {"passages", passages_json(found)}}));
    return;
  }
  if (found.empty()) print_line("nothing was found");
  for (const FoundPassage& one : found) {
    constexpr size_t kShown = 200;
    std::string text = one.passage.text.substr(0, kShown);
    std::replace(text.begin(), text.end(), '\n', ' ');
    if (one.passage.text.size() > kShown) text += " ..";
    print_line(fmt::format("{:.6g}  {} {}  {}{}", one.score, one.passage.id, one.passage.part,
                           one.passage.title.empty() ? "" : one.passage.title + ": ", text));
  }
}

}  // namespace

void index_build(const IndexBuildOptions& options) {
  check_text_or_json(options.format);
  handle_interrupts();
  const std::vector<Document> documents = read_documents(options.data);
  std::optional<TextEncoder> encoder;
  if (!options.model.empty()) encoder = open_encoder(options.model, options.device);
  const TextEncoder* made = encoder ? &*encoder : nullptr;
  const IndexSettings settings{
      .words = options.words,
      .passage_tokens = options.passage_tokens > 0 ? options.passage_tokens : usual_passage_tokens(made),
      .overlap = options.overlap,
      .passage_prefix = options.passage_prefix,
      .query_prefix = options.query_prefix};
  check(made != nullptr || (options.passage_prefix.empty() && options.query_prefix.empty()),
        "--passage_prefix and --query_prefix are of vectors: they go with --model");
  print_counts(options.out, build_index(options.out, settings, documents, made), options.format);
}

void index_add(const IndexChangeOptions& options) {
  check_text_or_json(options.format);
  handle_interrupts();
  const IndexSettings settings = Index::open(options.index, true).settings();
  const std::vector<Document> documents = read_documents(options.data);
  const std::optional<TextEncoder> encoder = encoder_for(settings, options.model, options.device);
  print_counts(options.index, add_to_index(options.index, documents, encoder ? &*encoder : nullptr), options.format);
}

void index_delete(const IndexChangeOptions& options) {
  check_text_or_json(options.format);
  print_counts(options.index, delete_from_index(options.index, options.ids), options.format);
}

void index_query(const IndexQueryOptions& options) {
  check_text_or_json(options.format);
  if (options.text.has_value() == !options.queries.empty()) {
    throw CommandLineError("index query takes either --text or --queries");
  }
  const RetrieveBy by = parse_retrieve_by(options.by);
  const std::vector<std::string> texts = options.text ? std::vector{*options.text} : lines_of(options.queries);
  const auto retriever = open_retriever(options.index, options.model, by, options.device);
  const auto found = retriever->find(texts, {.top = options.top, .by = by});
  for (size_t i = 0; i < texts.size(); ++i) print_found(texts[i], found[i], options.format);
}

void index_info(const IndexChangeOptions& options) {
  check_text_or_json(options.format);
  const Index index = Index::open(options.index, false);
  const IndexSettings& s = index.settings();
  const Json json = {{"index", options.index},
                     {"documents", index.documents()},
                     {"passages", index.passages()},
                     {"words", s.words},
                     {"passage_tokens", s.passage_tokens},
                     {"overlap", s.overlap},
                     {"model", s.model},
                     {"model_hash", s.model_hash},
                     {"width", s.width},
                     {"passage_prefix", s.passage_prefix},
                     {"query_prefix", s.query_prefix}};
  if (options.format == "json") return print_line(json_text(json));
  for (const auto& [key, value] : json.items()) {
    print_line(fmt::format("{:16}{}", key, value.is_string() ? value.get<std::string>() : value.dump()));
  }
}

}  // namespace surtsey::experiments::commands
