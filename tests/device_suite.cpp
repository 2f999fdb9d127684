#include "tests/device_suite.h"

#include <catch2/reporters/catch_reporter_event_listener.hpp>
#include <catch2/reporters/catch_reporter_registrars.hpp>

#include <memory>

namespace surtsey::tests {

using namespace graph;

namespace {

std::unique_ptr<engine::Device>& device_slot() {
  static std::unique_ptr<engine::Device> device;
  return device;
}

// Closes the device when the last test has run: at exit the driver may be gone already (SwiftShader crashes then). Not after a
// fatal signal: Catch2 reports that from inside the handler, where the driver's locks may be held and closing would hang.
class CloseDevice : public Catch::EventListenerBase {
 public:
  using Catch::EventListenerBase::EventListenerBase;
  void fatalErrorEncountered(Catch::StringRef) override { static_cast<void>(device_slot().release()); }
  void testRunEnded(const Catch::TestRunStats&) override { device_slot().reset(); }
};

}  // namespace

CATCH_REGISTER_LISTENER(CloseDevice)

engine::Device* suite_device() {
  static bool tried = false;
  if (!tried) {
    tried = true;
    try {
      device_slot() = std::make_unique<engine::Device>(engine::Device::open());
    } catch (const engine::DeviceError& error) {
      fmt::print(stderr, "no device: {}\n", error.what());
    }
  }
  return device_slot().get();
}

std::string compare(const HostTensor& device, const HostTensor& reference, Tolerance tolerance) {
  return experiments::deviation(device, reference, tolerance).text;
}

double relative_error(const HostTensor& a, const HostTensor& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < b.values.size(); ++i) {
    difference += (a.values[i] - b.values[i]) * (a.values[i] - b.values[i]);
    norm += b.values[i] * b.values[i];
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

}  // namespace surtsey::tests
