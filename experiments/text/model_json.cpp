#include "experiments/text/model_json.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>

#include "graph/error.h"

namespace surtsey::experiments::text {
namespace {

using nlohmann::json;

constexpr size_t kMostNested = 64;

// Called by the parser. Outside of model.vocab and model.merges it builds the tree as the parser itself would.
class Reader {
 public:
  Reader(ModelJson& result, const std::string& path) : result_(result), path_(path) { *result.rest = json(); }

  // NOLINTBEGIN(readability-identifier-naming): the parser's names
  using number_integer_t = json::number_integer_t;
  using number_unsigned_t = json::number_unsigned_t;
  using number_float_t = json::number_float_t;
  using string_t = json::string_t;
  using binary_t = json::binary_t;

  bool null() { return value(json()); }
  bool boolean(bool given) { return value(json(given)); }
  bool number_integer(number_integer_t given) { return number(double(given), json(given)); }
  bool number_unsigned(number_unsigned_t given) {
    if (part_ == Part::vocab_object) {
      check(given <= INT32_MAX, "{}: model.vocab: the id {} of '{}' is too large", path_, given, token_);
      result_.vocab.emplace_back(std::move(token_), int64_t(given));
      return true;
    }
    return number(double(given), json(given));
  }
  bool number_float(number_float_t given, const string_t&) { return number(given, json(given)); }
  bool string(string_t& given) {
    if (part_ == Part::vocab_list && depth_ == 4 && places_ == 0) {
      token_ = std::move(given);
      ++places_;
      return true;
    }
    if (part_ == Part::merges && depth_ == 3) return merge_line(given);
    if (part_ == Part::merges && depth_ == 4 && places_ < 2) {
      (places_++ == 0 ? result_.merges.back().first : result_.merges.back().second) = std::move(given);
      return true;
    }
    return value(json(std::move(given)));
  }
  bool binary(binary_t&) { return false; }

  bool start_object(size_t) {
    enter();
    if (part_ == Part::none && depth_ == 3 && at_model("vocab")) {
      part_ = Part::vocab_object;
      begin(result_.has_vocab, "vocab");
      return true;
    }
    return open(json::object());
  }
  bool key(string_t& given) {
    if (part_ == Part::vocab_object) {
      token_ = std::move(given);
      return true;
    }
    keys_.back() = given;
    json& object = *tree_.back();
    check(!object.contains(given), "{}: '{}' stands twice in an object", path_, given);
    slot_ = &object[given];
    return true;
  }
  bool end_object() { return leave(); }
  bool start_array(size_t) {
    enter();
    if (part_ == Part::none && depth_ == 3 && at_model("vocab")) {
      part_ = Part::vocab_list;
      result_.vocab_is_list = true;
      begin(result_.has_vocab, "vocab");
      return true;
    }
    if (part_ == Part::none && depth_ == 3 && at_model("merges")) {
      part_ = Part::merges;
      begin(result_.has_merges, "merges");
      return true;
    }
    if ((part_ == Part::vocab_list || part_ == Part::merges) && depth_ == 4) {
      places_ = 0;
      if (part_ == Part::merges) result_.merges.emplace_back();
      return true;
    }
    return open(json::array());
  }
  bool end_array() {
    if (part_ == Part::vocab_list && depth_ == 4 && places_ != 2) misfit();
    if (part_ == Part::merges && depth_ == 4 && places_ != 2) misfit();
    return leave();
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) {
    throw UserError(fmt::format("{}: byte {} is not JSON", path_, position));
  }
  // NOLINTEND

 private:
  enum class Part { none, vocab_object, vocab_list, merges };

  // The depth counts the containers that are open: 2 inside of model, 3 inside of its vocab, 4 inside of a pair.
  void enter() {
    ++depth_;
    check(depth_ <= kMostNested, "{}: nested deeper than {} levels", path_, kMostNested);
    if (part_ == Part::vocab_object) misfit();
    if (part_ != Part::none && depth_ > 4) misfit();
  }
  bool leave() {
    --depth_;
    if (part_ == Part::none) {
      tree_.pop_back();
      keys_.pop_back();
    } else if (depth_ == 2) {
      part_ = Part::none;
    }
    return true;
  }
  bool at_model(const char* key) const { return keys_.size() == 2 && keys_[0] == "model" && keys_[1] == key; }
  void begin(bool& seen, const char* what) {
    check(!seen, "{}: model.{} stands twice", path_, what);
    seen = true;
    tree_.back()->erase(what);
  }
  bool open(json container) {
    json* place = put(std::move(container));
    tree_.push_back(place);
    keys_.emplace_back();
    return true;
  }
  json* put(json given) {
    if (tree_.empty()) {
      *result_.rest = std::move(given);
      return &*result_.rest;
    }
    if (tree_.back()->is_array()) {
      tree_.back()->push_back(std::move(given));
      return &tree_.back()->back();
    }
    *slot_ = std::move(given);
    return slot_;
  }
  bool value(json given) {
    if (part_ != Part::none) misfit();
    put(std::move(given));
    return true;
  }
  bool number(double given, json whole) {
    if (part_ == Part::vocab_list && depth_ == 4 && places_ == 1) {
      check(std::isfinite(given), "{}: model.vocab: the score of '{}' is no number", path_, token_);
      result_.vocab.emplace_back(std::move(token_), int64_t(result_.vocab.size()));
      result_.scores.push_back(given);
      ++places_;
      return true;
    }
    return value(std::move(whole));
  }
  bool merge_line(const std::string& line) {
    if (line.starts_with("#version")) return true;
    const size_t blank = line.find(' ');
    check(blank != line.npos && line.find(' ', blank + 1) == line.npos,
          "{}: model.merges[{}]: '{}' is not two tokens with a blank between", path_, result_.merges.size(), line);
    result_.merges.emplace_back(line.substr(0, blank), line.substr(blank + 1));
    return true;
  }
  [[noreturn]] void misfit() const {
    if (part_ == Part::merges) {
      throw UserError(
          fmt::format("{}: model.merges[{}]: \"a b\" or [\"a\", \"b\"] belongs here", path_, result_.merges.size()));
    }
    throw UserError(fmt::format("{}: model.vocab, entry {}: {} belongs here", path_, result_.vocab.size(),
                                part_ == Part::vocab_list ? "[token, score]" : "\"token\": id"));
  }

  ModelJson& result_;
  const std::string& path_;
  std::vector<json*> tree_;        // containers that are open; a parent grows only after its children are closed
  std::vector<std::string> keys_;  // the last key of each
  json* slot_ = nullptr;           // where the value of the last key goes
  size_t depth_ = 0;
  Part part_ = Part::none;
  std::string token_;
  int places_ = 0;  // seen of a pair
};

}  // namespace

ModelJson read_model_json(std::string_view text, const std::string& path) {
  ModelJson result;
  Reader reader(result, path);
  json::sax_parse(text.begin(), text.end(), &reader);
  if (!result.vocab_is_list) {
    std::vector<std::string_view> tokens;
    for (const auto& [token, id] : result.vocab) tokens.push_back(token);
    std::sort(tokens.begin(), tokens.end());
    const auto twice = std::adjacent_find(tokens.begin(), tokens.end());
    check(twice == tokens.end(), "{}: model.vocab names '{}' twice", path, twice == tokens.end() ? "" : *twice);
  }
  return result;
}

}  // namespace surtsey::experiments::text
