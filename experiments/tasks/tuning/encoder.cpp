#include "experiments/tasks/tuning/encoder.h"

#include "experiments/base/join.h"
#include "graph/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace surtsey::experiments::tasks {
namespace {

using nlohmann::ordered_json;

constexpr const char* kBlanks = " \t\r\n";

size_t common(const auto& a, const auto& b) {
  return size_t(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(kBlanks);
  return first == text.npos ? "" : text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

// What an assistant says in a message; empty: it calls tools.
std::string content_of(const ordered_json& message) {
  return message.contains("content") && message["content"].is_string() ? trimmed(message["content"]) : "";
}

}  // namespace

bool TuningEncoder::is_end(int32_t token) const {
  return std::find(encoding_.end_tokens.begin(), encoding_.end_tokens.end(), token) != encoding_.end_tokens.end();
}

std::string TuningEncoder::end_names() const {
  std::vector<std::string> names;
  for (const int32_t token : encoding_.end_tokens) names.push_back(tokenizer_.token(token));
  return join(names, ", ");
}

// Is the next thing behind this place, blanks apart, a token that ends?
bool TuningEncoder::ends_behind(const std::string& text, size_t position) const {
  const size_t next = std::min(text.find_first_not_of(kBlanks, position), text.size());
  return std::any_of(encoding_.end_tokens.begin(), encoding_.end_tokens.end(), [&](int32_t token) {
    const std::string name = tokenizer_.decode(std::span(&token, 1));
    if (name.empty()) return false;
    return text.compare(position, name.size(), name) == 0 || text.compare(next, name.size(), name) == 0;
  });
}

TuningDocument TuningEncoder::encode(const TuningRow& row, const std::string& where) const {
  const bool converses = row.kind == TuningRow::Kind::conversation ||
                         (row.kind == TuningRow::Kind::instruction && encoding_.chat.has_value());
  // What is scored as a whole need not end.
  check(row.kind == TuningRow::Kind::text || !encoding_.end_tokens.empty() || encoding_.labels.has_value(),
        "{}: answers need a token that ends them, and the model names none: give one with --eos_token", where);
  if (converses) return encode_conversation(row, where);
  if (row.kind == TuningRow::Kind::text) return encode_text("", row.text, true);
  return encode_text(row.text, row.completion, !encoding_.completion_only);
}

TuningDocument TuningEncoder::encode(const LabelledRow& row, const std::string& where, int64_t most_tokens) const {
  TuningDocument document{.values = encoding_.labels->values(row, where)};
  try {
    text::EncodedText text =
        tokenizer_.encode(row.text, row.pair ? std::optional<std::string_view>(*row.pair) : std::nullopt, most_tokens);
    document.tokens = std::move(text.ids);
    document.kinds = std::move(text.kinds);
    document.whole = text.whole;
  } catch (const UserError& error) {
    throw UserError(fmt::format("{}: {}", where, error.what()));
  }
  check(!document.tokens.empty(), "{}: its text has no tokens", where);
  document.learned.assign(document.tokens.size(), 0);
  return document;
}

// A text of which a head makes one number: nothing of its tokens is learned.
TuningDocument TuningEncoder::scored(TuningDocument document, float number, int64_t most_tokens) const {
  document.whole = int64_t(document.tokens.size());
  document.tokens.resize(size_t(std::min(document.whole, most_tokens)));
  document.learned.assign(document.tokens.size(), 0);
  document.kinds.assign(document.tokens.size(), 0);
  document.values = {number};
  document.joined = false;
  return document;
}

std::vector<TuningDocument> TuningEncoder::encode_line(std::string_view line, const std::string& where,
                                                       int64_t most_tokens) const {
  if (encoding_.pairs) {
    const PreferenceRow row = parse_preference_row(line, where);
    if (row.same) return {};
    std::vector<TuningDocument> pair = {encode(row.chosen, where + ": chosen"),
                                        encode(row.rejected, where + ": rejected")};
    if (!encoding_.labels) return pair;
    return {scored(std::move(pair[0]), row.margin, most_tokens), scored(std::move(pair[1]), 0, most_tokens)};
  }
  if (encoding_.labels) return {encode(parse_labelled_row(line, where), where, most_tokens)};
  return {encode(parse_tuning_row(line, where), where)};
}

TuningDocument TuningEncoder::encode_text(const std::string& prompt, const std::string& rest, bool all) const {
  TuningDocument document{.tokens = tokenizer_.encode(prompt + rest, {.special_tokens = true})};
  std::vector<int32_t>& tokens = document.tokens;
  if (!encoding_.end_tokens.empty() && (tokens.empty() || !is_end(tokens.back())))
    tokens.push_back(encoding_.end_tokens.front());
  size_t first = 0;
  if (!all && !prompt.empty()) {
    const std::vector<int32_t> asked = tokenizer_.encode(prompt, {.special_tokens = true});
    first = common(asked, tokens);
    // What a tokenizer puts behind every text is no part of the prompt.
    const std::vector<int32_t> plain = tokenizer_.encode(prompt, {.special_tokens = false});
    document.joined = first < plain.size();
  }
  document.learned.assign(tokens.size(), 0);
  std::fill(document.learned.begin() + std::ptrdiff_t(first), document.learned.end(), 1);
  return document;
}

TuningDocument TuningEncoder::encode_conversation(const TuningRow& row, const std::string& where) const {
  check(encoding_.chat.has_value(),
        "{}: a conversation needs a chat template, and the model has none: give one with --chat_template", where);
  const auto render = [&](const ordered_json& variables) {
    try {
      return encoding_.chat->render(variables);
    } catch (const UserError& error) {
      throw UserError(fmt::format("{}: {}", where, error.what()));
    }
  };
  const ordered_json& messages = (*row.variables)["messages"];
  const std::string text = render(*row.variables);
  TuningDocument document{.tokens = tokenizer_.encode(text, {.special_tokens = false})};
  const std::vector<int32_t>& tokens = document.tokens;
  document.learned.assign(tokens.size(), encoding_.assistant_only ? 0 : 1);
  ordered_json before = *row.variables;
  before["messages"] = ordered_json::array();
  before["add_generation_prompt"] = true;
  size_t passed = 0;  // what stands before it is of earlier turns
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i]["role"] == "assistant" && i >= row.learned_from) {
      const std::string place = fmt::format("{}: messages[{}]", where, i);
      // Where the answer begins when the model is asked.
      const size_t start = common(render(before), text);
      const std::string content = content_of(messages[i]);
      const size_t said = content.empty() ? start : text.find(content, start);
      check(
          start >= passed && said != text.npos,
          "{}: the chat template writes this turn in another way, or in another place, than it asks for it: an answer "
          "cannot be told from what it answers",
          place);
      passed = said + content.size();
      check(content.empty() || ends_behind(text, passed),
            "{}: the chat template does not end an assistant's turn with a token that ends an answer ({}), so a model "
            "that learns it never stops. Give the token that ends a turn with --eos_token, or another template with "
            "--chat_template",
            place, end_names());
      const std::vector<int32_t> head = tokenizer_.encode(text.substr(0, start), {.special_tokens = false});
      const auto first = tokens.begin() + std::ptrdiff_t(common(head, tokens));
      const auto end = std::find_if(first, tokens.end(), [&](int32_t token) { return is_end(token); });
      check(end != tokens.end(), "{}: no token ends this turn ({}): the model would never stop", place, end_names());
      std::fill(document.learned.begin() + (first - tokens.begin()),
                document.learned.begin() + (end - tokens.begin()) + 1, 1);
    }
    before["messages"].push_back(messages[i]);
  }
  return document;
}

}  // namespace surtsey::experiments::tasks
