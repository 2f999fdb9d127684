// safetensors and checkpoints: what is written comes back, what is broken is refused by name.
#include "experiments/base/file.h"
#include "experiments/formats/safetensors.h"
#include "experiments/train/checkpoint.h"
#include "graph/optimizer.h"

#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include <filesystem>
#include <fstream>

using namespace surtsey;
using namespace surtsey::graph;
using namespace surtsey::experiments;
namespace fs = std::filesystem;

namespace {

struct Folder {
  std::string path;
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "surtsey-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~Folder() {
    std::error_code error;
    fs::remove_all(path, error);
  }
};

std::vector<std::byte> bytes(std::string header, size_t data) {
  std::vector<std::byte> file;
  for (int i = 0; i < 8; ++i) file.push_back(std::byte(header.size() >> (8 * i) & 0xff));
  for (const char letter : header) file.push_back(std::byte(letter));
  file.resize(file.size() + data);
  return file;
}

std::string refusal(const std::vector<std::byte>& file) {
  try {
    parse_safetensors(file, "FILE");
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

bool says(const std::string& message, const char* part) {
  INFO(message);
  const bool found = message.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

ParameterStore make_store() {
  ParameterStore store;
  store.add("a", {3}, Initialisation::normal(1));
  store.add("b", {2, 4}, Initialisation::normal(1));
  return store;
}

Checkpoint make_checkpoint(const ParameterStore& store, int64_t step) {
  Checkpoint checkpoint;
  *checkpoint.config = {{"n_layer", 2}};
  checkpoint.step = step;
  checkpoint.state = initial_optimizer_state(store, {}, 0.1);
  checkpoint.state[kParameters] = store.initialise(uint32_t(step));
  checkpoint.state["adam.m"] = HostTensor::random(store.flat_type(), -1, 1, 3);
  checkpoint.state["seed"] = HostTensor::scalar(DType::u32, 4294967295.0);
  return checkpoint;
}

std::string failure(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("safetensors: every type comes back bit for bit, the same content gives the same bytes") {
  Safetensors content;
  content.metadata["format"] = "pt";
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::i32, DType::u32}) {
    content.tensors[name(dtype)] = HostTensor::random({dtype, {3, 5}}, 0, 100, 1);
  }
  content.tensors["flags"] = HostTensor({DType::boolean, {3}}, {1, 0, 1});
  content.tensors["scalar"] = HostTensor::scalar(DType::u32, 4294967295.0);
  content.tensors["empty"] = HostTensor({DType::f32, {0, 4}}, {});
  const std::vector<std::byte> file = format_safetensors(content);
  const Safetensors back = parse_safetensors(file, "FILE");
  REQUIRE(back.metadata == content.metadata);
  REQUIRE(back.tensors.size() == content.tensors.size());
  for (const auto& [key, tensor] : content.tensors) {
    REQUIRE(back.tensors.at(key).type == tensor.type);
    REQUIRE(back.tensors.at(key).values == tensor.values);
  }
  REQUIRE(format_safetensors(back) == file);
  // Cut anywhere, or one byte more: refused.
  for (size_t length = 0; length < file.size(); ++length) {
    const std::vector<std::byte> cut(file.begin(), file.begin() + long(length));
    REQUIRE_THROWS_AS(parse_safetensors(cut, "FILE"), UserError);
  }
  std::vector<std::byte> longer = file;
  longer.push_back(std::byte{0});
  REQUIRE(says(refusal(longer), "follow the last tensor"));
}

TEST_CASE("safetensors: broken headers are refused by name") {
  const auto header = [](const char* entries) { return std::string("{") + entries + "}"; };
  const auto tensor = [](const char* dtype, const char* shape, const char* offsets) {
    return fmt::format(R"("x":{{"dtype":"{}","shape":{},"data_offsets":{}}})", dtype, shape, offsets);
  };
  const auto one = [&](const char* dtype, const char* shape, const char* offsets, size_t data) {
    return refusal(bytes(header(tensor(dtype, shape, offsets).c_str()), data));
  };
  REQUIRE(one("F32", "[2]", "[0,8]", 8) == "accepted");
  CHECK(says(one("F64", "[2]", "[0,16]", 16), "F64"));
  CHECK(says(one("F32", "[2]", "[0,4]", 4), "needs 8 bytes"));
  CHECK(says(one("F32", "[2]", "[4,12]", 12), "gap or an overlap"));
  CHECK(says(one("F32", "[2]", "[8,0]", 8), "needs 8 bytes"));
  CHECK(says(one("F32", "[2]", "[0,8]", 7), "truncated"));
  CHECK(says(one("F32", "[4294967296,4294967296]", "[0,0]", 0), "overflows"));
  CHECK(says(one("F32", "[-1]", "[0,0]", 0), "whole number"));
  CHECK(says(one("F32", "[1.5]", "[0,4]", 4), "whole number"));
  CHECK(says(one("F32", "2", "[0,8]", 8), "not a list"));
  CHECK(says(one("F32", "[2]", "[0]", 8), "two data_offsets"));
  CHECK(says(one("F32", "[[2]]", "[0,8]", 8), "nested"));
  CHECK(says(refusal(bytes(header((tensor("F32", "[1]", "[0,4]") + "," + tensor("F32", "[1]", "[4,8]")).c_str()), 8)),
             "twice"));
  CHECK(says(refusal(bytes("[]", 0)), "not a JSON object"));
  CHECK(says(refusal(bytes("{", 0)), "not a JSON object"));
  CHECK(says(refusal(bytes(R"({"x":1})", 0)), "exactly dtype"));
  CHECK(says(refusal(bytes(std::string(5000, '['), 0)), "nested"));
  CHECK(says(refusal(bytes(R"({"__metadata__":{"a":1}})", 0)), "not a string"));
  std::vector<std::byte> huge(16, std::byte{0xff});
  CHECK(says(refusal(huge), "at most"));
  CHECK(says(failure([] { read_safetensors("/nowhere/x.safetensors"); }), "/nowhere/x"));
}

TEST_CASE("checkpoints come back bit for bit, two are kept, the pointer is the newest") {
  const Folder folder;
  const ParameterStore store = make_store();
  REQUIRE_FALSE(has_checkpoint(folder.path));
  for (const int64_t step : {10, 20, 30}) {
    save_checkpoint(folder.path, make_checkpoint(store, step), store);
  }
  REQUIRE(has_checkpoint(folder.path));
  REQUIRE_FALSE(fs::exists(folder.path + "/step-00000010"));
  REQUIRE(fs::exists(folder.path + "/step-00000020"));
  const Checkpoint saved = make_checkpoint(store, 30);
  const Checkpoint loaded = load_checkpoint(folder.path, store);
  REQUIRE(loaded.step == 30);
  REQUIRE(*loaded.config == *saved.config);
  REQUIRE(load_checkpoint_config(folder.path) == *saved.config);
  REQUIRE(loaded.state.size() == saved.state.size());
  for (const auto& [key, tensor] : saved.state) {
    INFO(key);
    REQUIRE(loaded.state.at(key).type == tensor.type);
    REQUIRE(loaded.state.at(key).to_bytes() == tensor.to_bytes());
  }
  REQUIRE(load_checkpoint(folder.path + "/step-00000020", store).step == 20);
  // The same step once more replaces it; an older one becomes the newest save, and what stands behind it stays.
  save_checkpoint(folder.path, make_checkpoint(store, 30), store);
  save_checkpoint(folder.path, make_checkpoint(store, 5), store);
  REQUIRE(load_checkpoint(folder.path, store).step == 5);
  size_t entries = 0;
  for (const auto& entry : fs::directory_iterator(folder.path)) {
    ++entries;
    REQUIRE_FALSE(entry.path().filename().string().starts_with("."));
  }
  REQUIRE(entries == 4);  // three saves and the pointer
}

TEST_CASE("missing, truncated and foreign checkpoints are refused by name") {
  const Folder folder;
  const ParameterStore store = make_store();
  const auto load = [&] { return failure([&] { load_checkpoint(folder.path, store); }); };
  CHECK(says(load(), "there is no checkpoint"));
  CHECK(says(failure([&] { load_checkpoint(folder.path + "/none", store); }), "none"));
  const std::string save = save_checkpoint(folder.path, make_checkpoint(store, 1), store);
  for (const char* file : {"config.json", "model.safetensors", "optimizer.safetensors"}) {
    const std::string path = save + "/" + file;
    const auto size = fs::file_size(path);
    fs::copy_file(path, path + ".whole");
    fs::resize_file(path, size / 2);
    CHECK(says(load(), file));
    fs::remove(path);
    CHECK(says(load(), file));
    fs::rename(path + ".whole", path);
  }
  REQUIRE(load() == "no error");
  ParameterStore other = make_store();
  other.add("c", {1}, Initialisation::constant(0));
  CHECK(says(failure([&] { load_checkpoint(folder.path, other); }), "c is missing"));
  fs::remove_all(save);
  CHECK(says(load(), "which is missing"));
}

TEST_CASE("no save that cannot be read is removed, and none is missed without its pointer") {
  const Folder folder;
  const ParameterStore store = make_store();
  const auto step = [&](int64_t number) { return folder.path + fmt::format("/step-{:08}", number); };
  const auto content = [](const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  for (const int64_t number : {10, 20}) save_checkpoint(folder.path, make_checkpoint(store, number), store);
  // One is of a later version, one was cut by the disk: both may be all that somebody has.
  fs::copy(step(10), step(11));
  std::ofstream(step(11) + "/config.json") << R"({"format": "surtsey-checkpoint-2"})";
  fs::copy(step(10), step(12));
  fs::resize_file(step(12) + "/model.safetensors", 100);
  for (const int64_t number : {30, 40, 50}) save_checkpoint(folder.path, make_checkpoint(store, number), store);
  CHECK(fs::exists(step(11) + "/model.safetensors"));
  CHECK(fs::file_size(step(12) + "/model.safetensors") == 100);
  for (const int64_t number : {10, 20, 30}) CHECK_FALSE(fs::exists(step(number)));
  CHECK(checkpoint_steps(folder.path) == std::vector<int64_t>{11, 12, 40, 50});

  // A new save of the same step sets it aside.
  const std::string cut = "half of a configuration";
  std::ofstream(step(60).c_str());  // a file of that name is no save
  CHECK(has_checkpoint(folder.path));
  fs::remove(step(60));
  fs::create_directories(step(60));
  std::ofstream(step(60) + "/config.json") << cut;
  save_checkpoint(folder.path, make_checkpoint(store, 60), store);
  CHECK(load_checkpoint(folder.path, store).step == 60);
  CHECK(content(folder.path + "/unreadable-step-00000060-1/config.json") == cut);

  // The newest whole one is taken where the pointer says nothing.
  fs::resize_file(step(60) + "/optimizer.safetensors", 10);
  for (const char* pointer : {"", "step-00000099\n", "elsewhere\n"}) {
    std::ofstream(folder.path + "/latest") << pointer;
    CHECK(load_checkpoint(folder.path, store).step == 50);
    CHECK(load_checkpoint_step(folder.path) == 50);
  }
  fs::remove(folder.path + "/latest");
  CHECK(load_checkpoint(folder.path, store).step == 50);
  // What the pointer does name is not passed over: its steps would be lost in silence.
  std::ofstream(folder.path + "/latest") << "step-00000060\n";
  const std::string pointed = failure([&] { load_checkpoint(folder.path, store); });
  CHECK(says(pointed, "step-00000060/optimizer.safetensors"));
  CHECK(says(pointed, "step-00000050 is whole"));

  // Where none is, every one that was tried is told, and why.
  fs::remove(step(50) + "/model.safetensors");
  fs::resize_file(step(11) + "/config.json", 5);
  for (const bool has_pointer : {true, false}) {
    if (!has_pointer) fs::remove(folder.path + "/latest");
    const std::string all = failure([&] { load_checkpoint(folder.path, store); });
    CAPTURE(all);
    for (const char* fault : {"step-00000060/optimizer.safetensors", "step-00000050/model.safetensors",
                              "step-00000012/model.safetensors", "step-00000011/config.json: is not a JSON object"}) {
      CHECK(says(all, fault));
    }
  }
}

TEST_CASE("a save that fails leaves the older ones whole and nothing half done") {
  const Folder folder;
  const ParameterStore store = make_store();
  const std::string file = folder.path + "/file";
  write_file_atomic(file, "content");
  CHECK(says(failure([&] { save_checkpoint(file + "/root", make_checkpoint(store, 1), store); }), "file/root"));
  CHECK(says(failure([&] { write_file_atomic(folder.path + "/no/file", "x"); }), "no/file"));
  const std::string root = folder.path + "/root";
  save_checkpoint(root, make_checkpoint(store, 1), store);
  // A file stands where the next save's directory must go.
  write_file_atomic(root + "/.tmp-step-00000002", "in the way");
  save_checkpoint(root, make_checkpoint(store, 2), store);
  REQUIRE(load_checkpoint(root, store).step == 2);
  Checkpoint broken = make_checkpoint(store, 3);
  broken.state.erase(kParameters);
  REQUIRE_THROWS_AS(save_checkpoint(root, broken, store), UserError);
  REQUIRE(load_checkpoint(root, store).step == 2);
}

TEST_CASE("members of an ensemble part and join") {
  const State joint = {{"parameters", HostTensor::random({DType::f32, {3, 4}}, -1, 1, 1)},
                       {"adam.m", HostTensor::random({DType::f32, {3, 4}}, -1, 1, 2)},
                       {"step", HostTensor::scalar(DType::u32, 7)}};
  const std::set<std::string> per_member = {"parameters", "adam.*"};
  std::vector<State> members;
  for (int64_t e = 0; e < 3; ++e) members.push_back(member_state(joint, per_member, e));
  REQUIRE(members[1].at("adam.m").type.shape == Shape{4});
  REQUIRE(members[2].at("parameters").values[0] == joint.at("parameters").values[8]);
  const State again = ensemble_state(members, per_member);
  for (const auto& [key, tensor] : joint) {
    REQUIRE(again.at(key).type == tensor.type);
    REQUIRE(again.at(key).values == tensor.values);
  }
  REQUIRE_THROWS_AS(member_state(joint, per_member, 3), UserError);
}
