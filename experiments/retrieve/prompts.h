// Passages before prompts: what `--retrieve INDEX` does in generate, evaluate and serve.
#pragma once

#include "experiments/retrieve/retriever.h"
#include "experiments/text/chat_template.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace surtsey::experiments {

// What a prompt becomes, as Jinja of `passages` (id, part, title, text, score; best first) and `prompt`.
inline constexpr const char* kPassageTemplate =
    "{% for passage in passages %}[{{ loop.index }}] "
    "{% if passage.title %}{{ passage.title }}: {% endif %}{{ passage.text }}\n{% endfor %}\n\n{{ prompt }}";

struct PassageOptions {
  int64_t top = 3;
  RetrieveBy by = RetrieveBy::automatic;
  std::string template_text = kPassageTemplate;
};

// A prompt with the passages that stand before it, best first.
struct PassagePrompt {
  std::string text;
  std::vector<FoundPassage> used;
  int64_t left_out = 0;  // of those that were found, for want of room
};

class PassagePrompts {
 public:
  // UserError: a template that cannot be read, or that says nothing of the prompt.
  PassagePrompts(std::shared_ptr<Retriever> retriever, PassageOptions options);

  // Of each prompt, found by what `questions` say (the prompts themselves, or their last part). `fits`: whether the
  // model has room for such a text; of passages that do not fit together the last ones are left out, all if need be
  // (the prompt is then as it was). Passages go in whole or not at all. UserError as Retriever::find() has it.
  std::vector<PassagePrompt> make(const std::vector<std::string>& prompts, const std::vector<std::string>& questions,
                                  const std::function<bool(const std::string& text)>& fits) const;
  PassagePrompt make(const std::string& prompt, const std::function<bool(const std::string& text)>& fits) const;

  // What decides the prompts, beside what the index holds: path, model, template, ..
  std::string description() const;

 private:
  std::string written(const std::string& prompt, std::span<const FoundPassage> passages) const;

  std::shared_ptr<Retriever> retriever_;
  PassageOptions options_;
  text::ChatTemplate template_;
};

// As they are told: [{"id", "part", "title", "text", "score", "bm25_rank", "bm25", "dense_rank", "cosine"}], the ranks
// of lists that were asked.
nlohmann::ordered_json passages_json(std::span<const FoundPassage> passages);

}  // namespace surtsey::experiments
