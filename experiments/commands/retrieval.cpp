#include "experiments/commands/retrieval.h"

#include "experiments/base/file.h"
#include "experiments/base/join.h"
#include "experiments/commands/text_encoder.h"

namespace surtsey::experiments::commands {

std::shared_ptr<Retriever> open_retriever(const std::string& index, const std::string& model, RetrieveBy by,
                                          const std::string& device) {
  const IndexSettings settings = Index::open(index, false).settings();
  std::optional<TextEncoder> encoder;
  if (!model.empty() || (settings.has_vectors() && by != RetrieveBy::bm25)) {
    const std::string path = model.empty() ? settings.model : model;
    check(settings.has_vectors(), "{}: made without a model; it is asked by words alone", index);
    check(!model.empty() || std::filesystem::exists(path),
          "{}: made with {}, which is not there any more: name where it is now (--model, --retrieve_model), or ask by "
          "bm25",
          index, path);
    encoder = open_encoder(path, device);
  }
  return std::make_shared<Retriever>(index, std::move(encoder), device);
}

std::optional<PassagePrompts> open_passages(const RetrieveFlags& flags, const std::string& device) {
  if (flags.index.empty()) {
    const RetrieveFlags none;
    check(flags.model == none.model && flags.top == none.top && flags.by == none.by &&
              flags.template_file == none.template_file,
          "--retrieve_top, _by, _model and _template say how passages are found: --retrieve INDEX says where");
    return std::nullopt;
  }
  const RetrieveBy by = parse_retrieve_by(flags.by);
  PassageOptions options{.top = flags.top, .by = by};
  if (!flags.template_file.empty()) options.template_text = read_text(flags.template_file);
  return PassagePrompts(open_retriever(flags.index, flags.model, by, device), std::move(options));
}

int64_t room_for_answer(const hub::GenerationConfig& how, int64_t context) {
  return std::min(how.max_new_tokens.value_or(context), context / 4);
}

std::string told_passages(const PassagePrompt& prompt) {
  std::vector<std::string> names;
  for (const FoundPassage& one : prompt.used) names.push_back(fmt::format("'{}' {}", one.passage.id, one.passage.part));
  return fmt::format("retrieved {}{}", names.empty() ? "nothing" : join(names, ", "),
                     prompt.left_out > 0 ? fmt::format("; {} left out for want of room", prompt.left_out) : "");
}

}  // namespace surtsey::experiments::commands
