#include "experiments/text/post_processors.h"

#include <nlohmann/json.hpp>

#include <map>

#include "graph/error.h"

namespace surtsey::experiments::text {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

constexpr size_t kMostPieces = 1024;  // of a template

int32_t id_from(const json& value, const std::string& where) {
  check(value.is_number_unsigned() && value.get<uint64_t>() <= INT32_MAX, "{}: the id of a token belongs here", where);
  return value.get<int32_t>();
}

// ["[CLS]", 101]
int32_t pair_id(const Fields& fields, const char* key) {
  const std::vector<Fields> pair = fields.list(key);
  if (pair.size() != 2) fields.refuse(fmt::format("'{}' has a token and its id", key));
  return id_from(pair[1].value(), pair[1].path());
}

// A piece of a template: special tokens, or one of the texts.
struct TemplatePiece {
  int text = -1;  // 0: $A, 1: $B
  Ids ids = {};   // where it is neither
  uint8_t kind = 0;
};
using TemplatePieces = std::vector<TemplatePiece>;

PostProcessor template_processor(TemplatePieces single, TemplatePieces pair) {
  return [single = std::move(single), pair = std::move(pair)](Encoding& encoding) {
    Encoding made;
    for (const TemplatePiece& piece : encoding.second ? pair : single) {
      const Ids& ids = piece.text < 0 ? piece.ids : piece.text == 0 ? encoding.ids : *encoding.second;
      made.ids.insert(made.ids.end(), ids.begin(), ids.end());
      made.kinds.resize(made.ids.size(), piece.kind);
    }
    encoding = std::move(made);
  };
}

// $A and $B are the texts; any other piece names one of special_tokens.
TemplatePieces read_template_pieces(const Fields& fields, const char* key, int texts) {
  const std::vector<Fields> list = fields.list(key);
  if (list.size() > kMostPieces) fields.refuse(fmt::format("{} pieces are too many", list.size()));
  TemplatePieces pieces;
  std::vector<int> seen(size_t(texts), 0);
  for (const Fields& one : list) {
    const bool sequence = one.has("Sequence");
    const Fields inner = one.at(sequence ? "Sequence" : "SpecialToken");
    TemplatePiece piece;
    if (inner.has("type_id")) piece.kind = uint8_t(inner.integer("type_id", 0, UINT8_MAX));
    const std::string name = inner.text("id");
    if (sequence) {
      const char* names[] = {"A", "B"};
      for (int i = 0; i < texts; ++i)
        if (name == names[i] && seen[size_t(i)]++ == 0) piece.text = i;
      if (piece.text < 0) one.refuse(texts == 1 ? "a single text is $A, once" : "two texts are $A and $B, each once");
    } else {
      const Fields specials = fields.at("special_tokens");
      if (!specials.has(name.c_str())) one.refuse(fmt::format("special_tokens has no '{}'", name));
      for (const Fields& id : specials.at(name.c_str()).list("ids"))
        piece.ids.push_back(id_from(id.value(), id.path()));
    }
    pieces.push_back(std::move(piece));
  }
  for (int i = 0; i < texts; ++i)
    if (seen[size_t(i)] == 0)
      fields.refuse(texts == 1 ? "the template for a single text lacks $A"
                               : fmt::format("the template for two texts lacks {}", i == 0 ? "$A" : "$B"));
  return pieces;
}

PostProcessor read_template(const Fields& fields) {
  // The library's own where a file says nothing of two.
  TemplatePieces pair = {{.text = 0}, {.text = 1, .kind = 1}};
  if (fields.has("pair")) pair = read_template_pieces(fields, "pair", 2);
  return template_processor(read_template_pieces(fields, "single", 1), std::move(pair));
}

PostProcessor post_processor_sequence(const Fields& fields) {
  std::vector<PostProcessor> steps;
  for (const Fields& step : fields.list("processors")) steps.push_back(read_post_processor(step));
  return [steps](Encoding& encoding) {
    for (const PostProcessor& step : steps) step(encoding);
  };
}

}  // namespace

PostProcessor surround(Ids before, Ids after) {
  const TemplatePieces single = {{.ids = before}, {.text = 0}, {.ids = after}};
  TemplatePieces pair = single;
  pair.insert(pair.end(), single.begin(), single.end());
  pair[4].text = 1;
  return template_processor(single, std::move(pair));
}

PostProcessor bert_processor(int32_t cls, int32_t sep) {
  const TemplatePieces single = {{.ids = {cls}}, {.text = 0}, {.ids = {sep}}};
  TemplatePieces pair = single;
  pair.push_back({.text = 1, .kind = 1});
  pair.push_back({.ids = {sep}, .kind = 1});
  return template_processor(single, std::move(pair));
}

void join_texts(Encoding& encoding) {
  encoding.kinds.resize(encoding.ids.size(), 0);
  if (!encoding.second) return;
  encoding.ids.insert(encoding.ids.end(), encoding.second->begin(), encoding.second->end());
  encoding.kinds.resize(encoding.ids.size(), 1);
  encoding.second.reset();
}

PostProcessor read_post_processor(const Fields& fields) {
  const std::string kind = fields.kind();
  if (kind == "TemplateProcessing") return read_template(fields);
  if (kind == "BertProcessing") return bert_processor(pair_id(fields, "cls"), pair_id(fields, "sep"));
  if (kind == "RobertaProcessing") {
    // <s> a text </s></s> another </s>, all of one kind.
    const int32_t cls = pair_id(fields, "cls"), sep = pair_id(fields, "sep");
    return template_processor({{.ids = {cls}}, {.text = 0}, {.ids = {sep}}},
                              {{.ids = {cls}}, {.text = 0}, {.ids = {sep, sep}}, {.text = 1}, {.ids = {sep}}});
  }
  if (kind == "ByteLevel") return [](Encoding&) {};  // it moves offsets alone
  if (kind == "Sequence") return post_processor_sequence(fields);
  fields.refuse(fmt::format("the post-processor '{}' is not supported", kind));
}

}  // namespace surtsey::experiments::text
