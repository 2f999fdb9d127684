// An index, asked: by words, by vectors, or by both.
//
//   Retriever retriever("facts.index", encoder, "");
//   const auto found = retriever.find({"Who wrote it?"}, {.top = 3});   // best first
//
// Every question sees the index as it is now: what another process has committed, or a build has put in its place,
// counts from the next one on. Several threads may ask.
#pragma once

#include "engine/device.h"
#include "experiments/retrieve/encoder.h"
#include "experiments/retrieve/index.h"
#include "experiments/retrieve/vector_search.h"

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace surtsey::experiments {

// automatic: fused where the index has vectors, bm25 where it has none.
enum class RetrieveBy : uint8_t { automatic, bm25, dense, fused };
RetrieveBy parse_retrieve_by(const std::string& name);  // UserError
const char* name(RetrieveBy by);

struct FindOptions {
  int64_t top = 10;
  RetrieveBy by = RetrieveBy::automatic;
  bool cut_queries = false;  // of one that is longer than the encoder reads only the end counts, instead of a UserError
};

struct FoundPassage {
  Passage passage;
  double score = 0;  // what it was ranked by: BM25, the cosine, or the sum of reciprocal ranks
  // Where it stands in each list that was asked, from 1; 0: not among the first ones.
  int64_t bm25_rank = 0, dense_rank = 0;
  double bm25 = 0, cosine = 0;  // there
};

// Reciprocal rank fusion (Cormack, Clarke and Buettcher 2009): sums of 1 / (60 + rank) over the lists in which an entry
// stands, ranks from 1.
inline constexpr double kFusionConstant = 60;
inline double reciprocal_rank(int64_t rank) { return rank > 0 ? 1 / (kFusionConstant + double(rank)) : 0; }
// Of each list so many (or `top`, if that is more) are fused.
inline constexpr int64_t kFusedDepth = 100;

class Retriever {
 public:
  // `encoder`: null for words alone; else it must be the one of the index. The device is opened when vectors are first
  // asked for. UserError as Index::open() and check_encoder() have it.
  Retriever(std::filesystem::path path, std::optional<TextEncoder> encoder, std::string device);

  // Passages for each text, best first. UserError: an empty text, vectors of an index that has none or without an
  // encoder, a text that is longer than the encoder reads. DeviceError: the next question opens the device again.
  std::vector<std::vector<FoundPassage>> find(const std::vector<std::string>& texts, const FindOptions& options);

  IndexSettings settings() const;
  const std::filesystem::path& path() const { return path_; }

 private:
  void look_again();
  void load_vectors();
  std::vector<float> vectors_of(const std::vector<std::string>& texts, bool cut) const;
  std::string shortened(std::string text) const;
  std::vector<FoundPassage> ranked(const std::vector<WordHit>& words, const std::vector<VectorHit>& vectors,
                                   RetrieveBy by, int64_t top) const;

  std::filesystem::path path_;
  std::optional<TextEncoder> encoder_;
  std::string device_name_;
  mutable std::mutex mutex_;
  std::optional<Index> index_;
  uint64_t file_ = 0;  // which file the path named when it was opened
  std::optional<engine::Device> device_;
  std::optional<VectorSearch> search_;
  std::vector<int64_t> numbers_;  // of passages, by their place in the search
  int64_t loaded_ = -1;           // the version of the index whose vectors are in the search; -1: none
};

}  // namespace surtsey::experiments
