#include "experiments/retrieve/retriever.h"

#include "engine/error.h"
#include "experiments/base/computing_device.h"
#include "experiments/base/utf8.h"
#include "graph/error.h"

#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <tuple>

namespace surtsey::experiments {
namespace {

// What a path names now; another file of the same name has another number.
uint64_t file_number(const std::filesystem::path& path) {
  struct stat about = {};
  return ::stat(path.c_str(), &about) == 0 ? uint64_t(about.st_ino) : 0;
}

}  // namespace

RetrieveBy parse_retrieve_by(const std::string& text) {
  for (const RetrieveBy by : {RetrieveBy::automatic, RetrieveBy::bm25, RetrieveBy::dense, RetrieveBy::fused}) {
    if (text == name(by)) return by;
  }
  throw UserError(fmt::format("passages are found by bm25, dense, fused or automatic, not by '{}'", text));
}

const char* name(RetrieveBy by) {
  switch (by) {
    case RetrieveBy::automatic:
      return "automatic";
    case RetrieveBy::bm25:
      return "bm25";
    case RetrieveBy::dense:
      return "dense";
    case RetrieveBy::fused:
      return "fused";
  }
  return "";
}

Retriever::Retriever(std::filesystem::path path, std::optional<TextEncoder> encoder, std::string device)
    : path_(std::move(path)), encoder_(std::move(encoder)), device_name_(std::move(device)) {
  look_again();
}

IndexSettings Retriever::settings() const {
  const std::lock_guard lock(mutex_);
  return index_->settings();
}

// Opens the file that the path names, if it is another one.
void Retriever::look_again() {
  const uint64_t now = file_number(path_);
  if (index_ && now == file_ && now != 0) return;
  Index opened = Index::open(path_, false);
  if (encoder_) check_encoder(path_.string(), opened.settings(), *encoder_);
  index_.reset();
  index_.emplace(std::move(opened));
  file_ = now;
  loaded_ = -1;
}

void Retriever::load_vectors() {
  const int64_t version = index_->version();
  if (version == loaded_) return;
  const int64_t count = index_->passages(), width = index_->settings().width;
  loaded_ = -1;
  numbers_.clear();
  if (count == 0) {
    search_.reset();
  } else {
    if (!device_) device_.emplace(open_computing_device({.select = device_name_}));
    if (!search_ || search_->width() != width || !search_->has_room_for(count)) {
      search_.reset();
      search_.emplace(*device_, count, width);
    }
    VectorRows rows(*index_);
    search_->write(count, [&](int64_t, std::span<float> vector) { numbers_.push_back(rows.next(vector)); });
  }
  loaded_ = version;
}

std::string Retriever::shortened(std::string text) const {
  while (std::ssize(encoder_->tokens(index_->settings().query_prefix + text)) > encoder_->context) {
    // A tenth less from its beginning, in whole words where there are any.
    size_t at = std::max<size_t>(1, text.size() / 10);
    const size_t blank = text.find_first_of(" \n\t", at);
    if (blank != text.npos && blank + 1 < text.size()) at = blank + 1;
    while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
    text.erase(0, at);
  }
  return text;
}

std::vector<float> Retriever::vectors_of(const std::vector<std::string>& texts, bool cut) const {
  std::vector<std::vector<int32_t>> tokens;
  for (const std::string& text : texts) {
    tokens.push_back(encoder_->tokens(index_->settings().query_prefix + (cut ? shortened(text) : text)));
    check(std::ssize(tokens.back()) <= encoder_->context, "what is asked has {} tokens, {} reads {}: shorten it",
          tokens.back().size(), encoder_->model, encoder_->context);
  }
  std::vector<float> all;
  for (std::vector<float>& vector : encoder_->vectors(tokens)) {
    normalize(vector);
    all.insert(all.end(), vector.begin(), vector.end());
  }
  return all;
}

std::vector<FoundPassage> Retriever::ranked(const std::vector<WordHit>& words, const std::vector<VectorHit>& vectors,
                                            RetrieveBy by, int64_t top) const {
  std::map<int64_t, FoundPassage> found;  // by number
  for (size_t i = 0; i < words.size(); ++i) {
    FoundPassage& one = found[words[i].number];
    one.bm25_rank = int64_t(i) + 1;
    one.bm25 = words[i].score;
  }
  for (size_t i = 0; i < vectors.size(); ++i) {
    FoundPassage& one = found[numbers_[size_t(vectors[i].place)]];
    one.dense_rank = int64_t(i) + 1;
    one.cosine = double(vectors[i].score);
  }
  std::vector<FoundPassage> all;
  for (auto& [number, one] : found) {
    one.passage = index_->passage(number);
    one.score = by == RetrieveBy::bm25    ? one.bm25
                : by == RetrieveBy::dense ? one.cosine
                                          : reciprocal_rank(one.bm25_rank) + reciprocal_rank(one.dense_rank);
    all.push_back(std::move(one));
  }
  std::sort(all.begin(), all.end(), [](const FoundPassage& a, const FoundPassage& b) {
    if (a.score != b.score) return a.score > b.score;
    return std::tie(a.passage.id, a.passage.part) < std::tie(b.passage.id, b.passage.part);
  });
  if (std::ssize(all) > top) all.resize(size_t(top));
  return all;
}

std::vector<std::vector<FoundPassage>> Retriever::find(const std::vector<std::string>& texts,
                                                       const FindOptions& options) {
  check(options.top > 0, "the best {} passages: at least one", options.top);
  for (const std::string& text : texts) {
    check(text.find_first_not_of(" \t\r\n\v\f") != text.npos, "what is asked is empty");
    check_utf8(text, "what is asked");
  }
  const std::lock_guard lock(mutex_);
  look_again();
  const bool has_vectors = index_->settings().has_vectors();
  RetrieveBy by = options.by;
  if (by == RetrieveBy::automatic) by = has_vectors ? RetrieveBy::fused : RetrieveBy::bm25;
  const bool dense = by != RetrieveBy::bm25, words = by != RetrieveBy::dense;
  check(!dense || has_vectors, "{}: made without a model, so it is asked by bm25 alone", path_.string());
  check(!dense || encoder_, "{}: is asked by vectors, and there is no model to make them", path_.string());
  const int64_t depth = by == RetrieveBy::fused ? std::max(options.top, kFusedDepth) : options.top;
  try {
    const std::vector<float> queries = dense ? vectors_of(texts, options.cut_queries) : std::vector<float>();
    // One look at the index for all of it.
    const Transaction snapshot(index_->database(), false);
    if (dense) load_vectors();
    std::vector<std::vector<VectorHit>> vectors(texts.size());
    if (dense && search_) vectors = search_->find(queries, depth);
    std::vector<std::vector<FoundPassage>> all;
    for (size_t i = 0; i < texts.size(); ++i) {
      const auto hits = words ? index_->find_words(texts[i], depth) : std::vector<WordHit>();
      all.push_back(ranked(hits, vectors[i], by, options.top));
    }
    return all;
  } catch (const engine::DeviceError&) {
    search_.reset();
    device_.reset();
    loaded_ = -1;
    throw;
  }
}

}  // namespace surtsey::experiments
