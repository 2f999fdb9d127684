#include "experiments/results/metrics_export.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <boost/crc.hpp>
#include <map>

#include "graph/error.h"

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;

template <class T>
void append_bits(std::string& out, T value) {
  static_assert(std::endian::native == std::endian::little);
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// Protocol buffers: a key is (field << 3 | wire type); 0 varint, 1 eight bytes, 2 length-delimited,
// 5 four bytes.
void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void append_message(std::string& out, int field, std::string_view content) {
  append_varint(out, static_cast<uint64_t>(field << 3 | 2));
  append_varint(out, content.size());
  out += content;
}

void append_double(std::string& out, int field, double value) {
  append_varint(out, static_cast<uint64_t>(field << 3 | 1));
  append_bits(out, value);
}

// TensorFlow rotates and shifts checksums, so that a checksum of a record with checksums inside is
// not degenerate.
uint32_t masked_crc(std::string_view bytes) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(bytes.data(), bytes.size());
  return std::rotr(static_cast<uint32_t>(crc.checksum()), 15) + 0xa282ead8u;
}

void append_record(std::string& out, std::string_view event) {
  std::string length;
  append_bits(length, static_cast<uint64_t>(event.size()));
  out += length;
  append_bits(out, masked_crc(length));
  out += event;
  append_bits(out, masked_crc(event));
}

// Event: 1 wall_time, 2 step, 3 file_version, 5 summary. Summary: 1 value. Value: 1 tag,
// 2 simple_value.
std::string scalars(const MetricLine& line, double time) {
  std::string summary;
  for (const auto& [name, number] : line.values) {
    std::string value;
    append_message(value, 1, name);
    append_varint(value, 2 << 3 | 5);
    append_bits(value, static_cast<float>(number));
    append_message(summary, 1, value);
  }
  std::string event;
  append_double(event, 1, time);
  append_varint(event, 2 << 3);
  append_varint(event, static_cast<uint64_t>(line.step));
  append_message(event, 5, summary);
  return event;
}

}  // namespace

std::string metrics_csv(const std::vector<MetricLine>& metrics) {
  std::vector<std::string> columns;
  for (const MetricLine& line : metrics) {
    for (const auto& [name, value] : line.values) {
      if (std::find(columns.begin(), columns.end(), name) == columns.end()) columns.push_back(name);
    }
  }
  std::string text = "cell,step,tokens";
  for (const std::string& column : columns) text += "," + column;
  text += "\n";
  for (const MetricLine& line : metrics) {
    text += fmt::format("{},{},{}", line.cell, line.step, line.tokens);
    for (const std::string& column : columns) {
      const auto found = std::find_if(line.values.begin(), line.values.end(),
                                      [&](const auto& value) { return value.first == column; });
      text += found == line.values.end() ? "," : fmt::format(",{}", found->second);
    }
    text += "\n";
  }
  return text;
}

std::string event_file(const std::vector<MetricLine>& metrics, double now) {
  const auto time_of = [&](const MetricLine& line) { return line.time > 0 ? line.time : now; };
  std::string version;
  append_double(version, 1, metrics.empty() ? now : time_of(metrics.front()));
  append_message(version, 3, "brain.Event:2");
  std::string file;
  append_record(file, version);
  for (const MetricLine& line : metrics) append_record(file, scalars(line, time_of(line)));
  return file;
}

void export_metrics(const fs::path& run) {
  const fs::path lines = run / "metrics.jsonl";
  if (!fs::exists(lines)) return;
  const std::vector<MetricLine> metrics = load_metrics(lines);
  write_file_atomic(run / "metrics.csv", metrics_csv(metrics));
  std::map<std::string, std::vector<MetricLine>> cells;
  for (const MetricLine& line : metrics) cells[line.cell].push_back(line);
  for (const auto& [cell, of_cell] : cells) {
    const fs::path folder = run / "events" / cell;
    std::error_code error;
    fs::create_directories(folder, error);
    check(!error, "cannot create '{}': {}", folder.string(), error.message());
    write_file_atomic(folder / "events.out.tfevents.surtsey", event_file(of_cell, wall_time()));
  }
}

}  // namespace surtsey::experiments
