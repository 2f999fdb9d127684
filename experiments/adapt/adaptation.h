// Every way of teaching a trained model something new: what trains beside a frozen base, or of it.
//
//   AdaptConfig config{.method = AdaptMethod::lora, .r = 8};      // or add_adapt_fields(table, config)
//   Adaptation adaptation(config, source, model);                 // UserError: a pattern that matches nothing, ..
//   adaptation.install(model, device.target());                   // before any program is built
//   .. add_train_programs(session, model, train); session.allocate(); ..
//   adaptation.write_base(write);                                 // what is frozen, once for all members
//   trainer.initialise({{graph::kParameters, adaptation.start({.seed = 1})}});
//   .. train ..
//   adaptation.save(folder, model.store().unpack(trainer.parameters(0)));
//
//   const Adaptation trained(folder, source, model);              // PEFT's two files
//   trained.install(model, target, "stored");                     // frozen; beside an ensemble of others: adapter_set.h
//   trained.write_base(write); trained.write(write);
//
// With h = x W^T + bias of a matrix W [out, in], s = lora_alpha / r, or lora_alpha / sqrt(r) (rsLoRA, Kalajdzievski 2023):
//   full      every tensor of the base trains
//   partial   some do: the last num_layers blocks with what stands on them, or those named by `trainable`
//   lora      h + s (x A^T) B^T,  A [r, in], B [out, r] (Hu et al. 2021). use_dora (Liu et al. 2024):
//             bias + m / |W + s B A| (x W^T + s (x A^T) B^T), row by row, |.| a constant to the gradient (section 4.3)
//   adapters  h + up(f(down(h))) behind attention and the MLP (houlsby, Houlsby et al. 2019) or behind the MLP alone
//             (pfeiffer, Pfeiffer et al. 2021), down [C / reduction_factor, C]; up starts at 0
//   prefix    num_virtual_tokens keys and values before those of every text, in each block (Li and Liang 2021)
//   prompt    num_virtual_tokens embeddings before those of every text (Lester et al. 2021)
//   bitfit    every bias (Ben Zaken et al. 2022). A model whose matrices have none (LLaMA) gets them: zeros, in blocks
//   ia3       h l, or for feedforward_modules (x l) W^T + bias (Liu et al. 2022); l starts at 1
//   head      scores of num_labels alone. With num_labels any other method trains them too
// Texts behind virtual tokens stand at positions num_virtual_tokens and on, as PEFT has them: a model then reads so
// many tokens less.
//
// An adapter's tensors are parameters "adapter.NAME" (hub::kAdapterPrefix); PEFT's file has them as
// "base_model.model.NAME":
//   MODULE.lora_A.weight [r, in], MODULE.lora_B.weight [out, r], MODULE.lora_magnitude_vector [out]
//   MODULE.ia3_l [out, 1], or [1, in] of a feed-forward module
//   MODULE.adapter_down.weight [n, C], .adapter_down.bias [n], .adapter_up.weight [C, n], .adapter_up.bias [C]
//   MODULE.bias [out]        bitfit where the model has none; biases that it has train under their own names
//   prompt_embeddings        [num_virtual_tokens, C], of a prefix [num_virtual_tokens, n_layer 2 K D]: key then value of
//                            a block; without base_model.model. before it
//   score.weight [num_labels, C], score.bias   of decoders; classifier of encoders
// MODULE is the base's own name for it ("transformer.h.0.attn.c_attn": one adapter for q, k and v together). What PEFT has
// no type for (adapters, bitfit, partial, full, head) goes into the same two files: peft_type is then ADAPTERS, BITFIT,
// PARTIAL, FULL or HEAD, and tensors of the base stand under their own names behind base_model.model.
#pragma once

#include "experiments/adapt/modules.h"
#include "experiments/base/config.h"
#include "experiments/models/hub/source.h"
#include "experiments/models/model.h"
#include "graph/host_tensor.h"
#include "graph/target.h"

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace surtsey::experiments {

enum class AdaptMethod : uint8_t { full, partial, lora, adapters, prefix, prompt, bitfit, ia3, head };
const char* name(AdaptMethod method);
AdaptMethod parse_adapt_method(std::string_view name);  // UserError lists the names

// Keys are PEFT's where it has one. A module is named by the end of its name ("q_proj", "mlp.c_proj", "h.0.attn.c_attn"); by
// a pattern with * and ? of its whole name; "all-linear": all but the head.
struct AdaptConfig {
  AdaptMethod method = AdaptMethod::lora;
  // What the base is kept in, as freeze_weights() has it: stored (as its file has it), f32, f16, bf16, q8_0, q4_0, .. full
  // and partial have f32.
  std::string weights = "stored";
  // partial
  int64_t num_layers = 0;              // the last so many blocks, the last norm and an untied head; 0: `trainable` alone
  std::vector<std::string> trainable;  // our names of parameters, by pattern: "blocks.*.mlp.*", "norm.weight"
  // lora, ia3
  std::vector<std::string> target_modules;  // empty: PEFT's choice for the family (q and v, c_attn; ia3: k, v and down)
  int64_t r = 8;
  double lora_alpha = 8;
  double lora_dropout = 0;
  bool use_rslora = false;
  bool use_dora = false;
  std::map<std::string, int64_t> rank_pattern;  // of modules whose name ends so (or matches the expression)
  std::map<std::string, double> alpha_pattern;
  std::vector<std::string> feedforward_modules;  // ia3: those of target_modules whose input is scaled
  // adapters
  std::string adapter_kind = "pfeiffer";  // houlsby, pfeiffer
  int64_t reduction_factor = 16;
  std::string non_linearity = "relu";  // relu, gelu, tanh, swish
  // prefix, prompt
  int64_t num_virtual_tokens = 20;
  std::string prompt_tuning_init = "RANDOM";  // N(0, 1); SAMPLE_VOCAB: embeddings of tokens drawn; TEXT: of a text
  std::string prompt_tuning_init_text;
  // a head
  int64_t num_labels = 0;  // 0: none
  std::string problem_type = "single_label_classification";  // regression, multi_label_classification

  bool operator==(const AdaptConfig&) const = default;
};

// The keys as a run's configuration has them: method (a word) and those above; patterns as lists of NAME=NUMBER.
struct AdaptKeys {
  std::string method = "lora";
  std::vector<std::string> rank_pattern, alpha_pattern;
  AdaptConfig config;
};
void add_adapt_fields(ConfigTable& table, AdaptKeys& keys);
AdaptConfig adapt_config(const AdaptKeys& keys);  // UserError by key
void check_adapt_config(const AdaptConfig& config);

// One parameter of the base by our name, as the file has it: f32, matrices [out, in].
using BaseTensor = std::function<graph::HostTensor(const std::string& parameter)>;
BaseTensor base_of(const hub::Source& source, const Model& model);

struct AdaptStart {
  uint32_t seed = 0;
  std::vector<int32_t> prompt_tokens;  // prompt_tuning_init TEXT: of prompt_tuning_init_text, repeated or cut
};

class Adaptation {
 public:
  // One that has learned nothing. UserError: keys that cannot be together, by name; a module or pattern that matches
  // nothing (with the names there are); a method that this model cannot have. The source must outlive it.
  Adaptation(AdaptConfig config, const hub::Source& source, const Model& model);
  // The same over a model without files: modules go by their Hugging Face names, or ours (blocks.0.attention.q). `base` is
  // its tensors.
  Adaptation(AdaptConfig config, const Model& model, BaseTensor base);
  // One from PEFT's two files, or ours. UserError as above, and: no such file, a peft_type or an option that is not
  // supported, a tensor that fits no module, by name and shape.
  Adaptation(const std::filesystem::path& folder, const hub::Source& source, const Model& model);

  const AdaptConfig& config() const { return config_; }
  int64_t virtual_tokens() const;  // that stand before a text; 0 but for prefix and prompt
  // Positions that a model needs for texts of so many tokens: that many more.
  // (hub::model_config(source, {context + adaptation_virtual_tokens(folder), ..}))

  // For training: freezes the base as `weights` of the configuration says, adds what trains to model.store(), hangs the
  // graph at the model's doors. Once, before programs are built; the model must outlive them.
  void install(Model& model, const graph::Target& target) const;
  // For use: everything frozen (the base as the caller has frozen it), and write() gives the tensors.
  void install_frozen(Model& model) const;

  // f32 [P], "parameters" of one model, after install(): by seed where PEFT draws, from the base where it stands on it,
  // or as read from files.
  graph::HostTensor start(const Model& model, const AdaptStart& start) const;
  // The base's frozen state, tensor by tensor (bytes for Session::write_bytes()).
  void write_base(const Model& model,
                  const std::function<void(const std::string& state, std::span<const std::byte> bytes)>& write) const;
  // Of an adapter that was read and installed frozen: its tensors' state.
  void write(const std::function<void(const std::string& state, const graph::HostTensor& tensor)>& write) const;
  const graph::State& tensors() const { return tensors_; }  // as read, by parameter name

  // [B, num_labels] from a model's hidden states [B, T, C] (Model::hidden); last u32 [B]: each text's last token, of a
  // decoder (an encoder is asked at its first token, behind its pooler where it has one).
  graph::Value scores(const Model& model, graph::Parameters& parameters, graph::Value hidden, graph::Value last) const;

  // The two files, whole, of tensors as ParameterStore::unpack() has them; `base` is written as base_model_name_or_path.
  void save(const std::filesystem::path& folder, const graph::State& trained, const std::string& base = "") const;

  // For merging: the parameters of the base that this changes, and what becomes of one (all methods but adapters, prefix,
  // prompt and a head; UserError for these by name). A bias that the base has not is an addition: `base` is then zeros.
  std::vector<std::string> merged_names() const;
  graph::HostTensor merged(const std::string& parameter, const graph::HostTensor& base,
                           const graph::State& trained) const;

 private:
  struct Method;
  AdaptConfig config_;
  const hub::Source* source_ = nullptr;
  std::vector<Module> modules_;
  BaseTensor base_;
  graph::State tensors_;
  std::shared_ptr<const Method> method_;
};

// num_virtual_tokens of an adapter's folder, before a model is made for it; 0 for methods without.
int64_t adapter_virtual_tokens(const std::filesystem::path& folder);

// What trains: counts, share and names, a line each where blocks repeat. For the log before step 0.
struct TrainedPart {
  std::string name;       // "adapter.model.layers.{0..29}.self_attn.q_proj.lora_A.weight"
  int64_t tensors = 0;    // so many of that name
  int64_t parameters = 0; // of all of them
};
struct TrainedParts {
  int64_t trained = 0, all = 0;  // parameters; `all` with what was added
  std::vector<TrainedPart> parts;
};
TrainedParts trained_parts(const graph::ParameterStore& store);
std::string shown(const TrainedParts& parts);  // "trainable params: 294,912 || all params: .. || trainable%: 0.2188" and names

}  // namespace surtsey::experiments
