// A model in a file's form with what an adaptation has learned put into its weights.
#pragma once

#include "experiments/adapt/adaptation.h"
#include "experiments/models/hub/source.h"

#include <string>

namespace surtsey::experiments::commands {

// From now on `source` reads as merged: what `trained` (tensors by parameter, as ParameterStore::unpack() has them)
// makes of each parameter of the base. The numbers are computed when they are asked for. UserError: a method that is
// not merged; a bias that the model's form has no place for. All arguments must outlive the source but `trained`.
void adapt_source(hub::Source& source, const Adaptation& adaptation, const Model& model, const graph::State& trained);

// A hash of all tensors: their names, shapes, types and bytes.
std::string base_fingerprint(const hub::Source& source);

}  // namespace surtsey::experiments::commands
