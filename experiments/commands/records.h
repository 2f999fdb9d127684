// Benchmark records: a JSON object a measurement, printed as a table, JSON or CSV.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace surtsey::experiments::commands {

using Record = nlohmann::ordered_json;

inline const std::vector<std::string> kRecordFormats = {"md", "json", "jsonl", "csv"};

// Calls `sample` warmup + repetitions times and returns what it returned after the warm-up, in
// nanoseconds.
std::vector<uint64_t> take_samples(int64_t warmup, int64_t repetitions, const std::function<uint64_t()>& sample);

double median(std::vector<uint64_t> samples);

// Sets samples_ns, median_ns and deviation_ns (the standard deviation of the samples).
void add_samples(Record& record, const std::vector<uint64_t>& samples);

// md shows `columns` and time as median ± deviation (where there is one); csv has every field but the samples; json is
// one list, jsonl one record a line.
void print_records(const std::vector<Record>& records, const std::string& format,
                   const std::vector<std::string>& columns);

// Calls `visit` with every combination of one value from each list; the last list runs fastest.
void for_each_combination(const std::vector<std::vector<int64_t>>& lists,
                          const std::function<void(const std::vector<int64_t>&)>& visit);

}  // namespace surtsey::experiments::commands
