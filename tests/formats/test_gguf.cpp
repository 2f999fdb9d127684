// GGUF files: what is written comes back, and files that break a rule are refused by it.
#include "experiments/formats/gguf.h"
#include "experiments/formats/gguf_tokenizer.h"
#include "graph/error.h"
#include "tests/support/folder.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <cstring>

namespace surtsey::experiments {
namespace {

using Catch::Matchers::ContainsSubstring;
using tests::Folder;
using tests::slurp;
namespace fs = std::filesystem;

// A file by hand.
class Bytes {
 public:
  Bytes& text(const std::string& text) {
    number(uint64_t(text.size()));
    bytes_ += text;
    return *this;
  }
  template <typename Number>
  Bytes& number(Number value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return *this;
  }
  Bytes& raw(const std::string& bytes) {
    bytes_ += bytes;
    return *this;
  }
  Bytes& pad() {
    bytes_.append((32 - bytes_.size() % 32) % 32, '\0');
    return *this;
  }
  const std::string& get() const { return bytes_; }

 private:
  std::string bytes_;
};

Bytes header(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
  return std::move(Bytes().raw("GGUF").number(version).number(tensors).number(keys));
}

Bytes& add_tensor(Bytes& bytes, const std::string& name, std::vector<uint64_t> extents, uint32_t type,
                  uint64_t offset) {
  bytes.text(name).number(uint32_t(extents.size()));
  for (const uint64_t extent : extents) bytes.number(extent);
  return bytes.number(type).number(offset);
}

std::string refusal(const std::string& content) {
  const Folder folder;
  std::ofstream(folder / "x.gguf", std::ios::binary) << content;
  try {
    open_gguf(folder / "x.gguf");
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

GgufMetadata every_kind() {
  GgufMetadata metadata;
  const std::pair<GgufKind, int64_t> integers[] = {
      {GgufKind::u8, 255},     {GgufKind::i8, -128},        {GgufKind::u16, 65535},
      {GgufKind::i16, -32768}, {GgufKind::u32, 4294967295}, {GgufKind::i32, -2147483648},
      {GgufKind::boolean, 1},  {GgufKind::i64, INT64_MIN},  {GgufKind::u64, -1}};
  for (const auto& [kind, number] : integers) {
    metadata.emplace_back("one." + std::to_string(int(kind)), GgufValue{.kind = kind, .integers = {number}});
    metadata.emplace_back("many." + std::to_string(int(kind)),
                          GgufValue{.kind = kind, .array = true, .integers = {number, 0, 1}});
  }
  for (const GgufKind kind : {GgufKind::f32, GgufKind::f64}) {
    metadata.emplace_back("one." + std::to_string(int(kind)), GgufValue{.kind = kind, .floats = {.5}});
    metadata.emplace_back("many." + std::to_string(int(kind)),
                          GgufValue{.kind = kind, .array = true, .floats = {-1, 0x1p-130}});
  }
  metadata.emplace_back("one.text", GgufValue::of(std::string("a\0b", 3)));
  metadata.emplace_back("many.text", GgufValue{.kind = GgufKind::text, .array = true, .texts = {"", "\xff", "long"}});
  metadata.emplace_back("none", GgufValue{.kind = GgufKind::f32, .array = true});
  return metadata;
}

TEST_CASE("gguf: values of every kind and tensors of every type come back", "[formats]") {
  const Folder folder;
  std::vector<GgufTensor> tensors = {{"scalar", StoredType::f32, {}}, {"empty", StoredType::f16, {0, 4}}};
  std::vector<std::vector<std::byte>> content = {std::vector<std::byte>(4, std::byte{9}), {}};
  for (const std::string& type : stored_type_names()) {
    tensors.push_back({"of " + type, *stored_type(type), {3, 2, 256}});
    std::vector<std::byte> bytes(size_t(6 * row_bytes(*stored_type(type), 256)));
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = std::byte(i * 7 + tensors.size());
    content.push_back(std::move(bytes));
  }
  for (const uint32_t alignment : {0u, 1u, 8u, 4096u}) {
    INFO(alignment);
    GgufMetadata metadata = every_kind();
    if (alignment > 0) metadata.emplace_back("general.alignment", GgufValue::of(alignment));
    write_gguf(folder / "a.gguf", metadata, tensors, [&](size_t i) { return content[i]; });
    REQUIRE(is_gguf(folder / "a.gguf"));
    const Gguf back = open_gguf(folder / "a.gguf");
    CHECK(back.metadata == metadata);
    REQUIRE(back.order.size() == tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
      const FileTensor& tensor = back.tensors.at(tensors[i].name);
      CHECK(back.order[i] == tensors[i].name);
      CHECK(tensor.shape == tensors[i].shape);
      CHECK(tensor.type == tensors[i].type);
      CHECK(tensor.offset % std::max(alignment, 1u) == 0);
      std::vector<std::byte> bytes(tensor.bytes);
      tensor.file->read(tensor.offset, bytes);
      CHECK(bytes == content[i]);
    }
  }
}

TEST_CASE("gguf: a file that is cut anywhere, or goes on, is refused", "[formats]") {
  const Folder folder;
  write_gguf(folder / "a.gguf", every_kind(), {{"a", StoredType::f32, {5}}, {"b", StoredType::q8_0, {2, 32}}},
             [](size_t i) { return std::vector<std::byte>(i == 0 ? 20 : 68); });
  const std::string whole = slurp(folder / "a.gguf");
  CHECK(refusal(whole) == "accepted");
  // The padding after the last tensor may be absent.
  const size_t needed = whole.size() - (32 - 68 % 32);
  for (size_t length = 0; length < needed; ++length) {
    if (refusal(whole.substr(0, length)) == "accepted") FAIL_CHECK("accepted at " << length);
  }
  CHECK(refusal(whole.substr(0, needed)) == "accepted");
  CHECK_THAT(refusal(whole + "x"), ContainsSubstring("1 bytes follow the last tensor"));
}

TEST_CASE("gguf: headers that break a rule are refused by it", "[formats]") {
  const auto refused = [](const Bytes& bytes, const char* what) {
    CHECK_THAT(refusal(bytes.get()), ContainsSubstring("x.gguf") && ContainsSubstring(what));
  };
  REQUIRE(refusal(header(0, 0).get()) == "accepted");
  REQUIRE(refusal(header(0, 0, 2).get()) == "accepted");
  refused(Bytes().raw("GGML").raw(std::string(40, '\0')), "no GGUF file");
  refused(header(0, 0, 1), "version 1");
  refused(header(0, 0, 4), "version 4");
  refused(header(0, 0, 0x03000000), "big-endian");
  refused(header(uint64_t(1) << 60, 0), "tensors");
  refused(header(0, uint64_t(1) << 60), "keys");

  const auto key = [](uint32_t kind) { return std::move(header(0, 1).text("k").number(kind)); };
  refused(header(0, 1).number(uint64_t(1) << 40), "a key is said to have");
  refused(header(0, 1).text("").number(0u).number(uint8_t(1)), "empty");
  refused(header(0, 2).text("k").number(0u).number(uint8_t(1)).text("k").number(0u).number(uint8_t(1)), "twice");
  refused(key(13).number(0), "kind 13");
  refused(key(7).number(uint8_t(2)), "0 or 1");
  refused(key(8).number(uint64_t(1) << 63), "a text is said to have");
  refused(key(9).number(9u).number(uint64_t(0)), "array of arrays");
  refused(key(9).number(6u).number(uint64_t(1) << 62), "times f32");
  refused(key(9).number(8u).number(UINT64_MAX), "times text");
  refused(std::move(header(0, 1).text("general.alignment").number(4u).number(24u)), "24 is no power of 2");
  refused(std::move(header(0, 1).text("general.alignment").number(10u).number(uint64_t(32))), "no u32");

  const auto one = [](std::vector<uint64_t> extents, uint32_t type, uint64_t offset, size_t data) {
    Bytes bytes = header(1, 0);
    add_tensor(bytes, "t", std::move(extents), type, offset).pad().raw(std::string(data, 'x'));
    return bytes;
  };
  REQUIRE(refusal(one({4, 2}, 0, 0, 32).get()) == "accepted");
  refused(one({4, 2}, 13, 0, 32), "Q5_K, which is not supported; there are F32, F16, Q4_0, Q8_0, Q4_K, Q6_K, BF16");
  refused(one({4, 2}, 99, 0, 32), "number 99");
  refused(one({4, 2}, 8, 0, 32), "blocks of q8_0 have 32");
  refused(one({4, 2}, 0, 32, 64), "a gap or an overlap");
  refused(one({4, 2}, 0, 0, 31), "truncated");
  refused(one({uint64_t(1) << 40, uint64_t(1) << 40}, 0, 0, 32), "overflows");
  refused(one({uint64_t(1) << 62}, 0, 0, 32), "overflows");
  refused(one({uint64_t(1) << 63}, 0, 0, 32), "overflows");
  refused(one({1, 1, 1, 1, 1}, 0, 0, 32), "5 axes");

  Bytes twice = header(2, 0);
  add_tensor(twice, "t", {8}, 0, 0);
  add_tensor(twice, "t", {8}, 0, 32).pad().raw(std::string(64, 'x'));
  refused(twice, "t is there twice");
  Bytes overlap = header(2, 0);
  add_tensor(overlap, "s", {8}, 0, 0);
  add_tensor(overlap, "t", {8}, 0, 0).pad().raw(std::string(64, 'x'));
  refused(overlap, "t begins at 0 of the data, not at 32");
}

TEST_CASE("gguf: a tokenizer's arrays come back, and are held against each other", "[formats]") {
  const Folder folder;
  GgufTokenizer tokenizer;
  tokenizer.model = "llama";
  tokenizer.pre = "default";
  tokenizer.tokens = {"<unk>", "<s>", "</s>",
                      "\xe2\x96\x81"
                      "a"};
  tokenizer.scores = {0, -1, -2, -3.5f};
  tokenizer.types = {2, 3, 3, 1};
  tokenizer.merges = {"a b"};
  tokenizer.bos = 1;
  tokenizer.eos = 2;
  tokenizer.end_of_turn = 3;
  tokenizer.add_bos = true;
  tokenizer.add_eos = false;
  tokenizer.precompiled_charsmap = std::string("\0\xff\x7f", 3);
  tokenizer.chat_template = "{{ messages }}";
  tokenizer.hugging_face_json = "{}";
  const auto back = [&](const GgufMetadata& metadata) {
    write_gguf(folder / "t.gguf", metadata, {}, {});
    return gguf_tokenizer(open_gguf(folder / "t.gguf"), "FILE");
  };
  const auto with = [](const GgufTokenizer& of) {
    GgufMetadata metadata;
    add_tokenizer(metadata, of);
    return metadata;
  };
  CHECK(back(with(tokenizer)) == tokenizer);
  CHECK_FALSE(back({}));
  GgufTokenizer broken = tokenizer;
  broken.scores.pop_back();
  CHECK_THROWS_WITH(back(with(broken)), ContainsSubstring("3 scores"));
  broken = tokenizer;
  broken.eos = 4;
  CHECK_THROWS_WITH(back(with(broken)), ContainsSubstring("eos_token_id is 4 of 4 tokens"));
  GgufMetadata metadata = with(tokenizer);
  metadata[2].second = GgufValue::of(uint32_t(3));
  CHECK_THROWS_WITH(back(metadata), ContainsSubstring("tokens is no array"));
  // As signed and unsigned writers say that there is none.
  GgufMetadata none = with(tokenizer);
  for (auto& [key, value] : none) {
    if (key == "tokenizer.ggml.bos_token_id") value = GgufValue::of(uint32_t(-1));
    if (key == "tokenizer.ggml.eos_token_id") value = {.kind = GgufKind::i32, .integers = {-1}};
  }
  CHECK(back(none)->bos == -1);
  CHECK(back(none)->eos == -1);
}

}  // namespace
}  // namespace surtsey::experiments
