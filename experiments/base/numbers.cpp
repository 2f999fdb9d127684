#include "experiments/base/numbers.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <utility>

namespace surtsey::experiments {

std::string short_number(double value) {
  const double size = std::abs(value);
  for (const auto& [unit, suffix] : {std::pair{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}}) {
    if (size >= unit * 0.9995) return fmt::format("{:.3g}{}", value / unit, suffix);
  }
  return fmt::format("{:.3g}", value);
}

std::string flop_number(double value) {
  for (const auto& [unit, suffix] :
       {std::pair{1e18, "E"}, {1e15, "P"}, {1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}}) {
    if (value >= unit * 0.9995) return fmt::format("{:.3g} {}FLOP", value / unit, suffix);
  }
  return fmt::format("{:.3g} FLOP", value);
}

std::string share_number(double value) {
  if (!std::isfinite(value)) return "–";
  const std::string text = fmt::format("{:.3f}", value);
  return text.starts_with("0.") ? text.substr(1) : text;
}

std::string loss_number(double value) {
  if (!std::isfinite(value)) return "–";
  if (value != 0 && std::abs(value) < 1e-3) return fmt::format("{:.2g}", value);
  return fmt::format("{:.3g}", value);
}

std::string whole_number(double value) {
  std::string text = fmt::format("{:.0f}", value);
  for (auto at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > (text[0] == '-' ? 1 : 0); at -= 3) {
    text.insert(static_cast<size_t>(at), ",");
  }
  return text;
}

}  // namespace surtsey::experiments
