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

// $A is the text; any other piece names one of special_tokens.
PostProcessor read_template(const Fields& fields) {
  const std::vector<Fields> pieces = fields.list("single");
  if (pieces.size() > kMostPieces) fields.refuse(fmt::format("{} pieces are too many", pieces.size()));
  Ids before, after;
  bool text_seen = false;
  for (const Fields& piece : pieces) {
    if (piece.has("Sequence")) {
      if (piece.at("Sequence").text("id") != "A" || text_seen) piece.refuse("a single text is $A, once");
      text_seen = true;
      continue;
    }
    const std::string name = piece.at("SpecialToken").text("id");
    const Fields specials = fields.at("special_tokens");
    if (!specials.has(name.c_str())) piece.refuse(fmt::format("special_tokens has no '{}'", name));
    for (const Fields& id : specials.at(name.c_str()).list("ids")) {
      (text_seen ? after : before).push_back(id_from(id.value(), id.path()));
    }
  }
  if (!text_seen) fields.refuse("the template for a single text lacks $A");
  return surround(std::move(before), std::move(after));
}

PostProcessor post_processor_sequence(const Fields& fields) {
  std::vector<PostProcessor> steps;
  for (const Fields& step : fields.list("processors")) steps.push_back(read_post_processor(step));
  return [steps](Ids& ids) {
    for (const PostProcessor& step : steps) step(ids);
  };
}

}  // namespace

PostProcessor surround(Ids before, Ids after) {
  return [before = std::move(before), after = std::move(after)](Ids& ids) {
    ids.insert(ids.begin(), before.begin(), before.end());
    ids.insert(ids.end(), after.begin(), after.end());
  };
}

PostProcessor read_post_processor(const Fields& fields) {
  const std::string kind = fields.kind();
  if (kind == "TemplateProcessing") return read_template(fields);
  if (kind == "BertProcessing" || kind == "RobertaProcessing") {
    return surround({pair_id(fields, "cls")}, {pair_id(fields, "sep")});
  }
  if (kind == "ByteLevel") return [](Ids&) {};  // it moves offsets alone
  if (kind == "Sequence") return post_processor_sequence(fields);
  fields.refuse(fmt::format("the post-processor '{}' is not supported", kind));
}

}  // namespace surtsey::experiments::text
