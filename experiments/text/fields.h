// Reads an object of tokenizer.json strictly: a field has the type that is asked for, or the error names its path.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace surtsey::experiments::text {

// A value and where it stands: "tokenizer.json: normalizer.normalizers[1]". The value outlives it. Fields that nobody
// asks for are passed over, as the library does; null is as good as absent.
class Fields {
 public:
  Fields(const nlohmann::json& value, std::string path) : value_(&value), path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  const nlohmann::json& value() const { return *value_; }
  bool has(const char* key) const;
  Fields at(const char* key) const;                 // an object
  std::vector<Fields> list(const char* key) const;  // of anything

  std::string text(const char* key) const;
  std::string text(const char* key, std::string otherwise) const;
  std::optional<std::string> optional_text(const char* key) const;
  bool flag(const char* key) const;
  bool flag(const char* key, bool otherwise) const;
  int64_t integer(const char* key, int64_t least, int64_t most) const;
  char32_t character(const char* key) const;

  std::string kind() const { return text("type"); }
  // UserError: "PATH: message".
  [[noreturn]] void refuse(const std::string& message) const;

 private:
  const nlohmann::json* find(const char* key) const;
  const nlohmann::json& need(const char* key) const;
  std::string path_of(const char* key) const { return path_ + "." + key; }

  const nlohmann::json* value_;
  std::string path_;
};

// What reads the objects of one "type".
template <class T>
struct FieldsReader {
  const char* type;
  T (*read)(const Fields&);
};

// Reads with the row of the object's type. UserError: "PATH: the WHAT 'type' is not supported".
template <class T, size_t rows>
T read_by_type(const Fields& fields, const char* what, const std::array<FieldsReader<T>, rows>& readers) {
  const std::string type = fields.kind();
  for (const FieldsReader<T>& row : readers) {
    if (type == row.type) return row.read(fields);
  }
  fields.refuse(std::string("the ") + what + " '" + type + "' is not supported");
}

}  // namespace surtsey::experiments::text
