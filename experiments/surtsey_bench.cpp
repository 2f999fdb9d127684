// `surtsey bench ..`: its part of the command line.
#include "experiments/command_line.h"

namespace surtsey::experiments {

void CommandLineParts::add_bench_options(CLI::App* command, commands::BenchOptions& options) {
  command->add_option("-o,--output", options.format, "md, json, jsonl or csv");
  command->add_option("-r,--repetitions", options.repetitions, "samples")->check(from_one_to(kMostSamples));
  command->add_option("--warmup", options.warmup, "samples that are thrown away first")->check(at_most(kMostSamples));
  command->add_option("--device", options.device.select, "index, name or UUID");
  command->add_option("--variant", options.variant, "of matmul: lane_broadcast, shared_tile or cooperative");
}

void CommandLineParts::add_models(CLI::App* command, commands::BenchModels& models) {
  add_list(command, "--model", models.model, "by name: d12, GPT-2-124M, SmolLM2-135M, Qwen2.5-0.5B, TinyLlama-1.1B");
  const auto add = [&](const char* name, std::vector<int64_t>& list, const char* letter, int64_t unnamed) {
    add_list(command, name, list, fmt::format("{}; without --model {}", letter, unnamed).c_str());
  };
  add("--vocab_size", models.vocab_size, "V", models.unnamed.vocab_size);
  add("--n_layer", models.n_layer, "L", models.unnamed.n_layer);
  add("--n_embd", models.n_embd, "C", models.unnamed.n_embd);
  add("--n_head", models.n_head, "H", models.unnamed.n_head);
  add("--batch_size", models.batch_size, "B", models.unnamed.batch_size);
  add_list(command, "--members", models.members, "ensemble members");
}

void CommandLineParts::add_bench() {
  CLI::App* bench = app_.add_subcommand("bench", "measure; comma lists make a cross product");
  bench->require_subcommand(1);

  auto matmul = keep<commands::BenchMatmulOptions>();
  CLI::App* command = bench->add_subcommand("matmul", "C = A B in f32");
  add_bench_options(command, matmul->bench);
  add_list(command, "--m", matmul->m, "rows of A");
  add_list(command, "--n", matmul->n, "columns of B");
  add_list(command, "--k", matmul->k, "columns of A");
  add_list(command, "--layout", matmul->layout, "nn, nt, tn, tt: how A and B are stored");
  add_list(command, "--dtype", matmul->dtype, "of A and B: f32, bf16, f16; sums are f32");
  on(command, matmul, commands::bench_matmul);

  auto attention = keep<commands::BenchAttentionOptions>();
  command = bench->add_subcommand("attention", "attention: a kernel against its primitives");
  add_bench_options(command, attention->bench);
  add_list(command, "--B", attention->batch, "batch");
  add_list(command, "--H", attention->heads, "heads");
  add_list(command, "--T", attention->length, "queries and keys");
  add_list(command, "--D", attention->width, "width of a head");
  add_list(command, "--causal", attention->causal, "on, off");
  add_list(command, "--pass", attention->pass, "forward, backward");
  on(command, attention, commands::bench_attention);

  auto reduce = keep<commands::BenchReduceOptions>();
  command = bench->add_subcommand("reduce", "softmax, norms, losses, sums, embeddings, by rows");
  add_bench_options(command, reduce->bench);
  add_list(command, "--op", reduce->op, "softmax, layer_norm, rms_norm, cross_entropy, column_sum, embedding");
  add_list(command, "--rows", reduce->rows, "rows, or tokens");
  add_list(command, "--width", reduce->width, "numbers in a row");
  add_list(command, "--pass", reduce->pass, "forward, backward");
  command->add_option("--vocab_size", reduce->vocab_size, "rows of the embedding's table")
      ->check(from_one_to(kMostExtent));
  on(command, reduce, commands::bench_reduce);

  auto retrieve = keep<commands::BenchRetrieveOptions>();
  command = bench->add_subcommand("retrieve", "the best of n vectors, exactly, beside what copying them takes");
  add_bench_options(command, retrieve->bench);
  add_list(command, "--n", retrieve->n, "vectors");
  add_list(command, "--width", retrieve->width, "numbers of a vector");
  add_list(command, "--queries", retrieve->queries, "that are asked at once");
  add_range(command, "--top", retrieve->top, 1, 1024, "that are found");
  on(command, retrieve, commands::bench_retrieve);

  auto train = keep<commands::BenchTrainOptions>();
  command = bench->add_subcommand("train", "a training step of a decoder");
  add_bench_options(command, train->bench);
  add_list(command, "--block_size", train->block_size, "T");
  add_models(command, *train);
  add_list(command, "--dtype", train->dtype, "of activations: f32, bf16, f16");
  add_list(command, "--memory_budget", train->memory_budget, "of a step: none, 512MiB, 2.5GiB, 0.5x of its need");
  add_list(command, "--weights", train->weights, "of the base under --lora: f32, f16, bf16, q8_0, q4_0, ..");
  command->add_option("--steps", train->steps, "in a sample, which is their mean")->check(from_one_to(kMostSamples));
  command->add_option("--lora", train->lora, "rank of adapters that train, a member's own, over one frozen model")
      ->check(at_most(1024));
  on(command, train, commands::bench_train);

  auto startup = keep<commands::BenchStartupOptions>();
  command =
      bench->add_subcommand("startup", "from a model to the first submission, by stage; takes further keys of a model");
  add_bench_options(command, startup->bench);
  add_list(command, "--block_size", startup->block_size, "T");
  add_models(command, *startup);
  on_with_keys(command, startup, commands::bench_startup);

  auto forward = keep<commands::BenchForwardOptions>();
  command = bench->add_subcommand("forward", "a forward pass; takes further keys of a model");
  add_bench_options(command, forward->bench);
  add_list(command, "--block_size", forward->block_size, "T");
  add_models(command, *forward);
  add_list(command, "--weights", forward->weights,
           "trained, or frozen as f32, f16, bf16, int8, int4, q8_0, q4_0, q4_k, q6_k");
  command->add_flag("--profile", forward->profile, "time by kernel, on stderr");
  on_with_keys(command, forward, commands::bench_forward);

  auto generate = keep<commands::BenchGenerateOptions>();
  command = bench->add_subcommand("generate", "greedy text with a key/value cache; takes further keys of a model");
  add_bench_options(command, generate->bench);
  add_list(command, "--prompt_length", generate->prompt_length, "tokens that are given");
  add_list(command, "--new_tokens", generate->new_tokens, "tokens that are written");
  add_models(command, *generate);
  add_list(command, "--weights", generate->weights,
           "trained, or frozen as f32, f16, bf16, int8, int4, q8_0, q4_0, q4_k, q6_k");
  add_list(command, "--cache_type", generate->cache_type, "of keys and values: f32, f16, q8_0");
  command->add_flag("--profile", generate->profile, "time of decode by kernel, on stderr");
  on_with_keys(command, generate, commands::bench_generate);
}

}  // namespace surtsey::experiments
