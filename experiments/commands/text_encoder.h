// A model that a user names, as what makes vectors of texts.
#pragma once

#include "experiments/retrieve/encoder.h"

#include <string>

namespace surtsey::experiments::commands {

// `model` as open_source() takes it; its path is kept absolute. The device is opened when vectors are first asked for,
// and again after a DeviceError. UserError: it has no tokenizer, or is an encoder-decoder.
TextEncoder open_encoder(const std::string& model, const std::string& device);

}  // namespace surtsey::experiments::commands
