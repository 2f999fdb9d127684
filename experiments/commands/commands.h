// The subcommands of build/surtsey, one file each. surtsey.cpp reads the command line and calls
// these; results go to stdout, everything else to stderr.
//
// All throw UserError on bad input and engine::DeviceError on what a device did wrong. `keys` are
// the `--key=value` arguments that are no flags of the command itself, as they were given.
#pragma once

#include "engine/device.h"
#include "experiments/kernels/analysis_run.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace surtsey::experiments::commands {

// The devices of this machine, one line each (or JSON), and which one would be chosen.
struct DevicesOptions {
  bool json = false;
  std::string select;  // --device: as a run would take it
};
void devices(const DevicesOptions& options);

// The op table as a page: text, md or html.
void ops(const std::string& format);

// Passages of an index (retrieve/README.md) that are put before prompts.
struct RetrieveFlags {
  std::string index;             // empty: none
  int64_t top = 3;               // so many, as far as the context has room for them and for an answer
  std::string by = "automatic";  // bm25, dense, fused; automatic: fused where the index has vectors
  std::string model;             // of its vectors, where that is not where it was any more
  std::string template_file;     // instead of retrieve/prompts.h's
};

// A model that others trained goes on with a text, as its generation_config.json says or `keys` by the same names
// (--max_new_tokens=64 --do_sample=true --temperature=.8 --top_p=.95 --num_beams=4). The text goes to stdout as it
// comes; speed to stderr. Or it answers, line by line of stdin, by its chat template.
struct GenerateOptions {
  std::string model;  // a folder of Hugging Face's form, or a GGUF file
  std::optional<std::string> prompt;
  bool chat = false;
  std::string system;         // with chat: what the conversation begins with
  std::string chat_template;  // with chat: a file, instead of the model's own
  int64_t context = 0;        // tokens, the prompt included; 0: what is needed, at most what the model was made for
  std::string weights = "stored";  // as the file has them, or by a name of adapt/packed.h
  std::string cache_type = "f32";  // of keys and values, by a name of generate/cache_type.h
  std::string adapter;             // folder of an adapter in PEFT's files (adapt/adaptation.h); empty: none
  uint64_t seed = 0;
  std::string format = "text";  // json: ids and text, at the end
  RetrieveFlags retrieve;
  std::string device;
  std::vector<std::string> keys;
};
void generate(const GenerateOptions& options);

// A model that others trained over HTTP, by OpenAI's endpoints (serve/README.md), until SIGINT or SIGTERM: then
// requests in flight are answered to their end.
struct ServeOptions {
  std::string model;  // a folder of Hugging Face's form, a GGUF file, a run of ours
  std::string name;   // that answers bear; empty: the last part of the path
  std::string host = "127.0.0.1";
  int64_t port = 8080;       // 0: any that is free
  std::string api_key;       // empty: none is asked for, and the host has to be this machine alone
  std::string api_key_file;  // instead: other users of the machine see command lines
  int64_t max_batch = 8;     // texts at once
  int64_t context = 0;       // tokens of a text, the prompt included; 0: what the model was made for, at most 2048
  std::string weights = "stored";     // as the file has them, or by a name of adapt/packed.h
  std::string cache_type = "f32";     // of keys and values, by a name of generate/cache_type.h
  std::string adapter;                // folder of an adapter in PEFT's files (adapt/adaptation.h); empty: none
  std::vector<std::string> adapters;  // NAME=FOLDER of LoRA adapters that requests choose among by their "model"
  std::string chat_template;          // a file, instead of the model's
  int64_t queue = 256;                // texts that may wait
  int64_t max_body = 2 << 20;         // bytes
  int64_t connections = 256;
  double request_seconds = 600;  // from a request to the end of its answer
  bool log_prompts = false;
  bool quiet = false;  // no line a request
  RetrieveFlags retrieve;
  std::string device;
};
void serve(const ServeOptions& options);

// What generating with a model of others, or serving it, would take of a device's memory, and whether it fits.
// Allocates nothing.
struct PlanOptions {
  std::string model;               // as serve takes it
  int64_t max_batch = 1;           // texts at once
  int64_t context = 0;             // tokens of a text; 0: what the model was made for, at most 2048
  std::string weights = "stored";  // as the file has them, or by a name of adapt/packed.h
  std::string cache_type = "f32";  // of keys and values, by a name of generate/cache_type.h
  std::string adapter;             // folder of an adapter in PEFT's files (adapt/adaptation.h); empty: none
  std::string format = "text";     // or json
  std::string device;
};
void plan_model(const PlanOptions& options);

// What a model that others trained puts out for a batch: `input` is a JSON file with input_ids (token_type_ids,
// attention_mask, decoder_input_ids), one row or a list of rows; see evaluate/model_outputs.h.
struct LogitsOptions {
  std::string model;  // a folder of Hugging Face's form, a safetensors file, a GGUF file
  std::string input;
  std::string format = "text";  // text: the beginning of each output; json: all of it
  std::string adapter;          // folder of an adapter in PEFT's files (adapt/adaptation.h); empty: none
  std::string device;
};
void logits(const LogitsOptions& options);

// A model's answers to files of items: likelihoods of continuations, choices, written answers, perplexity of texts. See
// evaluate/harness/README.md. A table goes to stdout (as JSON: results.json); with `out` a folder:
//
//   OUT/results.json, OUT/samples_TASK.jsonl   in lm-evaluation-harness's form
//   OUT/env.json, OUT/config.json
//
// With `resume` items that are answered already are not asked again.
struct EvaluateOptions {
  std::string model;               // of others, or a run of ours
  std::vector<std::string> tasks;  // .toml, .jsonl, .txt
  std::optional<int64_t> shots;    // instead of the tasks' own numbers
  uint32_t seed = 0;               // which shots, in what order
  int64_t limit = 0;               // the first so many items of each task; 0: all
  std::string out;
  bool resume = false;
  int64_t context = 0;             // tokens; 0: what the model was made for, at most 2048
  std::string weights = "stored";  // as the file has them, or by a name of adapt/packed.h
  std::string cache_type = "f32";  // of keys and values, by a name of generate/cache_type.h
  std::string adapter;             // folder of an adapter in PEFT's files (adapt/adaptation.h); empty: none
  int64_t batch_size = 8;          // texts that are written at once; changes no answer
  bool add_bos_token = false;
  bool apply_chat_template = false;  // prompts are a user's messages
  int64_t window = 0, stride = 0;    // of perplexities, see AskOptions
  std::string format = "text";       // or json
  RetrieveFlags retrieve;
  std::string device;
  std::vector<std::string> command;  // for env.json
};
void evaluate(const EvaluateOptions& options);

// `surtsey index`: see retrieve/README.md. What was made goes to stdout.
struct IndexBuildOptions {
  std::string out;                  // the file
  std::string data;                 // rows {"id", "text", "title"} of a .jsonl, or a folder
  std::string model;                // of vectors: an encoder or a decoder, as serve takes it; empty: words alone
  std::string words = "unicode61";  // how words are cut: unicode61, porter, trigram
  int64_t passage_tokens = 0;       // 0: what the encoder reads, at most 512; 256 words without one
  int64_t overlap = 0;              // tokens that neighbours share
  std::string passage_prefix, query_prefix;  // before what is embedded, as the model was trained
  std::string format = "text";               // or json
  std::string device;
};
void index_build(const IndexBuildOptions& options);
struct IndexChangeOptions {
  std::string index;
  std::string data;              // add
  std::vector<std::string> ids;  // delete
  std::string model;             // add: where the index's own is now, if it was moved
  std::string format = "text";   // or json
  std::string device;
};
void index_add(const IndexChangeOptions& options);
void index_delete(const IndexChangeOptions& options);
void index_info(const IndexChangeOptions& options);
struct IndexQueryOptions {
  std::string index;
  std::optional<std::string> text;  // this, or a file with one a line
  std::string queries;
  int64_t top = 10;
  std::string by = "automatic";  // bm25, dense, fused
  std::string model;             // where the index's own is now, if it was moved
  std::string format = "text";   // json: a line a query
  std::string device;
};
void index_query(const IndexQueryOptions& options);

// What the compiler makes of a model, without running it.
struct InspectOptions {
  std::string program = "train";  // train, forward
  std::string target;             // a preset; empty: the device's own
  std::string device;
  std::string config;             // TOML file, or config.json of a checkpoint
  std::vector<std::string> show;  // see kInspectViews; empty: summary, kernels and memory
  std::string kernel;             // glsl and spirv: only kernels whose name contains this
  std::string out;                // a folder: one file a view there, nothing on stdout
  int64_t members = 1;
  std::string addressing;  // address, descriptor; empty: the target's
  std::string variant;     // of matmul: lane_broadcast, shared_tile, cooperative; empty: automatic
  bool no_fusion = false;
  std::vector<std::string> keys;
};
inline const std::vector<std::string> kInspectViews = {"summary", "graph",  "passes", "plan",
                                                       "kernels", "memory", "glsl",   "spirv"};
void inspect(const InspectOptions& options);

// What drivers make of a model's kernels on GPUs that are not here: see experiments/analysis.h. A
// configuration as train and inspect take it: `keys` may begin with a TOML file or config.json, or
// with the name of a study, whose largest cell is taken.
struct AnalyzeOptions {
  AnalysisRequest request;
  std::string program = "train";  // train, forward
  bool list = false;              // only say which targets there are
  std::vector<std::string> keys;
};
void analyze(const AnalyzeOptions& options);

// Whether this device does what the interpreter says: see experiments/selftest.h. UserError, after
// the report is written, when it does not.
struct SelftestOptions {
  std::string device;
  std::string out;  // of the report; empty: selftest-DEVICE.md
  bool quick = false;
};
void selftest(const SelftestOptions& options);

// Measures how the products and reductions of a model's training step are best cut and keeps that on
// disk, for every later compilation on this device: see experiments/tune.h.
struct TuneCommandOptions {
  std::string program = "train";  // train, forward
  std::string device;
  std::string config;  // TOML file, or config.json of a checkpoint
  std::string format = "md";
  int64_t members = 1;
  int64_t rounds = 9;
  std::vector<std::string> keys;
};
void tune(const TuneCommandOptions& options);

// What all benchmarks have. Lists are cross products, the last one runs fastest.
struct BenchOptions {
  std::string format = "md";  // md, json, jsonl, csv
  int64_t repetitions = 20;
  int64_t warmup = 3;
  engine::DeviceOptions device;
  std::string variant;  // of matmul: lane_broadcast, shared_tile, cooperative; empty: automatic
};
struct BenchMatmulOptions {
  BenchOptions bench;
  std::vector<int64_t> m = {512}, n = {512}, k = {512};
  std::vector<std::string> layout = {"nn", "nt", "tn"};  // of A and B: n as is, t transposed
  std::vector<std::string> dtype = {"f32"};              // what A and B are stored in
};
void bench_matmul(const BenchMatmulOptions& options);

// Attention of q, k, v f32 [B, H, T, D], fused (a kernel claims it) and expanded (its primitives),
// in alternating samples. Backward is the gradient with respect to all three, forward included.
struct BenchAttentionOptions {
  BenchOptions bench;
  std::vector<int64_t> batch = {64}, heads = {2}, length = {32}, width = {16};
  std::vector<std::string> causal = {"on"};                 // on, off
  std::vector<std::string> pass = {"forward", "backward"};  // which programs
};
void bench_attention(const BenchAttentionOptions& options);

// Row by row work on f32 [rows, width], checked against the interpreter: softmax, layer_norm,
// rms_norm, cross_entropy, column_sum (the gradient of a bias), embedding (rows are tokens of a
// vocabulary). GB/s are of the inputs and outputs, each once, over the time of all dispatches.
struct BenchReduceOptions {
  BenchOptions bench;
  std::vector<std::string> op;  // empty: all
  std::vector<int64_t> rows = {2048}, width = {128};
  std::vector<std::string> pass = {"forward", "backward"};
  int64_t vocab_size = 256;
};
void bench_reduce(const BenchReduceOptions& options);

// The exact best of n vectors (drawn, of length 1) for 1 query and for more, on the device, beside what copying the
// vectors takes by the bandwidth that is measured before and after; what is found is checked first.
struct BenchRetrieveOptions {
  BenchOptions bench;
  std::vector<int64_t> n = {1000000}, width = {384}, queries = {1, 32};
  int64_t top = 10;
};
void bench_retrieve(const BenchRetrieveOptions& options);

// The models of a benchmark: those that `model` names (models/shapes.h), or decoders with learned positions,
// pre-LayerNorm, GELU (erf), biases everywhere but in the untied head. An empty list is what the named model has (of
// its context 1024 tokens at most, one sequence), or without a name what `unnamed` has.
struct BenchModels {
  struct Unnamed {
    int64_t vocab_size = 16, block_size = 32, n_layer = 2, n_embd = 32, n_head = 2, batch_size = 64;
  };
  Unnamed unnamed = {};
  std::vector<std::string> model = {};
  std::vector<int64_t> vocab_size = {}, block_size = {}, n_layer = {}, n_embd = {}, n_head = {}, batch_size = {},
                       members = {1};
  // How weights are kept: trained (one f32 tensor), or frozen as f32, f16, bf16, int8, int4, q8_0, q4_0, q4_k, q6_k
  // (adapt/packed.h).
  std::vector<std::string> weights = {"trained"};
};

// A full training step (forward, backward, clipping, AdamW).
struct BenchTrainOptions : BenchModels {
  BenchOptions bench;
  std::vector<std::string> dtype = {"f32"};  // what activations are stored in
  std::vector<std::string> memory_budget = {"none"};
  int64_t steps = 16;  // in a sample, which is their mean
  int64_t lora = 0;    // rank of adapters at all matrices but the head, over frozen weights (f32 for trained); 0: none
};
void bench_train(const BenchTrainOptions& options);

// From a model's description to the first submission of its training step, by stage, with an empty
// cache of shaders and with one that the run before filled. Parameters are not initialised and
// nothing runs, so what the driver compiles at a first run does not count. Of GPT-2's smallest size
// unless a name, lists or `keys` say otherwise.
struct BenchStartupOptions : BenchModels {
  BenchStartupOptions() {
    bench.repetitions = 3;
    bench.warmup = 0;
    unnamed = {.vocab_size = 50257, .block_size = 1024, .n_layer = 12, .n_embd = 768, .n_head = 12, .batch_size = 1};
  }
  BenchOptions bench;
  std::vector<std::string> keys;
};
void bench_startup(const BenchStartupOptions& options);

// A forward pass to the logits of every token. `keys` are further keys of the model, as
// --key=value.
struct BenchForwardOptions : BenchModels {
  BenchOptions bench;
  bool profile = false;  // kernel times on stderr
  std::vector<std::string> keys;
};
void bench_forward(const BenchForwardOptions& options);

// Greedy text with a key/value cache: prompt_length tokens are given, new_tokens written;
// block_size follows from them.
struct BenchGenerateOptions : BenchModels {
  BenchOptions bench;
  std::vector<int64_t> prompt_length = {16}, new_tokens = {16};
  std::vector<std::string> cache_type = {"f32"};  // names of generate/cache_type.h
  bool profile = false;
  std::vector<std::string> keys;
};
void bench_generate(const BenchGenerateOptions& options);

// Where the time of a training step goes: kernels by shape, timed alone and as they overlap,
// against ceilings that are measured on the device. `subject` is a configuration file (the keys of
// train and of a model, and `members`) or the name of a study, whose largest cell is taken; empty:
// the defaults with `keys`.
//
//   OUT/profile.html       one page: table, roofline, treemap, timeline, every kernel's source
//   OUT/profile.json       all numbers; what --compare reads
//   OUT/profile.csv        a line a row
//   OUT/trace.json         for Perfetto; OUT/speedscope.json for speedscope
struct ProfileCommandOptions {
  std::string subject;
  std::string out = "runs/profile";
  std::string compare;  // a profile.json
  int64_t steps = 20;   // replays in each mode
  std::string device;
  bool measure_ceilings = false;     // again, although there is a file of them
  std::vector<std::string> command;  // for the page
  std::vector<std::string> keys;
};
void profile(const ProfileCommandOptions& options);

// Character-level training on a text file, nanoGPT's way. `keys` are its key names and those of a
// model. A line a logging interval on stdout.
//
//   OUT/config.toml    the resolved configuration: --config reads it back
//   OUT/env.json, OUT/metrics.jsonl
//   OUT/checkpoint/    see checkpoint.h; config.json also has "vocabulary", in token order
//
// UserError, nothing changed, when OUT holds a run and `resume` is not given. With `resume` the run
// goes on from its newest checkpoint (from the start, if it was stopped before the first) to the
// same bits; its configuration is that of OUT, and only what does not change a result may differ.
struct TrainOptions {
  std::string out = "runs/train";
  std::string config;  // TOML file, read before `keys`
  bool resume = false;
  std::string device;
  std::vector<std::string> command;  // for env.json
  std::vector<std::string> keys;
};
void train(const TrainOptions& options);
std::string train_help();  // the keys with their defaults

// A model that others trained learns rows of texts, or which of two answers is preferred: `keys` are TRL's and PEFT's
// (finetune_help()). A line a logging interval on stdout.
//   sft      texts, or a head of labels
//   dpo      prefers as the rows do, beside a frozen reference (2305.18290), which is the model as it began
//   reward   a head of one score, by which what is chosen is above what is rejected
//
//   OUT/config.toml, OUT/env.json, OUT/metrics.jsonl, OUT/report.html
//   OUT/data/             the rows as tokens
//   OUT/checkpoint/       what trains, without the base
//   OUT/adapter_config.json, OUT/adapter_model.safetensors   PEFT's two files
//   OUT/model/            of full and partial: the model as a folder of Hugging Face's
//   OUT/members/          the same files of each model of several
//   OUT/labels.json       with num_labels, beside the two files: names by number, and problem_type
//
// UserError, nothing changed, when OUT holds a run and `resume` is not given. With `resume` it goes on to the same
// bits: of the same base, by the hash of its tensors, and the same rows.
enum class FinetuneObjective : uint8_t { sft, dpo, reward };
struct FinetuneOptions {
  FinetuneObjective objective = FinetuneObjective::sft;
  std::string model;
  std::string out = "runs/finetune";
  std::string config;  // TOML file, read before `keys`
  bool resume = false;
  std::string device;
  std::vector<std::string> command;  // for env.json
  std::vector<std::string> keys;
};
void finetune(const FinetuneOptions& options);
std::string finetune_help(FinetuneObjective objective);  // the keys with their defaults

// What a head of labels says of texts, a JSON line a text on stdout: text, label, probability, probabilities; of
// several labels those whose sigmoid reaches the threshold, and all; of a regression its score. Rows that are labelled
// have what was expected, and on stderr stands the share that is right, micro F1, or the mean squared error with
// Pearson's correlation. Texts that are longer than the model reads are cut. UserError: a model without a head of
// labels, an adapter without labels.json, a row without a text.
struct ClassifyOptions {
  std::string model;
  std::string adapter;             // folder of a run of finetune with num_labels; empty: the model has the head
  std::string data;                // JSON lines with text, perhaps text_pair, and label or labels where known, or ..
  std::vector<std::string> texts;  // .. these
  std::vector<std::string> pairs;  // what stands behind each of them; empty: nothing
  double threshold = 0.5;
  int64_t batch_size = 16;
  std::string device;
};
void classify(const ClassifyOptions& options);

// A model with what an adapter learned in its weights, in the form of others' files: dequantized, merged, and stored as
// they were or as `type` says. With a text, its perplexity with the adapter beside the model, and merged.
struct MergeOptions {
  std::string model;
  std::string adapter;  // folder
  std::string out;      // a folder, or a file that ends in .gguf
  std::string type;     // of matrices; empty: as they are
  std::string text;     // a file
  int64_t context = 0;  // tokens that are read at once; 0: what the model was made for, at most 2048
  std::string device;
};
void merge(const MergeOptions& options);

// Text from a checkpoint of train(). Draws are counter-based: the same seed gives the same text.
struct SampleOptions {
  std::string directory = "runs/train";  // a run, its checkpoint folder, or one save
  std::string start = "\n";
  int64_t num_samples = 1;
  int64_t max_new_tokens = 500;
  double temperature = 0.8;  // 0: always the most likely token
  int64_t top_k = 200;       // of the most likely tokens only; 0: all
  double top_p = 1;          // of the fewest tokens that have this share together
  uint32_t seed = 1337;
  std::string device;
};
void sample(const SampleOptions& options);

// A model (a folder as Hugging Face has it, a GGUF file, a run of train()) in the form of others' files: a folder, or
// one file where `out` ends in .gguf. What was written goes to stdout. See models/hub/export.h.
struct ExportOptions {
  std::string model;
  std::string out;
  std::string type;  // of matrices; empty: as they are
};
void export_model(const ExportOptions& options);

// The same with matrices in few bits, as a GGUF file. With a text its perplexity before and after, as evaluate() has
// it.
struct QuantizeOptions {
  std::string model;
  std::string out;
  std::string text;     // a file
  int64_t context = 0;  // tokens that are read at once; 0: what the model was made for, at most 2048
  std::string device;
  std::string type;  // q8_0, q4_0, q4_k, q6_k
};
void quantize(const QuantizeOptions& options);

// A text as tokens. MODEL is a folder, or one of the files that text::load_tokenizer() takes. As JSON: `ids` with the
// special tokens, `ids_plain` without, `tokens`, and `decoded`, the text of `ids` without special tokens.
struct TokenizeOptions {
  std::string model;
  std::optional<std::string> text;  // this or a file
  std::string file;
  std::string format = "text";  // or json
};
void tokenize(const TokenizeOptions& options);

// A conversation as the text that a model continues, by the chat template of its folder. FILE.json is a list of
// messages, or an object with `messages` and what else the template knows (tools, bos_token, ..).
struct TemplateOptions {
  std::string model;
  std::string file;      // a template of its own
  std::string name;      // of several
  std::string messages;  // FILE.json
  bool add_generation_prompt = false;
  std::optional<std::string> date;  // what strftime_now gives, instead of the present
  std::string format = "text";      // or json
};
void render_template(const TemplateOptions& options);

// Trains a byte-level byte-pair encoding and writes OUT/tokenizer.json.
struct TrainTokenizerOptions {
  std::vector<std::string> data;
  std::string out;
  int64_t vocab_size = 1024;
};
void train_tokenizer(const TrainTokenizerOptions& options);

// report.html of a run directory, or of all run directories in DIR.
void report(const std::string& directory);

}  // namespace surtsey::experiments::commands
