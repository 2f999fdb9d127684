#include "experiments/retrieve/prompts.h"

#include "graph/error.h"

#include <nlohmann/json.hpp>

namespace surtsey::experiments {

using Json = nlohmann::ordered_json;

PassagePrompts::PassagePrompts(std::shared_ptr<Retriever> retriever, PassageOptions options)
    : retriever_(std::move(retriever)),
      options_(std::move(options)),
      template_(options_.template_text, "the template of passages") {
  check(options_.top > 0, "the best {} passages: at least one", options_.top);
  const std::string probe = "What is asked";
  check(written(probe, {}).find(probe) != std::string::npos,
        "the template of passages leaves out the prompt: {{{{ prompt }}}} is where it goes");
}

std::string PassagePrompts::written(const std::string& prompt, std::span<const FoundPassage> passages) const {
  return template_.render({{"passages", passages_json(passages)}, {"prompt", prompt}});
}

std::vector<PassagePrompt> PassagePrompts::make(const std::vector<std::string>& prompts,
                                                const std::vector<std::string>& questions,
                                                const std::function<bool(const std::string&)>& fits) const {
  // A prompt without a word asks for nothing.
  std::vector<std::string> asked;
  std::vector<std::vector<FoundPassage>> found(prompts.size());
  std::vector<size_t> places;
  for (size_t i = 0; i < questions.size(); ++i) {
    if (questions[i].find_first_not_of(" \t\r\n\v\f") == std::string::npos) continue;
    asked.push_back(questions[i]);
    places.push_back(i);
  }
  if (!asked.empty()) {
    auto lists = retriever_->find(asked, {.top = options_.top, .by = options_.by, .cut_queries = true});
    for (size_t i = 0; i < places.size(); ++i) found[places[i]] = std::move(lists[i]);
  }
  std::vector<PassagePrompt> made;
  for (size_t i = 0; i < prompts.size(); ++i) {
    PassagePrompt& one = made.emplace_back();
    one.text = prompts[i];
    size_t count = found[i].size();
    for (; count > 0; --count) {
      std::string text = written(prompts[i], std::span(found[i]).first(count));
      if (!fits(text)) continue;
      one.text = std::move(text);
      break;
    }
    one.left_out = int64_t(found[i].size() - count);
    found[i].resize(count);
    one.used = std::move(found[i]);
  }
  return made;
}

PassagePrompt PassagePrompts::make(const std::string& prompt,
                                   const std::function<bool(const std::string&)>& fits) const {
  return std::move(make(std::vector{prompt}, {prompt}, fits).front());
}

std::string PassagePrompts::description() const {
  const IndexSettings settings = retriever_->settings();
  // The same from any folder.
  std::error_code error;
  const std::filesystem::path path = std::filesystem::weakly_canonical(retriever_->path(), error);
  return fmt::format("index {}, model {}, top {}, by {}, template {}", (error ? retriever_->path() : path).string(),
                     settings.has_vectors() ? settings.model_hash : "none", options_.top, name(options_.by),
                     options_.template_text);
}

Json passages_json(std::span<const FoundPassage> passages) {
  Json list = Json::array();
  for (const FoundPassage& one : passages) {
    Json entry = {{"id", one.passage.id},
                  {"part", one.passage.part},
                  {"title", one.passage.title},
                  {"text", one.passage.text},
                  {"score", one.score}};
    if (one.bm25_rank > 0) entry.update({{"bm25_rank", one.bm25_rank}, {"bm25", one.bm25}});
    if (one.dense_rank > 0) entry.update({{"dense_rank", one.dense_rank}, {"cosine", one.cosine}});
    list.push_back(std::move(entry));
  }
  return list;
}

}  // namespace surtsey::experiments
