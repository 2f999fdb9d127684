// The values of chat templates: Python's, as far as Jinja shows them.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace surtsey::experiments::text::templates {

class Value;
class Evaluator;
struct List;
struct Dict;
struct Callable;
struct Loop;

// What a name or an attribute stands for that there is not. Printing it gives nothing, most else is an error.
struct Undefined {
  std::shared_ptr<const std::string> what;  // for the message: "'functions' is undefined"
};
struct None {};

// Copies share what they hold, as Python's names do.
class Value {
 public:
  using Content =
      std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const std::string>, std::shared_ptr<List>,
                   std::shared_ptr<Dict>, std::shared_ptr<Callable>, std::shared_ptr<Loop>>;

  Value() = default;
  Value(None) : content_(None{}) {}                                                              // NOLINT
  Value(bool value) : content_(value) {}                                                         // NOLINT
  Value(int64_t value) : content_(value) {}                                                      // NOLINT
  Value(double value) : content_(value) {}                                                       // NOLINT
  Value(std::string value) : content_(std::make_shared<const std::string>(std::move(value))) {}  // NOLINT
  Value(const char* value) : Value(std::string(value)) {}                                        // NOLINT
  Value(std::shared_ptr<List> value) : content_(std::move(value)) {}                             // NOLINT
  Value(std::shared_ptr<Dict> value) : content_(std::move(value)) {}                             // NOLINT
  Value(std::shared_ptr<Callable> value) : content_(std::move(value)) {}                         // NOLINT
  Value(std::shared_ptr<Loop> value) : content_(std::move(value)) {}                             // NOLINT
  static Value undefined(std::string what);
  static Value list(std::vector<Value> items, bool tuple = false);

  template <typename T>
  const T* get() const {
    return std::get_if<T>(&content_);
  }
  bool is_undefined() const { return get<Undefined>() != nullptr; }
  bool is_none() const { return get<None>() != nullptr; }
  bool is_boolean() const { return get<bool>() != nullptr; }
  bool is_integer() const { return get<int64_t>() != nullptr; }
  bool is_float() const { return get<double>() != nullptr; }
  bool is_number() const { return is_boolean() || is_integer() || is_float(); }
  bool is_string() const { return get<std::shared_ptr<const std::string>>() != nullptr; }
  const std::string& string() const { return **get<std::shared_ptr<const std::string>>(); }
  List* as_list() const;  // nullptr where it is none; a tuple is one
  Dict* as_dict() const;  // nullptr where it is none; a namespace is one
  Callable* as_callable() const;
  Loop* as_loop() const;
  double number() const;    // of a number
  int64_t integer() const;  // of a boolean or an integer

 private:
  Content content_;
};

// What rendering may still cost; a template in a loop ends here, as does one that doubles a text again and again.
struct Work {
  int64_t steps = 0;
  int64_t bytes = 0;  // of texts and containers, all that were ever made

  void spend(size_t count);     // steps
  void allocate(size_t count);  // bytes
};

// Containers know how deep they are nested: what is deeper than kDepthLimit is not made, as everything that goes
// through them calls itself.
inline constexpr int kDepthLimit = 100;

struct List {
  std::vector<Value> items;
  bool tuple = false;
  int depth = 1;
};

// In the order of insertion. Keys are strings, numbers, booleans or none.
struct Dict {
  std::vector<std::pair<Value, Value>> entries;
  bool is_namespace = false;  // namespace(): attributes only
  int depth = 1;

  const Value* find(const Value& key) const;
  const Value* find_name(const std::string& key) const;
  void set(Value key, Value value);
  bool erase(const Value& key);
  void clear();

 private:
  size_t place(const Value& key) const;             // entries.size() where there is none
  std::unordered_map<std::string, size_t> places_;  // of string keys
};

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

struct Callable {
  std::string name;
  std::function<Value(Evaluator&, Arguments&)> call;
};

// `loop` inside of a for.
struct Loop {
  const std::vector<Value>* items = nullptr;  // null after the loop
  size_t index = 0;
  int64_t depth = 0;
  Value last_changed;
  bool any_changed = false;
  std::function<Value(const Value& items)> again;  // of a recursive loop
};

// UserError: a number that does not fit.
Value from_json(const nlohmann::ordered_json& json);

// Python's rules. UserErrors say what does not go together; deeper than kDepthLimit is one.
int depth_of(const Value& value);
bool truth(const Value& value);
bool equal(const Value& a, const Value& b, Work& work);
int compare(const Value& a, const Value& b, Work& work);  // below, at or above 0; UserError where there is no order
bool contains(const Value& container, const Value& item, Work& work);
std::string type_name(const Value& value);            // "a string", for messages
std::string text_of(const Value& value, Work& work);  // str()
std::string repr(const Value& value, Work& work);     // repr()
std::string float_text(double value);                 // repr() of a float

// json.dumps(). With an indent of -1 all is on one line.
struct JsonStyle {
  int64_t indent = -1;
  bool sort_keys = false;
  bool ascii = false;
  std::string item_separator = ", ", key_separator = ": ";
};
std::string to_json(const Value& value, const JsonStyle& style, Work& work);

}  // namespace surtsey::experiments::text::templates
