// safetensors files (huggingface/safetensors): an 8-byte little-endian header length, a JSON header
// of {name: {dtype, shape, data_offsets}}, the tensors' bytes. The reader takes nothing on trust:
//   header at most 100 MB, an object of at most the format's depth, no key twice
//   offsets contiguous from 0 in some order, no gap, no overlap, the last end equal to the file's
//   size = product(shape) x element size, with checked multiplication
//   dtypes F32 F16 BF16 I32 U32 BOOL; any other is an error that names it (in a header that is read alone only one of
//   no known size, as files of models have masks and counters beside their weights)
#pragma once

#include "experiments/formats/ranged_file.h"
#include "graph/interpret.h"

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace surtsey::experiments {

struct Safetensors {
  graph::State tensors;
  std::map<std::string, std::string> metadata;
};

// One tensor of a header: its bytes stand at [begin, end) of the data.
struct SafetensorsEntry {
  std::string name;
  std::string dtype = {};  // as the file says it: F32, BF16, I64, ..
  graph::Shape shape = {};
  uint64_t begin = 0;
  uint64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // in the order of their bytes
  std::map<std::string, std::string> metadata;
  uint64_t data = 0;  // where the data begins in the file
};

// The header alone, held against the length of the file. UserError as below.
SafetensorsHeader read_safetensors_header(const RangedFile& file);

// UserError, with the path, for every file that is missing, unreadable or breaks a rule above.
Safetensors read_safetensors(const std::string& path);
// The same without reading its tensors: a file whose header is whole may have lost its end.
void check_safetensors_size(const std::string& path);
Safetensors parse_safetensors(std::span<const std::byte> file, const std::string& path);

// The file's bytes: tensors in the order of their names, each rounded to its type, header padded
// with blanks to 8 bytes. The same content always gives the same bytes.
std::vector<std::byte> format_safetensors(const Safetensors& content);

}  // namespace surtsey::experiments
