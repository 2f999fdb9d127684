// A transformer from one ModelConfig: its parameters, its forward pass as a graph, its cost.
//
// Parameter names (weights are stored [out, in], as Hugging Face's Linear does):
//   embed.token                      [V, C]
//   embed.input                      [C, input_size]   in its place, of a model that reads vectors
//   embed.position                   [block_size, C]   learned positions
//   embed.type                       [n_types, C]      kinds of tokens
//   embed.norm.{weight,bias}         [C]   with embedding_norm
//   relative.weight                  [relative_buckets, H]   relative positions
//   blocks.{i}.norm1.{weight,bias}   [C]
//   blocks.{i}.attention.{q,k,v,out}.{weight,bias}
//   blocks.{i}.attention.{q,k}_norm.weight   [D]   with qk_norm
//   blocks.{i}.norm_cross.*, blocks.{i}.cross.{q,k,v,out}.*      decoder of an encoder_decoder
//   blocks.{i}.norm2.*               these and the next unless `mlp` is off
//   blocks.{i}.mlp.{up,gate,down}.*  gate where gated: down(silu(gate(x)) * up(x))
//   norm.{weight,bias}               after the last block, pre-norm only
//   head.transform.{weight,bias}     [C, C]   masked_language, and head.norm.*
//   pooler.{weight,bias}             [C, C]   classify of an encoder, pooled
//   head.weight                      [V, C], untied only; classify: [n_labels, C]
//   head.bias                        masked_language, classify of an encoder
// An encoder_decoder has two stacks, with "encoder." and "decoder." before these names (the head
// is the decoder's). q, k and v lie side by side and so do up and gate: each group is one matmul, unless some of it is
// frozen and not kept together, or a hook has a matrix of it. q has n_head * head_width() rows, which need not be C.
#pragma once

#include "experiments/models/model_config.h"
#include "experiments/models/projection.h"
#include "experiments/models/virtual_tokens.h"
#include "graph/parameters.h"

#include <functional>
#include <string>
#include <vector>

namespace surtsey::experiments {

struct ForwardOptions {
  graph::Value source = {};       // u32 [B, S]: what the encoder of an encoder_decoder reads
  graph::Value token_mask = {};   // boolean [B, T]: which tokens exist; all when empty
  graph::Value lengths = {};      // u32 [B]: the same of texts whose padding stands behind them; all when empty
  graph::Value token_types = {};  // u32 [B, T], of a model with n_types; all of kind 0 when empty
  // u32 [B, T]: where each token stands, for learned and rotary positions; 0 .. T - 1 when empty. Without a cache.
  graph::Value positions = {};
  // u32 [B, T], of a decoder without a cache: the column at which each token's text begins, where a row holds several
  // behind each other. Positions count from there, and self-attention looks no further back. It does not fall along T.
  graph::Value starts = {};
  graph::Value source_mask = {};  // boolean [B, S], encoder_decoder
  graph::Value memory = {};       // f32 [B, S, C] in place of `source`: what encode() made of it
  // u32 []. Dropout is on when both are given, off otherwise (evaluation); see Model::draws().
  graph::Value seed = {};
  graph::Value step = {};
  // With a cache_length the tokens stand at `position` (u32 []) and after it, self-attention also
  // reads what was written before them, and an encoder_decoder's source comes from
  // Model::remember_source(). State tensors, S = cache_length (for cross: source_length()):
  //   cache.{blocks.{i}.attention}.{key,value}   f32 [B, K, S, D]   written at the position
  //   cache.{blocks.{i}.cross}.{key,value}       f32 [B, K, S, D]
  // or what Model::keep_cache_as() says that these are kept in, with the parts' suffixes.
  // Virtual tokens stand before a text's columns, which begin behind them: S is then so many more, and what
  // remember_virtual() writes. S is as much longer as makes each row's part of a state tensor whole units of 16 bytes.
  int64_t cache_length = 0;
  graph::Value position = {};
  // Of the cache's columns self-attention reads so many, which hold all that the tokens see; 0: all. What is behind
  // them would be masked.
  int64_t visible_length = 0;
  // Called with the residual stream [B, T, C] at each point: "embed" after the embeddings and
  // "blocks.{i}.residual" after block i, with a stack's prefix before. What it returns takes the
  // value's place. See residual.h.
  std::function<graph::Value(const std::string& point, graph::Value)> residual = {};
  // u32 [] or [B]: which of the adapters that a hook has the texts are read with; for Projection::adapter.
  graph::Value adapter = {};
};

class Model {
 public:
  explicit Model(ModelConfig config);  // UserError when the configuration is impossible

  const ModelConfig& config() const { return config_; }
  const graph::ParameterStore& store() const { return store_; }
  graph::ParameterStore& store() { return store_; }  // to set multipliers, to freeze, to add what hooks read

  // From now on every program of this model has `hook` at each of its matrices. The last one added is asked first, and
  // its Projection::plain() is what those before it make.
  void on_projection(ProjectionHook hook) { hooks_.push_back(std::move(hook)); }
  const std::vector<ProjectionHook>& hooks() const { return hooks_; }

  // From now on they stand before every text, which may be so many tokens shorter. UserError: an encoder_decoder,
  // relative positions, no room for a text.
  void set_virtual_tokens(VirtualTokens tokens);
  const VirtualTokens& virtual_tokens() const { return virtual_; }

  // From now on keys and values are kept so between tokens; f32 until then. Of a format that graphs can write
  // (graph::Storage::keep). UserError: it cannot hold heads of this width.
  void keep_cache_as(graph::Storage storage);
  const graph::Storage& cache_storage() const { return cache_; }

  // Whether a training pass draws (takes a seed and a step): its dropout, or that of a hook.
  bool draws() const { return config_.dropout > 0 || hooks_draw_; }
  void let_hooks_draw() { hooks_draw_ = true; }

  // Tables that are computed on the host in double and never trained: state tensors that the graph
  // reads, the same for every member of an ensemble.
  //   constants.rotary_cos, constants.rotary_sin   [block_size, D/2]   rotary.h, for a text of block_size tokens
  //   constants.sinusoidal                         [block_size, C]     Vaswani et al. 2017, 3.5
  // The longer of block_size and source_length() rows, R.
  //   constants.{encoder,decoder}.relative         u32 [2R - 1]        the row of relative.weight by j - i + R - 1
  graph::State constants() const;

  // tokens u32 [B, T], or f32 [B, T, input_size] of a model that reads vectors; T and what stands before them <=
  // block_size.
  // The activations after the last norm, [B, T, C] ..
  graph::Value hidden(graph::Parameters& parameters, graph::Value tokens, const ForwardOptions& options = {}) const;
  // .. what the head makes of them, [.., V]; where it classifies [B, n_labels], of an encoder's first token or of the
  // last that a decoder's text has by options.lengths; UserError for a model without logits ..
  graph::Value head(graph::Parameters& parameters, graph::Value hidden, const ForwardOptions& options = {}) const;
  // .. and both.
  graph::Value logits(graph::Parameters& parameters, graph::Value tokens, const ForwardOptions& options = {}) const;

  // tanh(dense(x of the first token)), [B, C], of a model that has a pooler.
  graph::Value pooled(graph::Parameters& parameters, graph::Value hidden) const;

  // What an encoder_decoder's encoder makes of a source u32 [B, S], [B, S, C]; mask: boolean [B, S], may be empty.
  graph::Value encode(graph::Parameters& parameters, graph::Value source, graph::Value source_mask = {}) const;

  // Encodes a source u32 [B, S] (mask: boolean [B, S], may be empty) into the caches of
  // cross-attention.
  void remember_source(graph::Parameters& parameters, graph::Value source, graph::Value source_mask) const;

  // Keeps frozen q, k and v of each attention in one tensor (graph/parameters.h) where they are frozen alike, so that
  // they are one product as where they train. Of a matrix with a hook the rows are read out of it. Before programs.
  void keep_projections_together();

  // The virtual tokens into the caches of self-attention of so many rows, once before any text; cache_length as
  // ForwardOptions has it.
  void remember_virtual(graph::Parameters& parameters, int64_t rows, int64_t cache_length) const;

  int64_t parameter_count() const { return store_.parameter_count(); }

 private:
  ModelConfig config_;
  graph::ParameterStore store_;
  std::vector<ProjectionHook> hooks_;
  VirtualTokens virtual_;
  graph::Storage cache_ = graph::whole(graph::DType::f32);
  bool hooks_draw_ = false;
};

// Excludes biases, gains and embeddings from the decay of weights, as nanoGPT does for biases and
// gains: tensors with fewer than two axes get the decay multiplier 0.
void decay_matrices_only(graph::ParameterStore& store);

// 6 N D: the usual estimate of a training run's floating-point operations.
double estimated_training_flops(int64_t parameters, double tokens);

// Floating-point operations of the matmuls of one forward pass over `batch` sequences of `tokens`
// (`source` for the encoder of an encoder_decoder), a multiply-add counting two: projections, MLP,
// head, and the whole T x S rectangle of attention, masked or not. Training is three times this.
double forward_flops(const ModelConfig& config, int64_t batch, int64_t tokens, int64_t source = 0);

// The parameter count in closed form, without building the model.
int64_t analytic_parameter_count(const ModelConfig& config);

// The Hugging Face name (Llama's scheme) of a decoder's parameter, or empty when it has none:
//   embed.token                      model.embed_tokens.weight
//   blocks.{i}.norm1.weight          model.layers.{i}.input_layernorm.weight
//   blocks.{i}.attention.q.weight    model.layers.{i}.self_attn.q_proj.weight      (k, v alike)
//   blocks.{i}.attention.out.weight  model.layers.{i}.self_attn.o_proj.weight
//   blocks.{i}.norm2.weight          model.layers.{i}.post_attention_layernorm.weight
//   blocks.{i}.mlp.up.weight         model.layers.{i}.mlp.up_proj.weight           (gate, down alike)
//   norm.weight                      model.norm.weight
//   head.weight                      lm_head.weight
// Biases likewise. Shapes and the rotate-half order of heads agree, so tensors carry over as they
// are.
std::string hugging_face_name(std::string_view name);

}  // namespace surtsey::experiments
