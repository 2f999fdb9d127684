// Programs on a device against the double interpreter: what `surtsey selftest` and the tests share.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/session.h"
#include "graph/interpret.h"
#include "graph/op.h"

namespace surtsey::experiments {

// A way to compile everything that this device can run: kernel variants, addressing, fusion.
struct Variant {
  std::string name;
  graph::Target target;
};
// The device's defaults first, then every other legal choice, one at a time.
std::vector<Variant> variants(const engine::Device& device);

struct Tolerance {
  double absolute = 0, relative = 0;
};

// How far the device's values are from the reference, at the worst element.
struct Deviation {
  double share = 0;     // of what is allowed; infinite where nothing is, and for a NaN
  double absolute = 0;  // the largest difference of two numbers
  std::string text;     // of an element that is out of bounds; empty when none is
};
// The device can only hold what the type can: an exact result is the rounded one. NaN is wrong
// wherever the reference is a number.
Deviation deviation(const graph::HostTensor& device, const graph::HostTensor& reference, Tolerance tolerance);

using AlterShaders = std::function<void(std::vector<shaders::Shader>&)>;

// Runs the program `steps` times on the device, in an arena full of NaN and between sentinels,
// reading back outputs and assigned state ("state NAME"). InternalError when it wrote where it must
// not, or validation complains. `alter` changes the shaders before they are compiled (tests).
std::map<std::string, graph::HostTensor> run_on_device(engine::Device& device, const graph::Target& target,
                                                       const graph::Program& program, const graph::State& state,
                                                       uint32_t steps = 1, const AlterShaders& alter = {});

// A program with `alter` applied to its shaders becomes part of a session.
engine::SessionProgram add_program(engine::Session& session, const std::string& name, const graph::Program& program,
                                   const AlterShaders& alter);

// All samples of one row of the op table in one program: each as it stands ("plain"), fused into
// its surroundings, and differentiated.
struct OpCase {
  std::string text;  // reproducible: the row and its operand types
  Tolerance tolerance;
};
struct OpSuite {
  graph::Program program;
  graph::State state;
  std::map<std::string, OpCase> cases;  // by output
};
OpSuite op_suite(const graph::OpDef& row);

}  // namespace surtsey::experiments
