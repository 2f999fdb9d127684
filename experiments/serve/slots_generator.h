// The models of generate/slots.h and evaluate/text_vectors.h behind what the server asks for; the device is opened
// anew with each generator.
#pragma once

#include "experiments/generate/slots.h"
#include "experiments/models/hub/source.h"
#include "experiments/serve/generator.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace surtsey::experiments::serve {

// `source` outlives it. `device` selects as engine::DeviceOptions::select does.
GeneratorFactory slots_factory(const hub::Source& source, const SlotOptions& options, const std::string& device);

// Mean-pooled last hidden states of texts (evaluate/text_vectors.h), of a model without a head (BERT's encoder); empty
// for others.
std::function<std::vector<std::vector<float>>(const std::vector<std::vector<int32_t>>&)> mean_embeddings(
    const hub::Source& source, const std::string& device);

}  // namespace surtsey::experiments::serve
