// What `surtsey finetune` learns from: files to documents, documents to rows.
#include "experiments/base/join.h"
#include "experiments/commands/finetune.h"
#include "experiments/commands/labels_file.h"
#include "experiments/commands/model_tokenizer.h"
#include "graph/random.h"
#include "shaders/cache_file.h"

#include <algorithm>

namespace surtsey::experiments::commands {
namespace {

namespace fs = std::filesystem;
using tasks::TuningDocuments;

struct Files {
  fs::path train, valid;  // the latter may be empty
};

Files files_of(const std::string& data) {
  check(!data.empty(), "--data is needed: a file of JSON lines, or a folder with train.jsonl");
  std::error_code error;
  if (!fs::is_directory(data, error)) {
    check(fs::exists(data, error), "--data: '{}' cannot be read: there is no such file or folder", data);
    return {data, {}};
  }
  const fs::path folder = data;
  check(fs::is_regular_file(folder / "train.jsonl", error), "--data: '{}' has no train.jsonl", data);
  const bool valid = fs::is_regular_file(folder / "valid.jsonl", error);
  return {folder / "train.jsonl", valid ? folder / "valid.jsonl" : fs::path()};
}

std::string lines_named(const std::vector<int64_t>& lines, int64_t count) {
  return fmt::format("line{} {}{}", count == 1 ? "" : "s", fmt::join(lines, ", "),
                     count > int64_t(lines.size()) ? ", .." : "");
}

void tell(const fs::path& file, const tasks::TuningNotes& notes, int64_t most, std::vector<std::string>& to) {
  const std::string name = file.filename().string();
  if (notes.cut_count > 0)
    to.push_back(fmt::format(
        "{}: {} text{} longer than the {} tokens that max_length has room for ({}; the longest has {}): cut there, "
        "their ends are not learned",
        name, notes.cut_count, notes.cut_count == 1 ? " is" : "s are", most, lines_named(notes.cut, notes.cut_count),
        notes.longest));
  if (notes.dropped_count > 0)
    to.push_back(fmt::format("{}: {} text{} left out, as nothing of {} is left to learn within {} tokens ({})", name,
                             notes.dropped_count, notes.dropped_count == 1 ? " is" : "s are",
                             notes.dropped_count == 1 ? "it" : "them", most,
                             lines_named(notes.dropped, notes.dropped_count)));
  if (notes.joined_count > 0)
    to.push_back(fmt::format(
        "{}: in {} text{} ({}) the prompt's last token and the completion's first are one, which is learned: a prompt "
        "that ends there is read in other tokens. Let the completion begin with the blank",
        name, notes.joined_count, notes.joined_count == 1 ? "" : "s", lines_named(notes.joined, notes.joined_count)));
  if (notes.same_count > 0)
    to.push_back(fmt::format("{}: {} row{} left out, as what is chosen and what is rejected are the same ({})", name,
                             notes.same_count, notes.same_count == 1 ? " is" : "s are",
                             lines_named(notes.same, notes.same_count)));
}

// Whether a document is held out: by its line alone, so that rows that are added change nothing of the others.
bool is_held_out(int64_t line, double share) {
  return double(graph::random_uniform(graph::stream_seed(0, "finetune.held_out"), 0, uint32_t(line))) < share;
}

// All that decides which numbers a row's labels become.
std::string label_settings(const tasks::LabelSet& labels) {
  return fmt::format("{} {} {}", name(labels.problem), labels.zeros_and_ones, join(labels.names, "\n"));
}

// How the rows are labelled, in the words of a base that has a head of as many labels.
tasks::LabelSet labels_asked(const AdaptConfig& config, const hub::Source& model, const fs::path& rows) {
  tasks::LabelRequest request{.count = config.num_labels};
  const hub::Config& base = model.config();
  const bool has = base.head == hub::Head::classification && base.labels == config.num_labels;
  if (has && !has_default_names(base.label_names)) request.known = base.label_names;
  const std::string& word = !config.problem_type.empty() || !has ? config.problem_type : base.problem_type;
  if (!word.empty()) request.problem = tasks::parse_problem_type(word);
  return tasks::labels_of(rows, std::move(request));
}

}  // namespace

FinetuneData::FinetuneData(const FinetuneKeys& keys, const hub::Source& model, const fs::path& out,
                           int64_t most_positions)
    : tokenizer(tokenizer_of(model)) {
  const Files files = files_of(keys.data);
  tasks::TuningEncoding encoding{.completion_only = keys.completion_only_loss,
                                 .assistant_only = keys.assistant_only_loss};
  const int64_t vocabulary = model.config().vocabulary;
  if (!keys.eos_token.empty()) {
    const std::optional<int32_t> named = tokenizer.id(keys.eos_token);
    check(named && *named < vocabulary, "eos_token: the model has no token '{}'", keys.eos_token);
    end_tokens = {*named};
  } else {
    for (const int64_t token : model.generation().tokens.eos)
      if (token >= 0 && token < vocabulary && !tokenizer.token(int32_t(token)).empty())
        end_tokens.push_back(int32_t(token));
  }
  encoding.end_tokens = end_tokens;
  encoding.pairs = keys.pairs();
  if (keys.objective == FinetuneObjective::reward) {
    labels = tasks::LabelSet{.problem = tasks::ProblemType::regression, .names = {"reward"}};
  } else if (keys.adaptation.num_labels > 0) {
    labels = labels_asked(keys.adaptation, model, files.train);
  }
  encoding.labels = labels;
  const std::string chat = template_text(model, keys.chat_template);
  if (!chat.empty()) encoding.chat = template_of(model, tokenizer, keys.chat_template);
  const tasks::TuningEncoder encoder(tokenizer, encoding);

  check(keys.max_length <= most_positions, "max_length {} is more than the {} positions that the model has{}",
        keys.max_length, most_positions, keys.adaptation.num_virtual_tokens > 0 ? " for a text" : "");
  const int64_t room = keys.max_length > 0 ? keys.max_length : std::min(most_positions, FinetuneKeys::kUsualLength);
  const tasks::TuningLimits limits{.most_tokens = labels ? room : room + 1,
                                   .truncation = tasks::parse_truncation(keys.truncation)};
  // All that decides which tokens a row becomes.
  uint64_t settings = shaders::hash64(chat);
  for (const std::string& part :
       {fmt::format("{} {} {} {}", room, keys.truncation, keys.completion_only_loss, keys.assistant_only_loss),
        fmt::format("{}", fmt::join(end_tokens, ",")), labels ? label_settings(*labels) : ""})
    settings = shaders::hash64(part, settings);
  if (keys.pairs()) settings = shaders::hash64("pairs", settings);
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) settings = shaders::hash64(tokenizer.token(id), settings);
  const auto open = [&](const fs::path& file, const char* name) {
    const fs::path tokens_file = out / "data" / name;
    if (!TuningDocuments::is_made(tokens_file, file, settings)) {
      std::error_code error;
      fs::create_directories(tokens_file.parent_path(), error);
      check(!error, "{}: cannot be made: {}", tokens_file.parent_path().string(), error.message());
      tell(file, TuningDocuments::make(file, encoder, limits, settings, tokens_file), limits.most_tokens, notes);
    }
    return std::make_shared<const TuningDocuments>(tokens_file);
  };
  tasks::TuningSource::Part train{.documents = open(files.train, "train.tokens")}, valid;
  if (!files.valid.empty()) valid.documents = open(files.valid, "valid.tokens");
  const auto count = uint32_t(train.documents->count());
  for (uint32_t i = 0; i < count; ++i) {
    const bool out_of_it = files.valid.empty() && is_held_out(train.documents->line(i), keys.val_set_size);
    (out_of_it ? valid : train).picked.push_back(i);
  }
  if (files.valid.empty()) {
    valid.documents = train.documents;
    // However few rows there are, one at least is trained on, and one of several is held out.
    auto& from = train.picked.empty() ? valid.picked : train.picked;
    auto& to = train.picked.empty() ? train.picked : valid.picked;
    const size_t each = keys.pairs() ? 2 : 1;
    if (to.empty() && (&to == &train.picked || (keys.val_set_size > 0 && from.size() > each))) {
      to.assign(from.end() - std::ptrdiff_t(each), from.end());
      from.resize(from.size() - each);
    }
  } else {
    for (uint32_t i = 0; i < uint32_t(valid.documents->count()); ++i) valid.picked.push_back(i);
  }
  int64_t longest = 2;
  for (const auto* part : {&train, &valid})
    for (const uint32_t i : part->picked) longest = std::max(longest, part->documents->length(i));
  documents = int64_t(train.picked.size());
  held_out = int64_t(valid.picked.size());
  for (const uint32_t i : train.picked) {
    tokens += train.documents->length(i);
    learned += train.documents->learned(i);
  }
  memory = train.documents->memory() + (files.valid.empty() ? 0 : valid.documents->memory());
  hash = fmt::format(
      "{:016x}", shaders::hash64(fmt::format("{} {} {}", train.documents->hash(), valid.documents->hash(), settings)));
  // Rows that are not packed are as long as the longest text.
  int64_t positions = keys.packing ? std::max(longest - 1, tokens - documents) : longest - 1;
  if (labels) positions = longest;
  tasks::TuningBatches batches{.block_size = int32_t(std::min(room, positions)),
                               .batch_size = keys.training.batch_size * (keys.pairs() ? 2 : 1),
                               .accumulation = keys.training.gradient_accumulation_steps,
                               .packing = keys.packing,
                               .pairs = keys.pairs()};
  source = std::make_unique<tasks::TuningSource>(tokenizer, int32_t(vocabulary), std::move(train), std::move(valid),
                                                 batches);
  const double filled = source->filled();
  if (!keys.packing && !labels && !keys.pairs() && filled < 0.5 && documents > 1)
    notes.push_back(fmt::format(
        "rows of {} positions are {:.0f} % padding: --packing=true puts several texts into a row, each seeing itself "
        "alone",
        batches.block_size, 100 * (1 - filled)));
}

}  // namespace surtsey::experiments::commands
