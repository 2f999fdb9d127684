// Indexes made and changed. Whatever happens, the index is as it was before or as it is to be: a new one is a new file
// that takes the old one's name when it is whole, a change is one transaction.
#pragma once

#include "experiments/retrieve/encoder.h"
#include "experiments/retrieve/index.h"

#include <filesystem>
#include <string>
#include <vector>

namespace surtsey::experiments {

struct IndexCounts {
  int64_t documents = 0, passages = 0;  // of the index
  int64_t replaced = 0;                 // documents that there were already
};

// Tokens of a passage where nobody says how many: what the encoder reads, at most 512; words without an encoder, 256.
int64_t usual_passage_tokens(const TextEncoder* encoder);

// A document as passages (cut.h). What the encoder reads of one is passage_prefix, the title and a line break (unless
// they leave less than half of the room), and its text. UserError: no UTF-8.
std::vector<std::string> passages_of(const Document& document, const IndexSettings& settings,
                                     const TextEncoder* encoder);

// Makes or replaces the index at `path`. `settings` without model, hash and width, which are the encoder's (null: no
// vectors). UserError: what stands there is no index, another process writes to it or builds it, passages longer than
// the encoder reads. Interrupted after a signal.
IndexCounts build_index(const std::filesystem::path& path, IndexSettings settings,
                        const std::vector<Document>& documents, const TextEncoder* encoder);

// Puts documents into an index, in place of those with their ids. `encoder`: as check_encoder() wants it; null where
// the index has no vectors. UserError: another process writes to it.
IndexCounts add_to_index(const std::filesystem::path& path, const std::vector<Document>& documents,
                         const TextEncoder* encoder);

// UserError, and nothing is changed: the index has none of one of these ids.
IndexCounts delete_from_index(const std::filesystem::path& path, const std::vector<std::string>& ids);

}  // namespace surtsey::experiments
