#include "experiments/retrieve/write.h"

#include "experiments/base/file.h"
#include "experiments/base/interrupt.h"
#include "experiments/base/progress.h"
#include "experiments/base/utf8.h"
#include "experiments/retrieve/cut.h"
#include "graph/error.h"
#include "graph/platform.h"

#include <algorithm>

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kUsualTokens = 512, kUsualWords = 256;
constexpr size_t kEmbeddedAtOnce = 64;  // passages, sorted by length by who embeds them

// What stands before a passage's text where it is embedded.
std::string head_of(const Document& document, const IndexSettings& settings) {
  return settings.passage_prefix + (document.title.empty() ? "" : document.title + "\n");
}

int64_t count_tokens(const TextEncoder& encoder, std::string_view text) { return std::ssize(encoder.tokens(text)); }

// The head, or the prefix alone where a title leaves too little room.
std::string embedded_head(const Document& document, const IndexSettings& settings, const TextEncoder& encoder) {
  const std::string head = head_of(document, settings);
  return count_tokens(encoder, head) <= settings.passage_tokens / 2 ? head : settings.passage_prefix;
}

class Filler {
 public:
  Filler(Index& index, const TextEncoder* encoder) : index_(index), encoder_(encoder) {}

  // Documents replaced.
  int64_t put(const std::vector<Document>& documents) {
    Progress progress("index", std::ssize(documents));
    int64_t done = 0;
    for (const Document& document : documents) {
      if (interrupted()) throw Interrupted("stopped; the index is as it was");
      waiting_.push_back({&document, passages_of(document, index_.settings(), encoder_)});
      passages_ += waiting_.back().passages.size();
      if (encoder_ == nullptr || passages_ >= kEmbeddedAtOnce) flush();
      progress.update(++done);
    }
    flush();
    progress.finish();
    return replaced_;
  }

 private:
  struct Waiting {
    const Document* document;
    std::vector<std::string> passages;
  };

  void flush() {
    std::vector<std::vector<float>> vectors;
    if (encoder_ != nullptr) {
      std::vector<std::vector<int32_t>> texts;
      for (const Waiting& one : waiting_) {
        const std::string head = embedded_head(*one.document, index_.settings(), *encoder_);
        for (const std::string& passage : one.passages) texts.push_back(encoder_->tokens(head + passage));
      }
      vectors = encoder_->vectors(texts);
      for (std::vector<float>& vector : vectors) normalize(vector);
    }
    size_t first = 0;
    for (const Waiting& one : waiting_) {
      const size_t count = encoder_ == nullptr ? 0 : one.passages.size();
      if (index_.put(*one.document, one.passages, std::span(vectors).subspan(first, count))) ++replaced_;
      first += count;
    }
    waiting_.clear();
    passages_ = 0;
  }

  Index& index_;
  const TextEncoder* encoder_;
  std::vector<Waiting> waiting_;
  size_t passages_ = 0;
  int64_t replaced_ = 0;
};

IndexCounts counts_of(const Index& index, int64_t replaced) { return {index.documents(), index.passages(), replaced}; }

// A file that is gone with its making, unless it is kept.
class NewFile {
 public:
  explicit NewFile(const fs::path& final)
      : final_(final), path_(final.parent_path() / (kUnfinished + final.filename().string())) {
    // One that a killed process left is nobody's; one that is being written is locked.
    if (fs::exists(path_)) {
      try {
        Database left(path_, Database::Mode::write);
        left.set_patience(0);
        left.run("BEGIN EXCLUSIVE");
      } catch (const DatabaseBusy&) {
        throw UserError(fmt::format("{}: another process is building it; try again when it is done", final_.string()));
      } catch (const UserError&) {
        // Whatever was written of it.
      }
      fs::remove(path_);
    }
  }
  ~NewFile() {
    std::error_code error;
    if (!kept_) fs::remove(path_, error);
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  const fs::path& path() const { return path_; }
  void keep() {
    std::FILE* file = std::fopen(path_.c_str(), "rb+");
    check(file != nullptr, "{}: cannot be opened", path_.string());
    try {
      platform::sync_file(file, path_);
    } catch (...) {
      std::fclose(file);
      throw;
    }
    std::fclose(file);
    fs::rename(path_, final_);
    kept_ = true;
    sync_folder(final_.has_parent_path() ? final_.parent_path() : fs::path("."));
  }

 private:
  fs::path final_, path_;
  bool kept_ = false;
};

}  // namespace

int64_t usual_passage_tokens(const TextEncoder* encoder) {
  return encoder == nullptr ? kUsualWords : std::min(encoder->context, kUsualTokens);
}

std::vector<std::string> passages_of(const Document& document, const IndexSettings& settings,
                                     const TextEncoder* encoder) {
  check_utf8(document.text, fmt::format("document '{}'", document.id));
  check_utf8(document.title, fmt::format("document '{}': its title", document.id));
  if (encoder == nullptr) {
    return cut_text(document.text,
                    {.room = settings.passage_tokens, .overlap = settings.overlap, .tokens = words_between_blanks});
  }
  const std::string head = embedded_head(document, settings, *encoder);
  // The tokens that a model wants around a text are counted with its head, and not with every word.
  const int64_t around = count_tokens(*encoder, "");
  const int64_t room = settings.passage_tokens - std::max(around, count_tokens(*encoder, head));
  check(room > settings.overlap, "passages of {} tokens: passage_prefix and the model's own tokens leave room for {}",
        settings.passage_tokens, room);
  return cut_text(document.text, {.room = room, .overlap = settings.overlap, .tokens = [&](std::string_view part) {
                                    return count_tokens(*encoder, part) - around;
                                  }});
}

IndexCounts build_index(const fs::path& path, IndexSettings settings, const std::vector<Document>& documents,
                        const TextEncoder* encoder) {
  check(path.has_filename(), "{}: an index is one file: name it", path.string());
  if (encoder != nullptr) {
    settings.model = encoder->model;
    settings.model_hash = encoder->hash;
    settings.width = encoder->width;
    check(settings.passage_tokens <= encoder->context, "passages of {} tokens, {} reads {}", settings.passage_tokens,
          encoder->model, encoder->context);
  }
  // Nobody writes to the one that is there while another takes its place. Opening it also finishes what a killed writer
  // of it began, whose journal the new file must not inherit.
  std::optional<Index> before;
  std::optional<Transaction> lock;
  if (fs::exists(path)) {
    before.emplace(Index::open(path, true));
    lock.emplace(before->database(), true);
  } else {
    std::error_code error;
    fs::remove(path.string() + "-journal", error);
  }
  NewFile file(path);
  IndexCounts counts;
  {
    Index index = Index::create(file.path(), settings);
    Transaction transaction(index.database(), true);
    Filler(index, encoder).put(documents);
    transaction.commit();
    counts = counts_of(index, 0);
  }
  file.keep();
  return counts;
}

IndexCounts add_to_index(const fs::path& path, const std::vector<Document>& documents, const TextEncoder* encoder) {
  Index index = Index::open(path, true);
  if (encoder != nullptr || index.settings().has_vectors()) {
    check(encoder != nullptr, "{}: has vectors of {}, so it takes a model to add to it", path.string(),
          index.settings().model);
    check_encoder(path.string(), index.settings(), *encoder);
  }
  Transaction transaction(index.database(), true);
  const int64_t replaced = Filler(index, encoder).put(documents);
  const IndexCounts counts = counts_of(index, replaced);
  transaction.commit();
  return counts;
}

IndexCounts delete_from_index(const fs::path& path, const std::vector<std::string>& ids) {
  Index index = Index::open(path, true);
  Transaction transaction(index.database(), true);
  for (const std::string& id : ids)
    check(index.erase(id), "{}: has no document '{}'; nothing was deleted", path.string(), id);
  const IndexCounts counts = counts_of(index, 0);
  transaction.commit();
  return counts;
}

}  // namespace surtsey::experiments
