// Decoders of tokenizer.json: tokens as text again. What they leave is joined without anything between.
#pragma once

#include "experiments/text/fields.h"
#include "experiments/text/pipeline.h"

namespace surtsey::experiments::text {

// Of a "decoder" object, or of each in a Sequence. UserError for a kind that there is not (CTC is none), by name.
Decoder read_decoder(const Fields& fields);

Decoder byte_level_decoder();
Decoder wordpiece_decoder(std::string prefix, bool cleanup);
// What a sentencepiece model of byte-pair encoding needs: meta spaces, byte tokens, `strip` blanks in front dropped.
Decoder sentencepiece_decoder(int64_t strip);

}  // namespace surtsey::experiments::text
