// What crosses between the two processes of an offline device, as JSON; and what a driver wrote to stderr.
#pragma once

#include "engine/device.h"
#include "engine/driver_statistics.h"
#include "shaders/shader.h"

#include <nlohmann/json.hpp>

#include <cstdio>
#include <span>
#include <string>
#include <vector>

namespace surtsey::engine {

nlohmann::json to_text(const DeviceInfo& info);
DeviceInfo info_from_text(const nlohmann::json& text);
nlohmann::json to_text(std::span<const shaders::Shader> shaders);
std::vector<shaders::Shader> shaders_from_text(const nlohmann::json& text);
nlohmann::json to_text(const DriverStatistics& statistics);
DriverStatistics statistics_from_text(const nlohmann::json& text);

// The whole of an open file, from its beginning.
std::string file_content(std::FILE* file);
// "it said: LINE; LINE", the last ones; "it said nothing".
std::string last_lines(const std::string& text, size_t count);

}  // namespace surtsey::engine
