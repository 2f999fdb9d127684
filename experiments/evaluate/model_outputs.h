// What a model that others trained puts out for one batch: the way to hold an import against its source.
#pragma once

#include "engine/device.h"
#include "experiments/models/hub/source.h"
#include "graph/host_tensor.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace surtsey::experiments {

// B rows of equal length, named as transformers names them. What is empty is not given.
struct ModelInputs {
  std::vector<std::vector<int32_t>> input_ids;          // [B][T]; of an encoder-decoder the source
  std::vector<std::vector<int32_t>> token_type_ids;     // [B][T], of a model with token types; 0 when empty
  std::vector<std::vector<int32_t>> attention_mask;     // [B][T]: 0 is padding; a decoder's positions pass over it
  std::vector<std::vector<int32_t>> decoder_input_ids;  // [B][T'], of an encoder-decoder
};

// f32 tensors: logits [B, T, V] (of a classification [B, labels]); of a model without a head last_hidden_state
// [B, T, C] and pooler_output [B, C]; encoder_last_hidden_state [B, T, C] beside an encoder-decoder's logits. Dropout
// is off. `adapter`: a folder of PEFT's (adapt/adaptation.h), empty: none. UserError: rows of different lengths, a
// token outside the vocabulary, an input that the model does not take.
std::map<std::string, graph::HostTensor> model_outputs(engine::Device& device, const hub::Source& source,
                                                       const ModelInputs& inputs, const std::string& adapter = "");

}  // namespace surtsey::experiments
