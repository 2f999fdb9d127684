// What a model is to learn, as people write it down: one JSON object a line, in the columns of TRL and in the two
// spellings that are older.
//
//   {"text": ".."}                                              a text, all of it to be learned
//   {"prompt": "..", "completion": ".."}                        what follows what; both may be lists of messages
//   {"messages": [{"role": "user", "content": ".."}, ..]}       a conversation; {"tools": [..]} beside it
//   {"conversations": [{"from": "human", "value": ".."}, ..]}   the same (ShareGPT)
//   {"instruction": "..", "input": "..", "output": ".."}        a message and its answer (Alpaca), with "system" or not
//
// Rows of one file may differ. Other columns are left alone. Rows for a head of labels: labels.h; what is preferred to
// what: preferences.h.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments::tasks {

struct TuningRow {
  // An instruction is a conversation where there is a chat template, else Alpaca's text around a prompt.
  enum class Kind : uint8_t { text, completion, conversation, instruction };
  Kind kind = Kind::text;
  std::string text;        // of a text: all of it; else the prompt
  std::string completion;  // not empty, where there is one
  // Of a conversation: `messages` and perhaps `tools`, as a chat template takes them.
  std::shared_ptr<const nlohmann::ordered_json> variables = {};
  size_t learned_from = 0;  // an assistant's turns before this message are not to be learned
};

// UserError beginning with `where` ("FILE:LINE"): no JSON object, no columns that are known, one of another type, a
// turn of an assistant or a completion that says nothing, a conversation without a turn of an assistant to learn.
TuningRow parse_tuning_row(std::string_view line, const std::string& where);
TuningRow tuning_row_of(const nlohmann::ordered_json& object, const std::string& where);
// A line's object. UserError: no JSON, or no object.
nlohmann::ordered_json parse_row_object(std::string_view line, const std::string& where);

// The lines of a file, one in memory at a time. Lines of blanks are passed over.
class JsonLines {
 public:
  explicit JsonLines(const std::filesystem::path& path);  // UserError: it cannot be read

  bool next();  // false at the end; UserError: a line longer than 256 MiB
  const std::string& line() const { return line_; }
  int64_t number() const { return number_; }  // of that line, from 1
  std::string where() const;                  // FILE:LINE
  uint64_t hash() const { return hash_; }     // of all lines so far

 private:
  std::filesystem::path path_;
  std::ifstream file_;
  std::string line_;
  int64_t number_ = 0;
  uint64_t hash_ = 0;
};

}  // namespace surtsey::experiments::tasks
