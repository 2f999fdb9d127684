// Text and links in a page.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace surtsey::experiments {

// Text between tags or in an attribute, whatever bytes it has.
std::string escape_html(std::string_view text);

// The value of href for a path from the page's own folder on: percent-encoded, and begun with "./", so that no name is
// taken for a scheme ("javascript:"), a query or a fragment.
std::string link_to(const std::filesystem::path& path);

}  // namespace surtsey::experiments
