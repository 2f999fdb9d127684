// A JSON value for headers, and for files that only hand it on. nlohmann/json.hpp costs a file that sees it two seconds
// of compiling (measured with GCC 12, its templates called nowhere), so files that look inside include it themselves.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <memory>

namespace surtsey::experiments {

// A value: copies are deep. `*held` and `held->` are what it holds.
class HeldJson {
 public:
  HeldJson();                             // an empty object
  HeldJson(const nlohmann::json& value);  // NOLINT: a json is a HeldJson
  HeldJson(const HeldJson& other);
  HeldJson(HeldJson&& other) noexcept;
  HeldJson& operator=(HeldJson other) noexcept;
  ~HeldJson();

  nlohmann::json& operator*() { return *value_; }
  const nlohmann::json& operator*() const { return *value_; }
  nlohmann::json* operator->() { return value_.get(); }
  const nlohmann::json* operator->() const { return value_.get(); }

 private:
  std::unique_ptr<nlohmann::json> value_;
};

}  // namespace surtsey::experiments
