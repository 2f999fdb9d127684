// Post-processors of tokenizer.json: the special tokens around a text, or around two and between them.
#pragma once

#include "experiments/text/fields.h"
#include "experiments/text/pipeline.h"

namespace surtsey::experiments::text {

// Of a "post_processor" object, or of each in a Sequence. UserError for a kind that there is not, by name, and for a
// template that is not whole.
PostProcessor read_post_processor(const Fields& fields);

// Around each text alike; all are of kind 0.
PostProcessor surround(std::vector<int32_t> before, std::vector<int32_t> after);
// BERT's: [CLS] text [SEP] of kind 0, and behind it a second text [SEP] of kind 1.
PostProcessor bert_processor(int32_t cls, int32_t sep);

// Two texts behind each other where nothing has joined them: what the library does without a post-processor.
void join_texts(Encoding& encoding);

}  // namespace surtsey::experiments::text
