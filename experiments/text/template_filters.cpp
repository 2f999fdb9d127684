#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include <nlohmann/json.hpp>

#include "experiments/text/template_tables.h"
#include "experiments/text/unicode.h"
#include "graph/error.h"

namespace surtsey::experiments::text::templates {
namespace {

using E = Evaluator;
using A = Arguments;

template <std::string (*change)(std::string_view)>
Value changed(E& e, const Value& value, const A& arguments) {
  Parameters("a filter that changes case", arguments).done();
  return e.string(change(e.text(value)));
}

std::string titled_by_blanks(std::string_view text) { return titled(text, true); }

Value trim(E& e, const Value& value, const A& arguments) {
  Parameters parameters("trim", arguments);
  const Value* chars = parameters.next("chars");
  parameters.done();
  const bool given = chars != nullptr && !chars->is_none();
  const std::string set = given ? e.text(*chars) : "";
  return e.string(stripped(e.text(value), given ? &set : nullptr, true, true));
}

Value to_string(E& e, const Value& value, const A& arguments) {
  Parameters("string", arguments).done();
  return value.is_string() ? value : e.string(e.text(value));
}

Value as_it_is(E& e, const Value& value, const A& arguments) { return to_string(e, value, arguments); }

Value escape(E& e, const Value& value, const A& arguments) {
  Parameters("escape", arguments).done();
  std::string result;
  for (const char letter : e.text(value)) {
    result += letter == '&'    ? "&amp;"
              : letter == '<'  ? "&lt;"
              : letter == '>'  ? "&gt;"
              : letter == '"'  ? "&#34;"
              : letter == '\'' ? "&#39;"
                               : std::string(1, letter);
  }
  return e.string(std::move(result));
}

Value replace(E& e, const Value& value, const A& arguments) {
  Parameters parameters("replace", arguments);
  const std::string before = e.text(parameters.required("old")), after = e.text(parameters.required("new"));
  const int64_t count = parameters.integer("count", -1);
  parameters.done();
  return e.string(replaced(e, e.text(value), before, after, count));
}

Value indent(E& e, const Value& value, const A& arguments) {
  Parameters parameters("indent", arguments);
  const Value* width = parameters.next("width");
  const bool first = parameters.flag("first", false), blank = parameters.flag("blank", false);
  parameters.done();
  int64_t blanks = 4;
  std::string margin;
  if (width != nullptr && width->is_string()) {
    margin = width->string();
  } else {
    if (width != nullptr) blanks = to_integer(*width, "the width of indent");
    e.work.allocate(size_t(std::clamp<int64_t>(blanks, 0, int64_t{1} << 40)));
    margin.assign(size_t(std::max<int64_t>(0, blanks)), ' ');
  }
  std::string result;
  const std::vector<std::string> lines = lines_of(e.text(value) + "\n", false);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) result += '\n';
    if (i == 0 ? first : blank || !lines[i].empty()) {
      e.work.allocate(margin.size());
      result += margin;
    }
    result += lines[i];
  }
  return e.string(std::move(result));
}

Value format(E& e, const Value& value, const A& arguments) {
  check(arguments.named.empty() || arguments.positional.empty(), "format takes values or names, not both");
  if (!arguments.named.empty()) {
    const auto dict = std::make_shared<Dict>();
    for (const auto& [name, each] : arguments.named) dict->set(name, each);
    return e.string(percent_formatted(e, e.text(value), dict));
  }
  return e.string(percent_formatted(e, e.text(value), Value::list(arguments.positional, true)));
}

Value truncate(E& e, const Value& value, const A& arguments) {
  Parameters parameters("truncate", arguments);
  const int64_t length = parameters.integer("length", 255);
  const bool kill_words = parameters.flag("killwords", false);
  const std::string end = parameters.text("end", "...");
  const int64_t leeway = parameters.integer("leeway", 5);
  parameters.done();
  const std::u32string text = characters(e.text(value)), mark = characters(end);
  check(length >= int64_t(mark.size()) && leeway >= 0, "truncate to {} characters leaves no room for '{}'", length,
        end);
  if (int64_t(text.size()) <= length || int64_t(text.size()) - length <= leeway) return e.string(to_utf8(text));
  std::u32string cut = text.substr(0, size_t(length) - mark.size());
  if (!kill_words) cut = cut.substr(0, std::min(cut.rfind(U' '), cut.size()));
  return e.string(to_utf8(cut + mark));
}

Value center(E& e, const Value& value, const A& arguments) {
  Parameters parameters("center", arguments);
  const int64_t width = parameters.integer("width", 80);
  parameters.done();
  return e.string(formatted(e, Value(e.text(value)), "^" + std::to_string(std::max<int64_t>(0, width))));
}

Value url_encode(E& e, const Value& value, const A& arguments) {
  Parameters("urlencode", arguments).done();
  std::string result;
  for (const char letter : e.text(value)) {
    const bool plain = (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
                       (letter >= '0' && letter <= '9') || std::string_view("_.-~/").find(letter) != std::string::npos;
    result += plain ? std::string(1, letter) : fmt::format("%{:02X}", static_cast<unsigned char>(letter));
  }
  return e.string(std::move(result));
}

Value word_count(E& e, const Value& value, const A& arguments) {
  Parameters("wordcount", arguments).done();
  int64_t count = 0;
  bool inside = false;
  for (const char32_t point : characters(e.text(value))) {
    const bool word = is_word_character(point);
    count += int64_t(word && !inside);
    inside = word;
  }
  return count;
}

Value absolute(E&, const Value& value, const A& arguments) {
  Parameters("abs", arguments).done();
  check(value.is_number(), "abs takes a number, not {}", type_name(value));
  if (value.is_float()) return std::abs(value.number());
  return value.integer() < 0 ? negative(value, true) : value;
}

// A whole text as a number; nothing for any other.
std::optional<double> number_in(const std::string& text) {
  const std::string plain = stripped(text, nullptr, true, true);
  const bool sign = plain.starts_with('+');
  double number = 0;
  const auto [end, error] = std::from_chars(plain.data() + sign, plain.data() + plain.size(), number);
  if (error != std::errc() || end != plain.data() + plain.size()) return std::nullopt;
  return number;
}

Value to_int(E&, const Value& value, const A& arguments) {
  Parameters parameters("int", arguments);
  const int64_t otherwise = parameters.integer("default", 0), base = parameters.integer("base", 10);
  parameters.done();
  check(base >= 2 && base <= 36, "int takes a base from 2 to 36, not {}", base);
  if (value.is_boolean() || value.is_integer()) return value.integer();
  double number = 0;
  if (value.is_float()) {
    number = value.number();
  } else if (value.is_string()) {
    std::string text = stripped(value.string(), nullptr, true, true);
    if (text.starts_with('+')) text.erase(0, 1);
    int64_t whole = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), whole, int(base));
    if (error == std::errc() && end == text.data() + text.size()) return whole;
    const auto found = number_in(text);
    if (!found) return otherwise;
    number = *found;
  } else {
    return otherwise;
  }
  if (!(std::abs(number) < 9.2e18)) return otherwise;
  return int64_t(number);
}

Value to_float(E&, const Value& value, const A& arguments) {
  Parameters parameters("float", arguments);
  const Value* otherwise = parameters.next("default");
  parameters.done();
  if (value.is_number()) return value.number();
  const auto found = value.is_string() ? number_in(value.string()) : std::nullopt;
  return found ? Value(*found) : otherwise != nullptr ? *otherwise : Value(0.0);
}

Value round(E&, const Value& value, const A& arguments) {
  Parameters parameters("round", arguments);
  const int64_t precision = parameters.integer("precision", 0);
  const std::string method = parameters.text("method", "common");
  parameters.done();
  check(value.is_number(), "round takes a number, not {}", type_name(value));
  check(precision >= -300 && precision <= 300, "round to {} digits", precision);
  check(method == "common" || method == "ceil" || method == "floor", "round knows common, ceil and floor, not '{}'",
        method);
  const double number = value.number();
  if (method == "common") {
    if (precision < 0) {
      const double unit = std::pow(10.0, double(-precision));
      return std::nearbyint(number / unit) * unit;
    }
    // The nearest decimal, as its shortest text says; halves go to the even one.
    double result = 0;
    const std::string text = fmt::format("{:.{}f}", number, precision);
    std::from_chars(text.data(), text.data() + text.size(), result);
    return result;
  }
  const double unit = std::pow(10.0, double(precision));
  return (method == "ceil" ? std::ceil(number * unit) : std::floor(number * unit)) / unit;
}

Value otherwise(E&, const Value& value, const A& arguments) {
  Parameters parameters("default", arguments);
  const Value* other = parameters.next("default_value");
  const bool boolean = parameters.flag("boolean", false);
  parameters.done();
  if (!value.is_undefined() && !(boolean && !truth(value))) return value;
  return other != nullptr ? *other : Value("");
}

// As transformers defines it: no letter is escaped for HTML, none beyond ASCII at all.
Value to_json_text(E& e, const Value& value, const A& arguments) {
  Parameters parameters("tojson", arguments);
  JsonStyle style;
  std::vector<std::pair<std::string, Value>> named = arguments.named;
  style.ascii = false;
  const Value* indent = nullptr;
  if (!arguments.positional.empty()) indent = &arguments.positional[0];
  check(arguments.positional.size() <= 1, "tojson takes indent, and the rest by name");
  for (const auto& [name, given] : named) {
    if (name == "indent") {
      indent = &given;
    } else if (name == "ensure_ascii") {
      style.ascii = truth(given);
    } else if (name == "sort_keys") {
      style.sort_keys = truth(given);
    } else if (name == "separators") {
      if (given.is_none()) continue;
      const std::vector<Value> pair = e.iterate(given);
      check(pair.size() == 2 && pair[0].is_string() && pair[1].is_string(), "separators of tojson are two strings");
      style.item_separator = pair[0].string();
      style.key_separator = pair[1].string();
    } else {
      parameters.fail(fmt::format("'{}' is not one of its arguments", name));
    }
  }
  if (indent != nullptr && !indent->is_none() && !indent->is_undefined()) {
    style.indent = to_integer(*indent, "the indent of tojson");
    const bool given = std::any_of(named.begin(), named.end(), [](const auto& each) {
      return each.first == "separators" && !each.second.is_none();
    });
    if (!given) style.item_separator = ",";
    style.indent = std::clamp<int64_t>(style.indent, 0, 1 << 20);
  }
  return to_json(value, style, e.work);
}

Value from_json_text(E& e, const Value& value, const A& arguments) {
  Parameters("from_json", arguments).done();
  check(value.is_string(), "from_json takes a string, not {}", type_name(value));
  e.work.allocate(value.string().size() * 64);
  const auto json = nlohmann::ordered_json::parse(value.string(), nullptr, false);
  check(!json.is_discarded(), "from_json: the text is no JSON");
  return from_json(json);
}

constexpr std::array<Named<Filter>, 26> kTextFilters = {{
    {"abs", absolute},
    {"capitalize", changed<capitalized>},
    {"center", center},
    {"d", otherwise},
    {"default", otherwise},
    {"e", escape},
    {"escape", escape},
    {"float", to_float},
    {"forceescape", escape},
    {"format", format},
    {"from_json", from_json_text},
    {"fromjson", from_json_text},
    {"indent", indent},
    {"int", to_int},
    {"lower", changed<lower>},
    {"replace", replace},
    {"round", round},
    {"safe", as_it_is},
    {"string", to_string},
    {"title", changed<titled_by_blanks>},
    {"tojson", to_json_text},
    {"trim", trim},
    {"truncate", truncate},
    {"upper", changed<upper>},
    {"urlencode", url_encode},
    {"wordcount", word_count},
}};

}  // namespace

Filter find_text_filter(std::string_view name) { return find_named(kTextFilters, name); }

Filter find_filter(std::string_view name) {
  const Filter found = find_text_filter(name);
  return found != nullptr ? found : find_sequence_filter(name);
}

}  // namespace surtsey::experiments::text::templates
