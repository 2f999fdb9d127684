#include "experiments/serve/row_text.h"

#include <algorithm>
#include <utility>

namespace surtsey::experiments::serve {

RowText::RowText(const text::Tokenizer& tokenizer, std::span<const int32_t> before, std::vector<std::string> stops)
    : stream_(tokenizer, {.skip_special_tokens = true}), stops_(std::move(stops)) {
  for (const int32_t token : before) stream_.push(token);
}

std::string RowText::push(int32_t token) { return stopped_ ? "" : add(stream_.push(token)); }

std::string RowText::finish() {
  if (stopped_) return "";
  std::string rest = add(stream_.finish());
  if (!stopped_) rest += std::exchange(held_, "");
  return rest;
}

std::string RowText::add(const std::string& piece) {
  held_ += piece;
  size_t first = std::string::npos;
  for (const std::string& stop : stops_) first = std::min(first, held_.find(stop));
  if (first != std::string::npos) {
    stopped_ = true;
    return std::exchange(held_, "").substr(0, first);
  }
  // The end of what is there may be the beginning of a stop string.
  size_t keep = 0;
  for (const std::string& stop : stops_) {
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > keep; --length) {
      if (held_.compare(held_.size() - length, length, stop, 0, length) == 0) keep = length;
    }
  }
  std::string shown = held_.substr(0, held_.size() - keep);
  held_.erase(0, shown.size());
  // A stop string may begin inside a character's bytes only where it is not UTF-8, and requests are.
  return shown;
}

}  // namespace surtsey::experiments::serve
