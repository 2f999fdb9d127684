// Strict, typed configuration: one table of fields from which parsing, help and the echo follow.
//
// Values come from defaults, then a TOML file, then --key=value overrides, in this order. A key
// that is not in the table is a UserError with the nearest known key; a value of the wrong type or
// out of range is a UserError that says where it stands (file:line:column, or the override itself). An override of a
// key that is not there is a CommandLineError.
//
// Every number has limits: those of its field, else kLargestInteger and kLargestNumber. None is infinite or no number.
//
// Strings have any bytes, as names of files do: in TOML those that are not UTF-8 stand as utf8.h says.
//
//   TrainingKeys keys;
//   ConfigTable table;
//   add_training_fields(table, keys);
//   table.load_file("configs/small.toml");
//   table.override_all({"--n_layer=4", "--learning_rate=1e-3"});
//   table.to_toml();                               // the resolved configuration
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace surtsey::experiments {

// What a number may be where its field sets no limits: integers that a double holds exactly, and what f32 holds.
inline constexpr double kLargestInteger = 9007199254740992;
inline constexpr double kLargestNumber = 3.4028234663852886e38;

// One key. The pointer is to the caller's variable, which must outlive the table; its value when it
// is added is the default.
struct ConfigField {
  using Target = std::variant<bool*, int32_t*, int64_t*, uint32_t*, double*, std::string*, std::vector<int32_t>*,
                              std::vector<double>*, std::vector<std::string>*>;

  std::string name;
  Target target;
  std::string help;
  std::optional<double> minimum;  // of a number, or of every number of a list
  std::optional<double> maximum;
  std::vector<std::string> choices;  // of a string, or of every string of a list
  bool was_set = false;              // by a file or an override

  ConfigField& at_least(double bound);
  ConfigField& at_most(double bound);
  ConfigField& one_of(std::vector<std::string> words);
};

class ConfigTable {
 public:
  // Fields are listed in the order of addition. Returns the field for chained limits; the reference
  // lives until the next addition. A name added twice is an InternalError.
  ConfigField& add(std::string name, ConfigField::Target target, std::string help);

  // A TOML file of `key = value` lines; throws UserError also when it cannot be read.
  void load_file(const std::filesystem::path& path);
  // The same from text; source stands for the file name in messages. Keys that `elsewhere` knows are others' to read.
  using Known = std::function<bool(std::string_view key)>;
  void load_text(std::string_view text, std::string_view source, const Known& elsewhere = {});

  // A value as an override writes it, from elsewhere: `where` stands for the place in messages.
  void set(std::string_view name, std::string_view text, std::string_view where);

  // One "--key=value". Lists are "a,b,c", also in brackets; strings are taken as they are.
  void override_one(std::string_view argument);
  void override_all(const std::vector<std::string>& arguments);

  bool was_set(std::string_view name) const;
  const std::vector<ConfigField>& fields() const { return fields_; }

  // Every field as TOML that load_text reads back to the same values.
  std::string to_toml() const;

  // One line a field: name, type, current value, help, limits.
  std::string help() const;

 private:
  ConfigField& find(std::string_view name, std::string_view where);

  std::vector<ConfigField> fields_;
};

// A word for yes or no as people and other tools write it, in any case: true, yes, on, 1; false, no, off, 0.
std::optional<bool> parse_bool(std::string_view word);

// Optimal string alignment distance: insertions, deletions, substitutions, swaps of neighbours.
size_t edit_distance(std::string_view left, std::string_view right);

// The candidate nearest to a word, if it is near enough to be a slip; "" otherwise.
std::string nearest_word(std::string_view word, std::span<const std::string> candidates);

}  // namespace surtsey::experiments
