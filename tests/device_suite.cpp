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

std::vector<Variant> variants(const engine::Device& device) {
  const Target base = device.target();
  std::vector<Variant> list{{"default", base}};
  const auto add = [&](std::string name, const auto& change) {
    Target target = base;
    change(target);
    list.push_back({std::move(name), target});
  };
  if (base.matmul_variant() != MatmulVariant::shared_tile) add("shared_tile", [](Target& t) { t.matmul = MatmulVariant::shared_tile; });
  if (base.matmul_variant() != MatmulVariant::lane_broadcast && base.subgroup_ballot && base.subgroup_size >= 4)
    add("lane_broadcast", [](Target& t) { t.matmul = MatmulVariant::lane_broadcast; });
  add(base.reduce_variant() == ReduceVariant::lane_per_row ? "workgroup_per_row" : "lane_per_row", [&](Target& t) {
    t.reduce = base.reduce_variant() == ReduceVariant::lane_per_row ? ReduceVariant::workgroup_per_row : ReduceVariant::lane_per_row;
  });
  add("unfused", [](Target& t) { t.fusion = false; });
  if (base.buffer_address)
    add(base.addressing == Addressing::address ? "descriptor" : "address",
        [&](Target& t) { t.addressing = base.addressing == Addressing::address ? Addressing::descriptor : Addressing::address; });
  return list;
}

std::string compare(const HostTensor& device, const HostTensor& reference, Tolerance tolerance) {
  if (device.type != reference.type) return fmt::format("type {} instead of {}", to_string(device.type), to_string(reference.type));
  // The device can only hold what the type can: an exact result is the rounded one.
  HostTensor rounded = reference;
  rounded.round_to_storage();
  for (size_t i = 0; i < reference.values.size(); ++i) {
    const double d = device.values[i], r = rounded.values[i];
    if (d == r) continue;
    if (std::isnan(r) && std::isnan(d)) continue;
    if (std::abs(d - r) <= tolerance.absolute + tolerance.relative * std::abs(r)) continue;
    return fmt::format("element {} of {}: {:.9g} instead of {:.9g} (difference {:.3g}, allowed {:.3g})", i, to_string(reference.type), d, r, d - r,
                       tolerance.absolute + tolerance.relative * std::abs(r));
  }
  return {};
}

std::map<std::string, HostTensor> run_on_device(engine::Device& device, const Target& target, const Program& program, const State& state,
                                                uint32_t steps) {
  engine::SessionOptions options;
  options.target = target;
  options.quiet = true;
  options.poison = true;
  engine::Session session(device, options);
  session.add_program("test", program);
  session.allocate();
  for (const auto& [name, value] : state)
    if (session.has_state(name)) session.write(name, value);
  session.run("test", steps);
  for (const std::string& place : session.overruns()) throw InternalError("the device wrote " + place);
  for (const std::string& message : device.validation_messages()) throw InternalError("validation: " + message);
  std::map<std::string, HostTensor> results;
  for (const auto& [name, value] : program.outputs) results[name] = session.read_output("test", name);
  for (const Assignment& assignment : program.graph->assignments())
    for (const auto& [name, value] : program.graph->parameters())
      if (value == assignment.parameter) results["state " + name] = session.read(name);
  return results;
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
