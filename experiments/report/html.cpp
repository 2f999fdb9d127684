#include "experiments/report/html.h"

#include <fmt/format.h>

#include <cctype>

#include "experiments/base/utf8.h"

namespace surtsey::experiments {

std::string escape_html(std::string_view text) {
  std::string html;
  for (const char letter : bytes_to_utf8(text)) {
    switch (letter) {
      case '&':
        html += "&amp;";
        break;
      case '<':
        html += "&lt;";
        break;
      case '>':
        html += "&gt;";
        break;
      case '"':
        html += "&quot;";
        break;
      case '\'':
        html += "&#39;";
        break;
      default:
        html += letter;
    }
  }
  return html;
}

std::string link_to(const std::filesystem::path& path) {
  std::string link = path.is_absolute() ? "" : "./";
  for (const char letter : path.string()) {
    const auto byte = static_cast<unsigned char>(letter);
    const bool plain =
        byte < 0x80 && (std::isalnum(byte) || std::string_view("-._~/").find(letter) != std::string::npos);
    link += plain ? std::string(1, letter) : fmt::format("%{:02X}", byte);
  }
  return link;
}

}  // namespace surtsey::experiments
