// What trained models write: decoding with a key/value cache, on the device.
//
// Programs over the "parameters" of a session, recorded once:
//   encode    encoder_decoder only: the source becomes keys and values for cross-attention
//   before    of a model with virtual tokens only: they go into the cache, before the rows do
//   prefill   the next P columns of the rows go into the cache
//   decode    reads the token before decode.position, writes the one at it, advances it
// A replay of decode writes one token of every row of every member. Nothing comes back to the host
// between tokens, and no answer is ever fed to the model: a row holds its prompt, then padding.
//
// Letters: E members, N rows, L columns, V vocabulary. State tensors ("a member": [E, ..] when E is
// not 1), beside the caches (model.h):
//   decode.tokens       u32 [N, L] a member   rows of prompt, what was written so far, padding
//   decode.length       u32 [N] a member      tokens that are given: they are never written over
//   decode.broken       u32 [N] a member      how many logits of the row were not finite so far
//   decode.position     u32 []                the column that the next replay of decode writes
//   decode.filled       u32 []                the column at which the next replay of prefill begins
//   decode.origin       u32 []                place of column 0 in the text: draws are numbered by it
//   decode.stream       u32 [N]               rows that differ here draw independently
//   decode.temperature  f32 []                0 (greedy) until it is set
//   decode.seed         u32 []
//   decode.source       u32 [N, S] a member, decode.source_mask boolean [N, S] a member
#pragma once

#include "engine/session.h"
#include "experiments/generate/sampling.h"
#include "experiments/models/model.h"

#include <set>
#include <string>
#include <vector>

namespace surtsey::experiments {

struct DecodeConfig {
  int64_t rows = 1;     // N
  int64_t columns = 0;  // L, at most block_size + 1: a row's last token is written but not read
  int64_t prefill = 0;  // P, columns a replay of prefill; 0: all that is ever read, L - 1
  TokenFilter filter = {};

  int64_t chunk() const { return prefill > 0 ? prefill : std::max<int64_t>(1, columns - 1); }
  // Columns of the cache: whole chunks.
  int64_t cache_length() const { return (columns - 1 + chunk() - 1) / chunk() * chunk(); }
};

graph::Program encode_program(const Model& model, const DecodeConfig& config);
graph::Program before_program(const Model& model, const DecodeConfig& config);
graph::Program prefill_program(const Model& model, const DecodeConfig& config);
// Output: logits f32 [N, V] of the token that was written.
graph::Program decode_program(const Model& model, const DecodeConfig& config);

// The state tensors that members own, for vectorize().
std::set<std::string> decode_member_state();

// A row to decode: a prompt, padded to L, and how many of its tokens are given.
struct DecodeRow {
  std::vector<int32_t> tokens;
  int32_t length = 0;
  std::vector<int32_t> source = {};  // encoder_decoder: at most source_length() tokens
};

class Decoder {
 public:
  // Adds the programs to a session that is not yet allocated; `members` models share every replay.
  // UserError when the model cannot decode (an encoder) or the configuration does not fit it.
  Decoder(engine::Session& session, const Model& model, size_t members, DecodeConfig config);

  const DecodeConfig& config() const { return config_; }

  // temperature 0: greedy.
  void set_sampling(double temperature, uint32_t seed);

  // Writes the columns `start` .. `stop` - 1 of the rows of each member ([E][rows]), each from its
  // own length on, and returns the rows with what was written, [E][rows][L] flat. Any number of
  // rows: N at a time go through; row i draws from stream i. Rows' lengths are >= start >= 1.
  // Column 0 is token `origin` of the text.
  std::vector<std::vector<int32_t>> decode(const std::vector<std::vector<DecodeRow>>& rows, int32_t start, int32_t stop,
                                           int32_t padding, int64_t origin = 0);

  // Goes on where the last decode() of at most N rows stopped: `count` columns more, the rows as they then are.
  std::vector<std::vector<int32_t>> go_on(int32_t count);

  // Whether every logit of the last N rows was finite since they were given.
  bool finite();

 private:
  void write_rows(const std::vector<std::vector<DecodeRow>>& rows, size_t first, size_t count, int32_t padding);
  void append_rows(size_t count, std::vector<std::vector<int32_t>>& result);
  void write_sources(const std::vector<std::vector<DecodeRow>>& rows, size_t first, size_t count);

  engine::Session& session_;
  engine::SessionProgram encode_, before_, prefill_, decode_;
  DecodeConfig config_;
  size_t members_;
  size_t source_length_ = 0;  // 0 without a source
  bool has_before_ = false;
  size_t going_on_ = 0;  // rows of the last decode(), where that was all at once
  int32_t stop_ = 0;     // the column that is written next
};

}  // namespace surtsey::experiments
