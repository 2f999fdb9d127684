#include "experiments/base/json.h"

#include <nlohmann/json.hpp>

#include <utility>

namespace surtsey::experiments {

HeldJson::HeldJson() : HeldJson(nlohmann::json::object()) {}
HeldJson::HeldJson(const nlohmann::json& value) : value_(std::make_unique<nlohmann::json>(value)) {}
HeldJson::HeldJson(const HeldJson& other) : HeldJson(*other) {}
// What was moved from may be assigned to, destroyed and copied like any other.
HeldJson::HeldJson(HeldJson&& other) noexcept : HeldJson() { std::swap(value_, other.value_); }
HeldJson& HeldJson::operator=(HeldJson other) noexcept {
  std::swap(value_, other.value_);
  return *this;
}
HeldJson::~HeldJson() = default;

}  // namespace surtsey::experiments
