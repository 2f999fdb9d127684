// Post-processors of tokenizer.json: the special tokens around a text.
#pragma once

#include "experiments/text/fields.h"
#include "experiments/text/pipeline.h"

namespace surtsey::experiments::text {

// Of a "post_processor" object, or of each in a Sequence; of a template the part for a single text. UserError for a
// kind that there is not, by name, and for a template that is not whole.
PostProcessor read_post_processor(const Fields& fields);

PostProcessor surround(std::vector<int32_t> before, std::vector<int32_t> after);

}  // namespace surtsey::experiments::text
