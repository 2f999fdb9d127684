// Blocks of quantized numbers against ggml's reference functions: golden/quants.safetensors has inputs and the bytes
// that quantize_row_*_ref() of ggml-quants.c made of them (x86-64, no fused multiply-add).
#include "experiments/formats/half.h"
#include "experiments/formats/quant.h"
#include "experiments/formats/tensor_directory.h"
#include "graph/error.h"
#include "graph/host_tensor.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <cmath>
#include <limits>

namespace surtsey::experiments {
namespace {

using Catch::Matchers::ContainsSubstring;

constexpr StoredType kBlockTypes[] = {StoredType::q8_0, StoredType::q4_0, StoredType::q4_k, StoredType::q6_k};

std::vector<std::byte> bytes_of(const FileTensor& tensor) {
  std::vector<std::byte> bytes(tensor.bytes);
  tensor.file->read(tensor.offset, bytes);
  return bytes;
}

std::vector<float> floats_of(const FileTensor& tensor) {
  std::vector<float> numbers(tensor.bytes / 4);
  tensor.file->read(tensor.offset, std::as_writable_bytes(std::span(numbers)));
  return numbers;
}

std::vector<std::byte> packed(StoredType type, const std::vector<float>& numbers) {
  std::vector<std::byte> bytes(size_t(row_bytes(type, int64_t(numbers.size()))));
  quantize_row(type, numbers, bytes);
  return bytes;
}

std::vector<float> unpacked(StoredType type, const std::vector<std::byte>& bytes) {
  std::vector<float> numbers(bytes.size() / size_t(block_bytes(type)) * size_t(block_size(type)));
  dequantize_row(type, bytes, numbers);
  return numbers;
}

TEST_CASE("quant: blocks are those of the reference, bit for bit", "[formats]") {
  const TensorDirectory golden =
      open_safetensors(std::filesystem::path(SURTSEY_SOURCE_ROOT) / "tests" / "golden" / "quants.safetensors");
  // Normal, uniform, zeros, one outlier, denormals, constants, ties, ranges of 60 powers of two, and others.
  size_t compared = 0;
  for (const auto& [key, tensor] : golden) {
    if (!key.ends_with(".x")) continue;
    for (const StoredType type : kBlockTypes) {
      INFO(key << " as " << name(type));
      CHECK(packed(type, floats_of(tensor)) == bytes_of(golden.at(key.substr(0, key.size() - 1) + name(type))));
      ++compared;
    }
  }
  CHECK(compared == 80);
}

TEST_CASE("quant: values follow from the layout", "[formats]") {
  // One block each, its integers and scales set by hand.
  std::vector<std::byte> q8(34), q4(18), q4k(144), q6k(210);
  const uint16_t half = half_bits(.5f), two = half_bits(2);
  const auto put = [](std::vector<std::byte>& bytes, size_t at, uint16_t word) {
    bytes[at] = std::byte(word & 255);
    bytes[at + 1] = std::byte(word >> 8);
  };
  put(q8, 0, half);
  q8[2 + 5] = std::byte(0x80);  // -128
  CHECK(unpacked(StoredType::q8_0, q8)[5] == -64.f);
  CHECK(unpacked(StoredType::q8_0, q8)[6] == 0.f);

  put(q4, 0, half);
  q4[2 + 3] = std::byte(0xf1);
  CHECK(unpacked(StoredType::q4_0, q4)[3] == .5f * (1 - 8));
  CHECK(unpacked(StoredType::q4_0, q4)[19] == .5f * (15 - 8));

  // Sub-block 5 has scale 0b101101 and minimum 0b010011, in three places.
  put(q4k, 0, half);
  put(q4k, 2, two);
  q4k[4 + 9] = std::byte(0b0011'1101);
  q4k[4 + 1] = std::byte(0b10'000000);
  q4k[4 + 5] = std::byte(0b01'000000);
  q4k[16 + 64 + 7] = std::byte(0xa0);
  CHECK(unpacked(StoredType::q4_k, q4k)[5 * 32 + 7] == .5f * 45 * 10 - 2.f * 19);
  CHECK(unpacked(StoredType::q4_k, q4k)[5 * 32 + 8] == -2.f * 19);
  CHECK(unpacked(StoredType::q4_k, q4k)[4 * 32] == 0.f);

  // Number 200 is 8 into the third quarter of the second half: low bits above those of number 136.
  put(q6k, 208, half);
  q6k[192 + 12] = std::byte(0xfd);  // -3
  q6k[64 + 8] = std::byte(0x90);
  q6k[128 + 32 + 8] = std::byte(0b00'10'00'00);
  CHECK(unpacked(StoredType::q6_k, q6k)[200] == .5f * -3 * ((2 * 16 + 9) - 32));
  CHECK(unpacked(StoredType::q6_k, q6k)[201] == .5f * -3 * -32);
}

TEST_CASE("quant: what a block holds comes back as itself", "[formats]") {
  // Packing what was unpacked gives the same numbers where the type has no search of scales.
  const graph::HostTensor drawn = graph::HostTensor::random({graph::DType::f32, {1024}}, -1, 1, 7);
  std::vector<float> numbers(drawn.values.begin(), drawn.values.end());
  for (const StoredType type : kBlockTypes) {
    INFO(name(type));
    const std::vector<float> once = unpacked(type, packed(type, numbers));
    double error = 0, size = 0;
    for (size_t i = 0; i < numbers.size(); ++i) {
      error += std::pow(double(once[i]) - double(numbers[i]), 2);
      size += std::pow(double(numbers[i]), 2);
    }
    // Uniform numbers in blocks with b bits: about 2^-b / sqrt(3) of their size, and never more than twice that.
    const double bits = type == StoredType::q8_0 ? 8 : type == StoredType::q6_k ? 6 : 4;
    CHECK(std::sqrt(error / size) < 2 * std::exp2(-bits));
    CHECK(std::sqrt(error / size) > .1 * std::exp2(-bits));
  }
}

TEST_CASE("quant: 16 bits round to nearest even, and agree with the graph's", "[formats]") {
  for (const StoredType type : {StoredType::f16, StoredType::bf16}) {
    const graph::DType dtype = type == StoredType::f16 ? graph::DType::f16 : graph::DType::bf16;
    for (const double scale : {1., 1e-6, 6e-8, 1e4}) {
      const graph::HostTensor drawn = graph::HostTensor::random({graph::DType::f32, {4096}}, -scale, scale, 3);
      const std::vector<float> numbers(drawn.values.begin(), drawn.values.end());
      const graph::HostTensor rounded({dtype, {4096}}, std::vector<double>(numbers.begin(), numbers.end()));
      CHECK(packed(type, numbers) == rounded.to_bytes());
    }
    // Every word comes back.
    size_t different = 0;
    for (uint32_t word = 0; word < 65536; ++word) {
      const auto bits = uint16_t(word);
      const float value = type == StoredType::f16 ? half_value(bits) : bfloat_value(bits);
      const uint16_t back = type == StoredType::f16 ? half_bits(value) : bfloat_bits(value);
      different += std::isnan(value) ? 0 : back != bits;
    }
    CHECK(different == 0);
  }
  CHECK(half_bits(65519.f) == 0x7bff);
  CHECK(half_bits(65520.f) == 0x7c00);
  CHECK(half_bits(0x1p-25f) == 0);
  CHECK(half_bits(std::nextafter(0x1p-25f, 1.f)) == 1);
}

TEST_CASE("quant: what is not finite, too large or no whole block is refused", "[formats]") {
  std::vector<float> numbers(256, 1.f);
  for (const StoredType type : kBlockTypes) {
    CHECK_NOTHROW(packed(type, numbers));
    for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
      std::vector<float> broken = numbers;
      broken[200] = bad;
      CHECK_THROWS_WITH(packed(type, broken), ContainsSubstring("number 200") && ContainsSubstring(name(type)));
    }
    for (const float large : {3e8f, 1e12f, 3e38f}) {
      std::vector<float> broken = numbers;
      broken[200] = large;
      CHECK_THROWS_WITH(packed(type, broken), ContainsSubstring("too large"));
    }
    CHECK_THROWS_AS(row_bytes(type, 16), UserError);
  }
  CHECK_THROWS_WITH(packed(StoredType::f16, {65520.f}), ContainsSubstring("too large"));
  CHECK_THROWS_WITH(packed(StoredType::bf16, {3.4e38f}), ContainsSubstring("too large"));
  CHECK(row_bytes(StoredType::q4_k, 512) == 288);
  CHECK(stored_type("q6_k") == StoredType::q6_k);
  CHECK_FALSE(stored_type("q5_k"));
}

}  // namespace
}  // namespace surtsey::experiments
