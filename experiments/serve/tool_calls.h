// Calls of functions in what a model wrote: <tool_call>{"name": .., "arguments": {..}}</tool_call> as Hermes and Qwen
// write them, or an answer that is such an object (or a list of them) as a whole.
#pragma once

#include <string>
#include <vector>

namespace surtsey::experiments::serve {

struct ToolCall {
  std::string id;  // 9 letters and digits, as the strictest templates want them
  std::string name;
  std::string arguments;  // JSON
};

struct ToolAnswer {
  std::string content;  // what is no call
  std::vector<ToolCall> calls;
};

// What names no function of `tools`, or is no JSON, stays text.
ToolAnswer parse_tool_calls(const std::string& text, const std::vector<std::string>& tools);

// A text as it comes, of which a reader sees what cannot become a call any more.
class ToolStream {
 public:
  explicit ToolStream(std::vector<std::string> tools) : tools_(std::move(tools)) {}

  std::string push(const std::string& piece);
  // What was held back.
  ToolAnswer finish() const { return parse_tool_calls(held_, tools_); }

 private:
  std::vector<std::string> tools_;
  std::string held_;
  bool shown_ = false;    // something that is no blank
  bool holding_ = false;  // a call began
};

}  // namespace surtsey::experiments::serve
