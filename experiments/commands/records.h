// Benchmark records: a JSON object a measurement, printed as a table, JSON or CSV.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace surtsey::experiments::commands {

// What was measured, in the order in which fields were first named.
class Record {
 public:
  class Value {
   public:
    using Content =
        std::variant<std::string, bool, int64_t, uint64_t, double, std::vector<uint64_t>, std::vector<float>>;
    Value() = default;
    Value& operator=(Content content) { return content_ = std::move(content), *this; }
    // uint32_t, say, could be either of two members of the variant.
    Value& operator=(std::unsigned_integral auto number)
      requires(!std::same_as<decltype(number), bool>)
    {
      return content_ = uint64_t(number), *this;
    }
    const Content& content() const { return content_; }

   private:
    Content content_;
  };

  // A field, made where there is none.
  Value& operator[](const std::string& name);
  // The content of a field; UserError: there is none.
  const Value::Content& at(const std::string& name) const;
  // An integer or a floating point number as the latter.
  double number(const std::string& name) const;
  bool contains(const std::string& name) const;
  const std::vector<std::pair<std::string, Value>>& fields() const { return fields_; }

 private:
  std::vector<std::pair<std::string, Value>> fields_;
};

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
