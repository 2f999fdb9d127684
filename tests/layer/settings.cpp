#include "tests/layer/settings.h"

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <sstream>

namespace surtsey::layer {

bool parse_settings(const std::string& text, Settings& settings) {
  static const std::set<std::string> kLimits = {"minimum", "mobile", "discrete"};
  const struct {
    const char* name;
    uint64_t* value;
  } numbers[] = {{"max_allocation", &settings.max_allocation}, {"vulkan12", &settings.vulkan12},
                 {"no_timestamps", &settings.no_timestamps},   {"fail_allocation", &settings.fail_allocation},
                 {"fail_pipeline", &settings.fail_pipeline},   {"fail_map", &settings.fail_map},
                 {"lose_submit", &settings.lose_submit},       {"lose_wait", &settings.lose_wait},
                 {"hang_submit", &settings.hang_submit},       {"pipeline_cache", &settings.pipeline_cache},
                 {"die_of_int64", &settings.die_of_int64},     {"die_of_pipelines", &settings.die_of_pipelines},
                 {"grow_cache", &settings.grow_cache},         {"wait_idle", &settings.wait_idle}};
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, ',');) {
    const size_t equals = word.find('=');
    const std::string key = word.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
    bool good = false;
    if (key == "limits") {
      settings.limits = value;
      good = kLimits.contains(value);
    } else if (key == "report") {
      settings.report = value;
      good = !value.empty();
    }
    for (const auto& number : numbers) {
      if (key != number.name) continue;
      const char* end = value.data() + value.size();
      const auto parsed = std::from_chars(value.data(), end, *number.value);
      good = parsed.ec == std::errc() && parsed.ptr == end;
    }
    if (!good) {
      std::fprintf(stderr, "test layer: SURTSEY_LAYER: '%s' is not understood\n", word.c_str());
      return false;
    }
  }
  return true;
}

bool read_settings(Settings& settings) {
  const char* text = std::getenv("SURTSEY_LAYER");
  return parse_settings(text ? text : "", settings);
}

}  // namespace surtsey::layer
