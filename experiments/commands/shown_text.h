// Tokens as a reader sees them while they come: text, without special tokens, up to a stop string.
#pragma once

#include "experiments/text/tokenizer.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace surtsey::experiments::commands {

class ShownText {
 public:
  // The tokenizer and the stop strings outlive it.
  ShownText(const text::Tokenizer& tokenizer, const std::vector<std::string>& stops)
      : stream_(tokenizer, {.skip_special_tokens = true}), stops_(&stops) {
    for (const std::string& stop : stops) longest_ = std::max(longest_, stop.size());
  }

  // What can be shown now that the token came: nothing that a stop string may begin with.
  std::string push(int32_t token) { return show(stream_.push(token)); }
  // The rest, when no token follows.
  std::string finish() {
    if (stopped_) return "";
    std::string rest = show(stream_.finish());
    if (stopped_) return rest;
    text_ += held_;
    return rest + std::exchange(held_, "");
  }
  bool stopped() const { return stopped_; }          // a stop string came: what follows is not shown
  const std::string& text() const { return text_; }  // all that was shown

 private:
  std::string show(const std::string& piece) {
    if (stopped_) return "";
    held_ += piece;
    size_t end = std::string::npos;
    for (const std::string& stop : *stops_)
      if (!stop.empty()) end = std::min(end, held_.find(stop));
    stopped_ = end != std::string::npos;
    if (!stopped_) end = held_.size() - (longest_ > 0 ? std::min(held_.size(), longest_ - 1) : 0);
    // A character stays whole.
    while (!stopped_ && end > 0 && end < held_.size() && (uint8_t(held_[end]) & 0xC0) == 0x80) --end;
    std::string shown = held_.substr(0, end);
    held_.erase(0, end);
    text_ += shown;
    return shown;
  }

  text::DecodeStream stream_;
  const std::vector<std::string>* stops_;
  size_t longest_ = 0;
  std::string held_, text_;
  bool stopped_ = false;
};

}  // namespace surtsey::experiments::commands
