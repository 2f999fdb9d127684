#include "experiments/text/shown_text.h"

#include <algorithm>

namespace surtsey::experiments::text {

ShownText::ShownText(const Tokenizer& tokenizer, std::vector<std::string> stops, std::span<const int32_t> before)
    : stream_(tokenizer, {.skip_special_tokens = true}), stops_(std::move(stops)) {
  std::erase(stops_, "");
  for (const int32_t token : before) stream_.push(token);
}

std::string ShownText::push(int32_t token) { return stopped_ ? "" : show(stream_.push(token), false); }

std::string ShownText::finish() { return stopped_ ? "" : show(stream_.finish(), true); }

std::string ShownText::show(const std::string& piece, bool all) {
  held_ += piece;
  size_t end = std::string::npos;
  for (const std::string& stop : stops_) end = std::min(end, held_.find(stop));
  stopped_ = end != std::string::npos;
  if (!stopped_) {
    // The end of what is there may be the beginning of a stop string.
    size_t keep = 0;
    for (const std::string& stop : stops_) {
      for (size_t length = std::min(stop.size() - 1, held_.size()); length > keep && !all; --length) {
        if (held_.compare(held_.size() - length, length, stop, 0, length) == 0) keep = length;
      }
    }
    end = held_.size() - keep;
  }
  const std::string shown = held_.substr(0, end);
  held_.erase(0, stopped_ ? std::string::npos : end);
  text_ += shown;
  return shown;
}

}  // namespace surtsey::experiments::text
