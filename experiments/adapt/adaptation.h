// Every way of teaching a trained model something new: what trains beside a frozen base, or of it.
//
//   const AdaptConfig config = adapt_config(keys);            // or AdaptConfig{.method = AdaptMethod::lora, .r = 8}
//   Adaptation adaptation(config, source, model);             // UserError: a pattern that matches nothing, ..
//   adaptation.install(model, device.target());               // before any program is built
//   .. add_train_programs(session, model, train); session.allocate(); ..
//   adaptation.write_base(model, write);                      // what is frozen, once for all members
//   trainer.initialise({{graph::kParameters, adaptation.start(model, {.seed = 1})}});
//   .. train ..
//   adaptation.save(folder, model.store().unpack(trainer.parameters(0)), "path of the base");
//
//   const Adaptation trained(folder, source, model);          // PEFT's two files
//   trained.install_frozen(model);                            // after the base is frozen
//   .. allocate, hub::read_weights(..) .. trained.write(model, write);
//
// With h = x W^T + bias of a matrix W [out, in], s = lora_alpha / r, or lora_alpha / sqrt(r) (rsLoRA, Kalajdzievski
// 2023):
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
//   head      the model's head of labels alone. With num_labels any other method trains it too, whole, and so a pooler
//             that the base's files do not have. The model has that head (hub::give_label_head()): it starts as the
//             base's files have it, or drawn by seed
// Texts behind virtual tokens stand at positions num_virtual_tokens and on, as PEFT has them: a model then reads so
// many tokens less.
//
// An adapter's tensors are parameters "adapter.NAME" (hub::kAdapterPrefix); PEFT's file has them as
// "base_model.model.NAME":
//   MODULE.lora_A.weight [r, in], MODULE.lora_B.weight [out, r], MODULE.lora_magnitude_vector [out]
//   MODULE.ia3_l [out, 1], or [1, in] of a feed-forward module
//   MODULE.adapter_down.weight [n, C], .adapter_down.bias [n], .adapter_up.weight [C, n], .adapter_up.bias [C]
//   MODULE.bias [out]          bitfit where the model has none
//   prompt_embeddings          [num_virtual_tokens, C]; of a prefix in the file [num_virtual_tokens, n_layer 2 K D],
//                              key then value of each block, here prefix.{block}.{key,value} [num_virtual_tokens, K D]
//                              as a cache has them. The file's name is without base_model.model.
// The head and such a pooler are the model's own, and stand in PEFT's file as modules_to_save has them:
//   score.weight [num_labels, C] of decoders; classifier.weight, classifier.bias, bert.pooler.dense.* of encoders
// MODULE is the base's own name for it ("transformer.h.0.attn.c_attn": one adapter for q, k and v together). Tensors of
// the base that train (full, partial, bitfit) go by hub/README.md's names in the file.
#pragma once

#include "experiments/adapt/adapt_config.h"
#include "experiments/adapt/modules.h"
#include "experiments/models/hub/source.h"
#include "experiments/models/model.h"
#include "graph/host_tensor.h"
#include "graph/interpret.h"
#include "graph/target.h"

#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace surtsey::experiments {

// One parameter of the base by our name, as it was trained: f32, matrices [out, in].
using BaseTensor = std::function<graph::HostTensor(const std::string& parameter)>;

struct AdaptStart {
  uint32_t seed = 0;
  std::vector<int32_t> prompt_tokens = {};  // prompt_tuning_init TEXT: of that text, repeated or cut
};

// What an adapter of LoRA makes of a matrix [out, in]: W + scale b a.
struct LowRankChange {
  std::string matrix;      // "blocks.0.attention.q"
  graph::HostTensor a, b;  // [r, in], [out, r]
  double scale = 1;
};

class Adaptation {
 public:
  // One that has learned nothing. UserError: keys that cannot be together, by name; a module or pattern that matches
  // nothing (with the names there are); a method that this model cannot have. The source must outlive it.
  Adaptation(AdaptConfig config, const hub::Source& source, const Model& model);
  // The same over a model without files, whose tensors `base` gives: modules go by their names at Hugging Face
  // (LLaMA's), or ours.
  Adaptation(AdaptConfig config, const Model& model, BaseTensor base);
  // One from PEFT's two files, or ours. UserError as above, and: no such file, a peft_type or an option that is not
  // supported, a tensor that fits no module, by name and shape.
  Adaptation(const std::filesystem::path& folder, const hub::Source& source, const Model& model);

  const AdaptConfig& config() const { return config_; }
  int64_t virtual_tokens() const;            // that stand before a text; 0 but for prefix and prompt
  std::vector<std::string> modules() const;  // that are changed, sorted

  // LoRA: from here on each member of an ensemble has a rank of its own up to r, by the state "lora.scale" f32 [r] a
  // member, which rank_scale() gives. Before install(); one rank for all modules.
  void vary_rank();
  graph::HostTensor rank_scale(int64_t rank) const;

  // For training: freezes the base as `weights` says, adds what trains to model.store(), hangs the graph at the model's
  // doors. Once, before programs are built.
  void install(Model& model, const graph::Target& target) const;
  // For use: everything frozen (the base as the caller has frozen it); write() gives the tensors.
  void install_frozen(Model& model) const;

  // After install(): f32 [P], "parameters" of one member. By seed where PEFT draws, from the base where it stands on
  // it, or as read from files.
  graph::HostTensor start(const Model& model, const AdaptStart& start) const;
  // The frozen state, tensor by tensor (bytes for Session::write_bytes()).
  void write_base(const Model& model,
                  const std::function<void(const std::string& state, std::span<const std::byte> bytes)>& write) const;
  // Of an adapter that was read and installed frozen: the state of its tensors, over the base's where it has these.
  void write(const Model& model,
             const std::function<void(const std::string& state, const graph::HostTensor& tensor)>& write) const;
  // As read from files, by parameter; and those of LoRA by matrix.
  const graph::State& tensors() const { return tensors_; }
  std::vector<LowRankChange> low_rank_changes() const;

  // The two files, of tensors as ParameterStore::unpack() has them; `base` becomes base_model_name_or_path.
  void save(const std::filesystem::path& folder, const graph::State& trained, const std::string& base = "") const;

  // For merging: the parameters of the base that this changes, and what becomes of one. UserError for adapters, prefix
  // and prompt, which no weights can say. A bias that the base has not is named as it would be ("head" apart):
  // `base` is then zeros.
  std::vector<std::string> merged_names() const;
  graph::HostTensor merged(const std::string& parameter, const graph::HostTensor& base,
                           const graph::State& trained) const;

 private:
  struct Target {
    size_t module = 0;
    int64_t rank = 0;
    double scale = 1;
    bool input = false;  // ia3: of the input
  };
  struct Added {
    std::string name;
    graph::Shape shape;
    graph::Initialisation initialisation;
    bool made = false;  // of the base: it never trains
  };

  void describe(const Model& model);
  void plan();
  void target_modules(const std::vector<std::string>& asked);
  std::vector<std::string> default_modules() const;
  void plan_base();
  void add(const std::string& name, graph::Shape shape, graph::Initialisation initialisation, bool made = false);
  void attach(Model& model, bool frozen) const;
  void hang_hooks(Model& model) const;
  void hang_virtual_tokens(Model& model) const;
  void write_made(const Model& model,
                  const std::function<void(const std::string& state, const graph::HostTensor& tensor)>& write) const;
  graph::HostTensor kept(const Model& model, const std::string& parameter) const;
  std::vector<double> squared_norms(const Model& model, const Module& module) const;
  graph::HostTensor prompt_start(const AdaptStart& start) const;
  void read_targets(const graph::State& file, const std::string& where);
  void read_tensors(graph::State file, const std::string& where);
  std::string head_name() const;
  void plan_head();
  bool is_saved_whole(const std::string& parameter) const;
  bool is_new(const std::string& parameter) const;
  std::string file_name(const std::string& parameter) const;
  std::map<std::string, std::string> bottlenecks() const;
  std::string stack_prefix() const;

  AdaptConfig config_;
  const hub::Source* source_ = nullptr;
  BaseTensor base_;
  ModelConfig model_;
  std::vector<graph::ParameterSpec> parameters_;  // of the base
  std::vector<Module> modules_;                   // all there are
  std::vector<Target> targets_;
  std::vector<Added> added_;
  std::vector<std::string> trained_;  // of the base
  std::vector<std::string> whole_;    // of them, those of the head and of a pooler beside it
  bool saves_pooler_ = false;
  graph::State tensors_;
  bool varies_ = false;
  mutable std::map<std::string, std::vector<double>> norms_;  // by module, of its rows, squared
};

// Of an adapter's folder, before a model is made for it: its virtual tokens stand in the model's positions too.
int64_t adapter_virtual_tokens(const std::filesystem::path& folder);
// And the labels of its head, which the model then has (hub::give_label_head()); 0: none.
int64_t adapter_labels(const std::filesystem::path& folder);

// What trains: counts, share and names. For the log before step 0.
struct TrainedPart {
  std::string name;        // "adapter.model.layers.{0..29}.self_attn.q_proj.lora_A.weight"
  int64_t tensors = 0;     // so many of that name
  int64_t parameters = 0;  // of all of them
};
struct TrainedParts {
  int64_t trained = 0, all = 0;  // parameters; `all` with what was added
  std::vector<TrainedPart> parts;
};
TrainedParts trained_parts(const graph::ParameterStore& store);
// "trainable params: 294,912 || all params: 124,734,720 || trainable%: 0.2364", as PEFT has it, and a line a name.
std::string shown(const TrainedParts& parts);

}  // namespace surtsey::experiments
