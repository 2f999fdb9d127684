// Reads an object of tokenizer.json strictly: a field has the type that is asked for, or the error names its path.
#pragma once

#include <nlohmann/json_fwd.hpp>

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

}  // namespace surtsey::experiments::text
