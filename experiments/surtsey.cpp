// build/surtsey: the umbrella tool. Reads the command line; experiments/commands/ does the work.
// Exit status: see base/exit_status.h.
#include "experiments/base/config.h"
#include "experiments/base/exit_status.h"
#include "experiments/base/version.h"
#include "experiments/command_line.h"
#include "experiments/commands/commands.h"
#include "experiments/commands/sweep.h"
#include "graph/debug.h"

#include <algorithm>

namespace surtsey::experiments {
namespace {

class CommandLine : private CommandLineParts {
 public:
  CommandLine() {
    app_.name("surtsey");
    app_.require_subcommand(1);
    app_.set_version_flag("--version", fmt::format("surtsey {} ({})", kVersion, kCommit));
    app_.footer([] {
      std::string text = "Environment:\n";
      for (const EnvironmentVariable& variable : environment_variables()) {
        text += fmt::format("  {:22} {}\n", variable.name, variable.help);
      }
      return text + exit_status_help();
    });
    add_devices();
    add_ops();
    add_inspect();
    add_bench();
    add_analyze();
    add_selftest();
    add_tune();
    add_profile();
    add_train();
    add_finetune();
    add_sample();
    add_generate();
    add_serve();
    add_logits();
    add_evaluate();
    add_index();
    add_export();
    add_text();
    add_report();
    add_sweep();
    check_limits(app_);
  }

  int run(int argc, char** argv) {
    arguments_.assign(argv, argv + argc);
    if (argc > 1 && argv[1][0] != '-') check_command(app_, argv[1]);
    try {
      std::vector<std::string> words = with_joined_keys({argv + 1, argv + argc});
      std::reverse(words.begin(), words.end());  // as CLI11 takes them
      app_.parse(std::move(words));
    } catch (const CLI::ParseError& error) {
      if (error.get_exit_code() == 0) return app_.exit(error);
      throw CommandLineError(fmt::format("{} (see `surtsey --help`)", error.what()));
    }
    action_();
    return kDoneStatus;
  }

 private:
  static void check_command(const CLI::App& app, const std::string& name) {
    std::vector<std::string> names;
    for (const CLI::App* command : app.get_subcommands(nullptr)) {
      names.push_back(command->get_name());
      names.insert(names.end(), command->get_aliases().begin(), command->get_aliases().end());
    }
    const bool known = std::find(names.begin(), names.end(), name) != names.end();
    const std::string near = nearest_word(name, names);
    if (known) return;
    throw CommandLineError(fmt::format("there is no command '{}'{}; there are {}", name,
                                       near.empty() ? "" : fmt::format(", did you mean '{}'?", near),
                                       fmt::join(names, ", ")));
  }

  // A number without limits would take nan, and its errors would name no range.
  static void check_limits(CLI::App& app) {
    for (CLI::Option* option : app.get_options()) {
      const std::string type = option->get_type_name();
      const bool unlimited = type == "INT" || type == "UINT" || type == "FLOAT";
      bool held = false;
      try {
        held = option->get_validator(0) != nullptr;
      } catch (const CLI::OptionNotFound&) {
      }
      ensure(held || !unlimited, "{} {} is a number without limits", app.get_name(), option->get_name());
    }
    for (CLI::App* command : app.get_subcommands({})) check_limits(*command);
  }

  // "--key value" as "--key=value" where --key is none of the command's own options: CLI11 leaves both to who reads the
  // keys, but would take the value for MODEL where that is not given, as under --resume.
  std::vector<std::string> with_joined_keys(const std::vector<std::string>& words) {
    std::vector<std::string> joined;
    CLI::App* command = &app_;
    for (size_t i = 0; i < words.size(); ++i) {
      const std::string& word = words[i];
      const bool has_next = i + 1 < words.size(), is_option = word.size() > 1 && word.starts_with('-');
      joined.push_back(word);
      if (!is_option) {
        if (joined.size() > 2) continue;
        for (CLI::App* inner : command->get_subcommands({})) {
          if (inner->get_name() == word) command = inner;
        }
        continue;
      }
      const CLI::Option* option = command->get_option_no_throw(word);
      if (option != nullptr) {
        if (has_next && option->get_items_expected_max() > 0) joined.push_back(words[++i]);
      } else if (command->get_allow_extras() && word.starts_with("--") && word.size() > 2 &&
                 word.find('=') == word.npos && has_next && !words[i + 1].starts_with("--")) {
        joined.back() += "=" + words[++i];
      }
    }
    return joined;
  }

  void add_devices() {
    auto options = keep<commands::DevicesOptions>();
    CLI::App* command = app_.add_subcommand("devices", "list the Vulkan devices of this machine");
    command->add_flag("--json", options->json, "as JSON");
    command->add_option("--device", options->select, "which one this would choose");
    on(command, options, commands::devices);
  }

  void add_ops() {
    auto format = std::make_shared<std::string>("text");
    CLI::App* command = app_.add_subcommand("ops", "the op table as a page");
    command->add_option("--format,-o", *format, "text, md or html");
    on(command, format, commands::ops);
  }

  void add_inspect() {
    auto options = keep<commands::InspectOptions>();
    CLI::App* command =
        app_.add_subcommand("inspect", "what the compiler makes of a model; configure it with --key=value");
    command->add_option("--program", options->program, "train or forward");
    command->add_option("--target", options->target,
                        "compile for a preset (minimal, lavapipe, swiftshader, intel, amd, nvidia, "
                        "mobile) instead of a device");
    command->add_option("--device", options->device, "index, name or UUID");
    command->add_option("--config", options->config, "TOML file, or config.json of a checkpoint");
    command->add_option("--show", options->show, fmt::format("{}, all", fmt::join(commands::kInspectViews, ", ")))
        ->delimiter(',');
    command->add_option("--kernel", options->kernel, "GLSL and SPIR-V of kernels with this in the name");
    command->add_option("--out", options->out, "write files into this folder instead");
    command->add_option("--members", options->members, "ensemble members")->check(from_one_to(kMostMembers));
    command->add_option("--addressing", options->addressing, "address or descriptor");
    command->add_option("--variant", options->variant, "of matmul: lane_broadcast, shared_tile or cooperative");
    command->add_flag("--no-fusion", options->no_fusion, "a kernel for every node");
    on_with_keys(command, options, commands::inspect);
  }

  void add_analyze() {
    auto options = keep<commands::AnalyzeOptions>();
    CLI::App* command =
        app_.add_subcommand("analyze",
                            "registers, spills, occupancy and ISA of a model's kernels on GPUs that are not here: "
                            "[CONFIG|STUDY] --target amd:navi21,.. --key=value");
    command->add_option("--target", options->request.targets, "VENDOR:FAMILY, a list: amd:vega10,amd:navi21")
        ->delimiter(',')
        ->allow_extra_args(false);
    command->add_flag("--list", options->list, "say which targets this machine's drivers know");
    command->add_option("--program", options->program, "train or forward");
    command->add_option("-o,--output", options->request.format, "text, md, json, csv or html");
    command->add_option("--isa", options->request.isa, "write the ISA of each kernel into this folder");
    command
        ->add_option("--fail-on", options->request.fail_on,
                     "end with an error when a kernel has any: spills, scratch_bytes")
        ->delimiter(',')
        ->allow_extra_args(false);
    command->allow_extras();
    command->callback([this, command, options] {
      options->keys = command->remaining();
      action_ = [options] { commands::analyze(*options); };
    });
  }

  void add_selftest() {
    auto options = keep<commands::SelftestOptions>();
    CLI::App* command =
        app_.add_subcommand("selftest", "check a device against the interpreter: every op, and a short training run");
    command->add_option("--device", options->device, "index, name or UUID");
    command->add_option("--out", options->out, "the report (selftest-DEVICE.md)");
    command->add_flag("--quick", options->quick, "the device's own variants only");
    on(command, options, commands::selftest);
  }

  void add_tune() {
    auto options = keep<commands::TuneCommandOptions>();
    CLI::App* command =
        app_.add_subcommand("tune",
                            "measure how a model's products and reductions are best cut, keep it; configure it with "
                            "--key=value");
    command->add_option("--program", options->program, "train or forward");
    command->add_option("--device", options->device, "index, name or UUID");
    command->add_option("--config", options->config, "TOML file, or config.json of a checkpoint");
    command->add_option("--members", options->members, "ensemble members")->check(from_one_to(kMostMembers));
    command->add_option("--rounds", options->rounds, "samples of each candidate, which take turns")
        ->check(from_one_to(kMostSamples))
        ->capture_default_str();
    command->add_option("-o,--output", options->format, "md, json, jsonl or csv");
    on_with_keys(command, options, commands::tune);
  }

  void add_profile() {
    auto options = keep<commands::ProfileCommandOptions>();
    CLI::App* command =
        app_.add_subcommand("profile", "where the time of a training step goes; configure it with --key=value");
    command->add_option("SUBJECT", options->subject,
                        "TOML file of train's keys, or the name of a study: its largest cell");
    add_range(command, "--steps", options->steps, 1, 100'000, "replays in each mode");
    command->add_option("--out", options->out, "folder of the page and its data")->capture_default_str();
    command->add_option("--compare", options->compare,
                        "profile.json of another run: lists what became slower beyond its spread");
    command->add_option("--device", options->device, "index, name or UUID");
    command->add_flag("--measure-ceilings", options->measure_ceilings, "measure the device's ceilings again");
    command->allow_extras();
    command->callback([this, command, options] {
      options->keys = command->remaining();
      options->command = arguments_;
      action_ = [options] { commands::profile(*options); };
    });
  }

  void add_train() {
    auto options = keep<commands::TrainOptions>();
    CLI::App* command =
        app_.add_subcommand("train", "train on a text file, by characters or tokens: --data FILE, then --key=value");
    command->add_option("--out", options->out, "folder of the run")->capture_default_str();
    command->add_option("--config", options->config, "TOML file, read before the keys");
    command->add_flag("--resume", options->resume, "go on from the newest checkpoint in --out");
    command->add_option("--device", options->device, "index, name or UUID");
    command->footer(commands::train_help);
    command->allow_extras();
    command->callback([this, command, options] {
      options->keys = command->remaining();
      options->command = arguments_;
      action_ = [options] { commands::train(*options); };
    });
  }

  CLI::App* add_finetune(commands::FinetuneObjective objective, const char* name, const char* help) {
    auto options = keep<commands::FinetuneOptions>();
    options->objective = objective;
    options->out = fmt::format("runs/{}", name);
    CLI::App* command = app_.add_subcommand(name, help);
    command->add_option("MODEL", options->model, "folder, GGUF file, run or checkpoint");
    command->add_option("--out", options->out, "folder of the run")->capture_default_str();
    command->add_option("--config", options->config, "TOML file, read before the keys");
    command->add_flag("--resume", options->resume, "go on from the newest checkpoint in --out");
    command->add_option("--device", options->device, "index, name or UUID");
    command->footer([objective] { return commands::finetune_help(objective); });
    command->allow_extras();
    command->callback([this, command, options] {
      options->keys = command->remaining();
      options->command = arguments_;
      action_ = [options] { commands::finetune(*options); };
    });
    return command;
  }

  void add_finetune() {
    using commands::FinetuneObjective;
    add_finetune(FinetuneObjective::sft, "finetune",
                 "teach a model that others trained: MODEL --data FILE --method lora, then --key=value")
        ->alias("sft");
    add_finetune(FinetuneObjective::dpo, "dpo",
                 "teach it what is preferred: rows of prompt, chosen and rejected, then as finetune");
    add_finetune(FinetuneObjective::reward, "reward",
                 "a model of rewards from such rows: a head of one score (Bradley and Terry)");

    auto classify = keep<commands::ClassifyOptions>();
    CLI::App* command = app_.add_subcommand("classify", "what a head of labels says of texts: labels, or numbers");
    command->add_option("MODEL", classify->model, "folder, GGUF file, run or checkpoint")->required();
    command->add_option("--adapter", classify->adapter,
                        "a run of finetune with num_labels; without it MODEL classifies");
    command->add_option("--data", classify->data,
                        "JSON lines with text, text_pair or none, and label where it is known");
    command->add_option("--text", classify->texts, "a text; may be given again")->check(utf8());
    command->add_option("--text_pair", classify->pairs, "what stands behind a text; as often as --text")->check(utf8());
    add_range(command, "--threshold", classify->threshold, 1e-6, 1 - 1e-6,
              "of several labels: the sigmoid from which one is given");
    add_range(command, "--batch_size", classify->batch_size, 1, 4096, "texts at once");
    command->add_option("--device", classify->device, "index, name or UUID");
    on(command, classify, commands::classify);

    auto merge = keep<commands::MergeOptions>();
    command = app_.add_subcommand("merge", "write a model with what an adapter learned in its weights");
    command->add_option("MODEL", merge->model, "folder, GGUF file, run or checkpoint")->required();
    command->add_option("ADAPTER", merge->adapter, "folder of the adapter")->required();
    command->add_option("--out", merge->out, "a new folder, or a file that ends in .gguf")->required();
    command->add_option("--type", merge->type, "of matrices: f32, f16, bf16; GGUF also q8_0, q4_0, q4_k, q6_k");
    command->add_option("--text", merge->text, "a text whose perplexity is told, with the adapter beside and merged");
    command->add_option("--context", merge->context, "tokens of it that are read at once")->check(at_most(kMostExtent));
    command->add_option("--device", merge->device, "index, name or UUID, for --text");
    on(command, merge, commands::merge);
  }

  void add_sample() {
    auto options = keep<commands::SampleOptions>();
    CLI::App* command = app_.add_subcommand("sample", "text from a checkpoint of train");
    command->add_option("DIR", options->directory, "run or checkpoint")->capture_default_str();
    command->add_option("--start", options->start, "what the text begins with");
    add_range(command, "--num_samples", options->num_samples, 1, 1 << 16, "texts");
    add_range(command, "--max_new_tokens", options->max_new_tokens, 0, 1 << 30, "tokens that are written");
    add_range(command, "--temperature", options->temperature, 0, 1e6, "0: always the most likely token");
    add_range(command, "--top_k", options->top_k, 0, 1 << 30, "of the k most likely only; 0: all");
    add_range(command, "--top_p", options->top_p, 1e-9, 1, "of the fewest with this share together");
    add_range(command, "--seed", options->seed, 0, UINT32_MAX, "of what is drawn");
    command->add_option("--device", options->device, "index, name or UUID");
    on(command, options, commands::sample);
  }

  static constexpr const char* kAdapterHelp = "a folder of PEFT's: a LoRA adapter over the model";

  // How a model that others trained is kept, and what is put on it.
  template <typename Options>
  static void add_weights(CLI::App* command, Options& options) {
    command
        ->add_option("--weights", options.weights,
                     "stored: as the file has them; f32, f16, bf16, int8, int4, q8_0, q4_0, q4_k or q6_k")
        ->capture_default_str();
    command->add_option("--cache_type", options.cache_type, "keys and values in f32, f16 (half) or q8_0 (a quarter)")
        ->capture_default_str();
    command->add_option("--adapter", options.adapter, kAdapterHelp);
  }

  void add_generate() {
    auto options = keep<commands::GenerateOptions>();
    CLI::App* command = app_.add_subcommand("generate", "a model that others trained goes on with a text");
    command->add_option("MODEL", options->model, "Hugging Face folder or GGUF file")->required();
    command->add_option("--prompt", options->prompt, "what the text begins with")->check(utf8());
    command->add_flag("--chat", options->chat, "a conversation, a line of stdin at a time, until its end or /exit");
    command->add_option("--system", options->system, "what the conversation begins with")->check(utf8());
    command->add_option("--template", options->chat_template, "a chat template of its own, a file");
    command->add_option("--context", options->context, "tokens, the prompt included")->check(at_most(kMostExtent));
    add_weights(command, *options);
    add_retrieve(command, options->retrieve);
    add_range(command, "--seed", options->seed, 0, UINT64_MAX, "of what is drawn");
    command->add_option("-o", options->format, "text or json")->capture_default_str();
    command->add_option("--device", options->device, "index, name or UUID");
    command->footer("--key=value for the keys of generation_config.json: max_new_tokens, do_sample, temperature, ..");
    on_with_keys(command, options, commands::generate);
  }

  void add_serve() {
    auto options = keep<commands::ServeOptions>();
    CLI::App* command = app_.add_subcommand("serve", "a model that others trained over HTTP, by OpenAI's endpoints");
    command->add_option("MODEL", options->model, "Hugging Face folder, GGUF file, run or checkpoint")->required();
    command->add_option("--host", options->host, "address; one that others reach needs a key")->capture_default_str();
    add_range(command, "--port", options->port, 0, 65535, "0: any that is free");
    command->add_option("--api_key", options->api_key, "that clients have to bear");
    command->add_option("--api_key_file", options->api_key_file, "a file that holds it");
    add_range(command, "--max_batch", options->max_batch, 1, 1024, "texts at once");
    command->add_option("--context", options->context, "tokens of a text, all of it")->check(at_most(kMostExtent));
    add_weights(command, *options);
    command->add_option("--adapters", options->adapters, "NAME=FOLDER,..: of which a request's \"model\" chooses")
        ->delimiter(',');
    add_retrieve(command, options->retrieve);
    command->add_option("--name", options->name, "of the model, in answers");
    command->add_option("--chat_template", options->chat_template, "a file, instead of the model's own");
    add_range(command, "--queue", options->queue, 1, 1 << 20, "texts that may wait");
    add_range(command, "--max_body", options->max_body, 1024, 1 << 30, "bytes of a request");
    add_range(command, "--connections", options->connections, 1, 900, "at once");
    add_range(command, "--request_seconds", options->request_seconds, 1.0, 1e6, "that an answer may take");
    command->add_flag("--log_prompts", options->log_prompts, "prompts to stderr");
    command->add_flag("--quiet", options->quiet, "no line a request");
    command->add_option("--device", options->device, "index, name or UUID");
    on(command, options, commands::serve);

    auto plan = keep<commands::PlanOptions>();
    command = app_.add_subcommand("plan", "what a model that others trained would take of a device");
    command->add_option("MODEL", plan->model, "Hugging Face folder, GGUF file, run or checkpoint")->required();
    add_range(command, "--max_batch", plan->max_batch, 1, 1024, "texts at once");
    command->add_option("--context", plan->context, "tokens of a text, prompt included")->check(at_most(kMostExtent));
    add_weights(command, *plan);
    command->add_option("-o", plan->format, "text or json")->capture_default_str();
    command->add_option("--device", plan->device, "index, name or UUID");
    on(command, plan, commands::plan_model);
  }

  void add_logits() {
    auto options = keep<commands::LogitsOptions>();
    CLI::App* command = app_.add_subcommand("logits", "what a model that others trained puts out for token ids");
    command->add_option("MODEL", options->model, "Hugging Face folder, safetensors or GGUF file")->required();
    command->add_option("--input", options->input, "JSON with input_ids, and what else the model takes")->required();
    command->add_option("--adapter", options->adapter, kAdapterHelp);
    command->add_option("-o", options->format, "json or text")->capture_default_str();
    command->add_option("--device", options->device, "index, name or UUID");
    on(command, options, commands::logits);
  }

  void add_evaluate() {
    auto options = keep<commands::EvaluateOptions>();
    CLI::App* command = app_.add_subcommand("evaluate", "a model's answers to files of items, and their scores");
    command->add_option("MODEL", options->model, "Hugging Face folder, GGUF file, run or checkpoint")->required();
    command->add_option("--tasks", options->tasks, "task files (.toml), items (.jsonl), texts (.txt)")
        ->required()
        ->delimiter(',');
    command->add_option("--shots", options->shots, "examples before an item, instead of the task's own number")
        ->check(at_most(kMostExtent));
    add_range(command, "--seed", options->seed, 0, UINT32_MAX, "which shots, in what order");
    command->add_option("--limit", options->limit, "the first so many items of each task")->check(at_most(kMostExtent));
    command->add_option("--out", options->out, "folder for results.json and samples");
    command->add_flag("--resume", options->resume, "go on with the evaluation in --out");
    command->add_option("--context", options->context, "tokens that are read at once")->check(at_most(kMostExtent));
    add_weights(command, *options);
    add_retrieve(command, options->retrieve);
    add_range(command, "--batch_size", options->batch_size, 1, kMostSamples, "texts that are written at once");
    command->add_flag("--add_bos_token", options->add_bos_token, "the model's first token before every prompt");
    command->add_flag("--apply_chat_template", options->apply_chat_template, "a prompt is a user's message");
    command->add_option("--window", options->window, "of a perplexity: tokens that are read at once")
        ->check(at_most(kMostExtent));
    command->add_option("--stride", options->stride, "and tokens that are scored at a time")
        ->check(at_most(kMostExtent));
    command->add_option("-o", options->format, "text or json")->capture_default_str();
    command->add_option("--device", options->device, "index, name or UUID");
    command->callback([this, options] {
      options->command = arguments_;
      action_ = [options] { commands::evaluate(*options); };
    });
  }

  void add_export() {
    auto options = keep<commands::ExportOptions>();
    CLI::App* command = app_.add_subcommand("export", "write a model as a folder of Hugging Face's form or as GGUF");
    command->add_option("MODEL", options->model, "folder, GGUF file, run or checkpoint")->required();
    command->add_option("--out", options->out, "a new folder, or a file that ends in .gguf")->required();
    command->add_option("--type", options->type, "of matrices: f32, f16, bf16; GGUF also q8_0, q4_0, q4_k, q6_k");
    on(command, options, commands::export_model);

    auto quantize = keep<commands::QuantizeOptions>();
    command = app_.add_subcommand("quantize", "write a model as GGUF with weights of few bits");
    command->add_option("MODEL", quantize->model, "folder, GGUF file, run or checkpoint")->required();
    command->add_option("--out", quantize->out, "a file that ends in .gguf")->required();
    command->add_option("--type", quantize->type, "q8_0, q4_0, q4_k, q6_k")->required();
    command->add_option("--text", quantize->text, "a text whose perplexity is told, before and after");
    command->add_option("--context", quantize->context, "tokens of it that are read at once")
        ->check(at_most(kMostExtent));
    command->add_option("--device", quantize->device, "index, name or UUID, for --text");
    on(command, quantize, commands::quantize);
  }

  void add_text() {
    auto tokens = keep<commands::TokenizeOptions>();
    CLI::App* command = app_.add_subcommand("tokenize", "a text as the tokens of a model's folder");
    command->add_option("MODEL", tokens->model, "folder, tokenizer.json or vocab.txt")->required();
    command->add_option("--text", tokens->text, "the text")->check(utf8());
    command->add_option("--file", tokens->file, "a file with the text");
    command->add_option("-o,--output", tokens->format, "text or json")->capture_default_str();
    on(command, tokens, commands::tokenize);

    auto chat = keep<commands::TemplateOptions>();
    command = app_.add_subcommand("template", "a conversation as text, by the chat template of a model's folder");
    command->add_option("MODEL", chat->model, "folder")->required();
    command->add_option("--messages", chat->messages, "JSON: a list of messages, or an object of variables")
        ->required();
    command->add_option("--template", chat->file, "a template of its own, a file");
    command->add_option("--name", chat->name, "of several templates, this one");
    command->add_flag("--add_generation_prompt", chat->add_generation_prompt, "the answer begins at the end");
    command->add_option("--date", chat->date, "what the template takes for the present, as it writes it");
    command->add_option("-o,--output", chat->format, "text or json")->capture_default_str();
    on(command, chat, commands::render_template);

    CLI::App* tokenizer = app_.add_subcommand("tokenizer", "make a tokenizer");
    tokenizer->require_subcommand(1);
    auto train = keep<commands::TrainTokenizerOptions>();
    command = tokenizer->add_subcommand("train", "a byte-level byte-pair encoding of texts");
    command->add_option("--data", train->data, "text files")->required();
    add_range(command, "--vocab_size", train->vocab_size, 1, kMostExtent, "tokens");
    command->add_option("--out", train->out, "folder for tokenizer.json")->required();
    on(command, train, commands::train_tokenizer);
  }

  void add_report() {
    auto directory = std::make_shared<std::string>();
    CLI::App* command = app_.add_subcommand("report", "write report.html of a run, or of all runs in a folder");
    command->add_option("DIR", *directory, "run directory")->required();
    on(command, directory, commands::report);
  }

  void add_sweep() {
    CLI::App* sweep =
        app_.add_subcommand("sweep", "many small trainings: plan a directory, run its packs anywhere, collect a table");
    sweep->require_subcommand(1);

    auto plan = keep<commands::SweepPlanOptions>();
    CLI::App* command =
        sweep->add_subcommand("plan", "cells, parameters, FLOPs, memory and expected time; writes the directory");
    command->add_option("FILE", plan->file, "SWEEP.toml; keys may also follow as --key=value");
    command->add_option("--out", plan->directory, "the sweep's directory")->required();
    command->add_option("--study", plan->study, "plan the packs of this study, with its keys");
    command->add_option("--scale", plan->scale, "with --study: quick, full or paper");
    command->add_option("--device", plan->device, "that packs are cut for and measured on");
    command->add_flag("!--no-measure", plan->measure, "run no steps to estimate the time");
    command->footer(commands::sweep_help);
    command->allow_extras();
    command->callback([this, command, plan] {
      plan->keys = command->remaining();
      action_ = [plan] { commands::sweep_plan(*plan); };
    });

    auto run = keep<commands::SweepRunOptions>();
    command = sweep->add_subcommand("run", "run packs; stop and start it as you like");
    command->add_option("DIR", run->directory, "a planned sweep")->required();
    command->add_option("--index", run->index, "this pack")->check(at_most(kMostExtent));
    command->add_flag("--all", run->all, "every pack that is not finished, the largest first");
    command->add_flag("--only-failed", run->only_failed, "every pack that failed");
    command->add_option("--device", run->devices, "index, name or UUID; a comma list runs on several")->delimiter(',');
    command->callback([this, run] {
      run->command = arguments_;
      action_ = [run] { commands::sweep_run(*run); };
    });

    auto status = keep<commands::SweepStatusOptions>();
    command = sweep->add_subcommand("status", "a line a pack, and the time that is left");
    command->add_option("DIR", status->directory, "a planned sweep")->required();
    command->add_flag("--json", status->json, "as JSON");
    on(command, status, commands::sweep_status);

    auto directory = std::make_shared<std::string>();
    command = sweep->add_subcommand("collect", "write and print the table of what is finished");
    command->add_option("DIR", *directory, "a planned sweep")->required();
    on(command, directory, commands::sweep_collect);

    auto submit = keep<commands::SweepSubmitOptions>();
    command = sweep->add_subcommand("submit", "hand what is not finished to a batch system");
    command->add_option("DIR", submit->directory, "a planned sweep")->required();
    command->add_flag("--slurm", submit->slurm, "as a Slurm job array");
    command->add_flag("--dry", submit->dry, "write the job script only");
    command->add_option("--most", submit->most, "tasks at once; 0: all")->check(at_most(kMostExtent));
    command->add_option("--time", submit->time, "limit of a task, as sbatch takes it");
    command->add_option("--partition", submit->partition, "of sbatch");
    command->add_option("--sbatch", submit->extra, "another option of sbatch, one each time: --sbatch=--gres=gpu:1");
    on(command, submit, commands::sweep_submit);
  }
};

}  // namespace
}  // namespace surtsey::experiments

int main(int argc, char** argv) {
  using namespace surtsey::experiments;
  return guarded("surtsey", [&] { return CommandLine().run(argc, argv); });
}
