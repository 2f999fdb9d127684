// The rules of the tree that a compiler does not check. Each rule is a function from one file to
// the lines that break it; it runs over the whole tree, and over planted text that it must catch.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/base/file.h"
#include "tests/support/tool.h"

using namespace surtsey;

namespace {

namespace fs = std::filesystem;

constexpr size_t kLineLimit = 600;

// From the bottom to the top: a folder may include itself and what stands before it.
constexpr std::array<std::string_view, 5> kFolders{"graph", "shaders", "engine", "experiments", "tests"};

struct File {
  std::string path;  // from the root of the repository, with forward slashes
  std::string text;
};

struct Violation {
  size_t line;  // from 1; 0 blames the whole file
  std::string reason;
};

using Rule = std::function<std::vector<Violation>(const File&)>;

std::string folder_of(std::string_view path) { return std::string(path.substr(0, path.find('/'))); }

// The room of a path in experiments/: `train` of experiments/train/train.h; empty for what stands in none.
std::string room_of(std::string_view path) {
  const std::string_view inside = path.substr(std::min(path.size(), std::string_view("experiments/").size()));
  const size_t slash = inside.find('/');
  return slash == inside.npos ? "" : std::string(inside.substr(0, slash));
}

bool is_cpp(std::string_view path) { return path.ends_with(".h") || path.ends_with(".cpp"); }

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

// The rooms of experiments/, bottom first, by the same rule: scripts/rooms reads the same file. tests/ mirrors them.
const std::vector<std::string>& rooms() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> lines =
        lines_of(experiments::read_file(fs::path(SURTSEY_SOURCE_ROOT) / "experiments" / "rooms.txt"));
    std::erase_if(lines, [](const std::string& line) { return line.empty() || line.starts_with("#"); });
    return lines;
  }();
  return names;
}

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

// The text with comments and the inside of literals blanked; line breaks and #include lines stay.
std::string code_of(const std::string& text) {
  std::string code = text;
  const auto blank = [&](size_t begin, size_t end) {
    for (size_t i = begin; i < std::min(end, code.size()); ++i) {
      if (code[i] != '\n') code[i] = ' ';
    }
    return std::min(end, code.size());
  };
  const auto past = [&](std::string_view mark, size_t from) {
    const size_t found = text.find(mark, from);
    return found == std::string::npos ? text.size() : found + mark.size();
  };
  size_t i = 0;
  bool line_start = true;
  while (i < text.size()) {
    const std::string_view rest = std::string_view(text).substr(i);
    if (line_start && rest.starts_with("#include")) {
      i = std::min(text.find('\n', i), text.size());
    } else if (rest.starts_with("//")) {
      i = blank(i, std::min(text.find('\n', i), text.size()));
    } else if (rest.starts_with("/*")) {
      i = blank(i, past("*/", i + 2));
    } else if (rest.starts_with("R\"") && (i == 0 || !is_word(text[i - 1]))) {
      const size_t open = std::min(text.find('(', i), text.size());
      const std::string close = ")" + text.substr(i + 2, open - i - 2) + "\"";
      i = blank(i, past(close, open));
    } else if (text[i] == '"' || (text[i] == '\'' && (i == 0 || !is_word(text[i - 1])))) {
      size_t end = i + 1;
      while (end < text.size() && text[end] != text[i] && text[end] != '\n') {
        end += text[end] == '\\' ? 2 : 1;
      }
      i = blank(i + 1, end) + 1;
      line_start = false;
    } else {
      line_start = text[i] == '\n' || (line_start && text[i] == ' ');
      ++i;
    }
  }
  return code;
}

// The words (identifiers and numbers) of a line of code.
std::vector<std::string> identifiers_of(const std::string& line) {
  std::vector<std::string> words;
  for (size_t i = 0; i < line.size();) {
    size_t end = i;
    while (end < line.size() && (is_word(line[end]) || (line[end] == '\'' && end > i))) ++end;
    if (end > i) words.push_back(line.substr(i, end - i));
    i = std::max(end, i + 1);
  }
  return words;
}

// Calls visit(line number, what stands between the quotes or angles, whether in quotes).
void for_each_include(const File& file, const std::function<void(size_t, const std::string&, bool)>& visit) {
  const std::vector<std::string> lines = lines_of(code_of(file.text));
  for (size_t i = 0; i < lines.size(); ++i) {
    const size_t hash = lines[i].find_first_not_of(' ');
    if (hash == std::string::npos || lines[i].compare(hash, 8, "#include") != 0) continue;
    const size_t open = lines[i].find_first_of("\"<", hash);
    if (open == std::string::npos) continue;
    const size_t close = lines[i].find_first_of("\">", open + 1);
    visit(i + 1, lines[i].substr(open + 1, close - open - 1), lines[i][open] == '"');
  }
}

std::vector<Violation> includes_point_down(const File& file) {
  std::vector<Violation> violations;
  const auto height = [](std::string_view folder) {
    return std::find(kFolders.begin(), kFolders.end(), folder) - kFolders.begin();
  };
  const std::string from = folder_of(file.path);
  for_each_include(file, [&](size_t line, const std::string& target, bool quoted) {
    if (!quoted) return;
    const std::string to = folder_of(target);
    if (height(to) == static_cast<std::ptrdiff_t>(kFolders.size())) {
      violations.push_back({line, fmt::format("\"{}\" is not written from the root", target)});
    } else if (height(to) > height(from)) {
      violations.push_back({line, fmt::format("{}/ includes {}/", from, to)});
    }
  });
  return violations;
}

std::vector<Violation> rooms_point_down(const File& file) {
  if (folder_of(file.path) != "experiments") return {};
  const auto height = [](std::string_view room) {
    return (room.empty() ? rooms().end() : std::find(rooms().begin(), rooms().end(), room)) - rooms().begin();
  };
  const std::string from = room_of(file.path);
  if (!from.empty() && height(from) == height("")) return {{0, fmt::format("{} is no room of experiments/", from)}};
  std::vector<Violation> violations;
  for_each_include(file, [&](size_t line, const std::string& target, bool quoted) {
    if (!quoted || folder_of(target) != "experiments") return;
    const std::string to = room_of(target);
    if (height(to) > height(from)) violations.push_back({line, fmt::format("{}/ includes {}/", from, to)});
  });
  return violations;
}

// A test stands in the folder of what it tests; what tests share stands in support/.
std::vector<Violation> tests_mirror_rooms(const File& file) {
  if (folder_of(file.path) != "tests" || !is_cpp(file.path)) return {};
  const size_t slash = file.path.find('/', 6);
  if (slash == std::string::npos) return {};
  const std::string room = file.path.substr(6, slash - 6);
  const auto in = [&](const auto& list) { return std::find(list.begin(), list.end(), room) != list.end(); };
  if (in(rooms()) || in(kFolders) || room == "support" || room == "layer" || room == "fuzz") return {};
  return {{0, fmt::format("{} is no folder of the tree that tests could mirror", room)}};
}

// The words between backticks.
std::set<std::string> quoted_words(const std::string& text) {
  std::set<std::string> words;
  size_t open = text.find('`');
  while (open != std::string::npos) {
    const size_t close = text.find('`', open + 1);
    if (close == std::string::npos) break;
    words.insert(text.substr(open + 1, close - open - 1));
    open = text.find('`', close + 1);
  }
  return words;
}

// A room's README names its sources, `join.h` or `config` for both files of a name, and its table no file that is gone.
// `files` are what the room holds, folders with a slash at their end.
std::vector<std::string> readme_faults(const std::string& readme, const std::vector<std::string>& files) {
  std::vector<std::string> faults;
  const std::set<std::string> named = quoted_words(readme);
  std::set<std::string> known;
  for (const std::string& file : files) {
    const std::string stem = fs::path(file).stem().string();
    known.insert({file, stem});
    if (is_cpp(file) && !named.contains(file) && !named.contains(stem)) faults.push_back("does not name " + file);
  }
  for (const std::string& line : lines_of(readme)) {
    if (!line.starts_with("| `")) continue;
    for (const std::string& word : quoted_words(line.substr(0, line.find('|', 1))))
      if (!known.contains(word)) faults.push_back("names " + word + ", which is not there");
  }
  return faults;
}

std::vector<Violation> vulkan_stays_in_engine(const File& file) {
  std::vector<Violation> violations;
  const std::string from = folder_of(file.path);
  if (from == "engine" || from == "tests") return violations;
  for_each_include(file, [&](size_t line, const std::string& target, bool quoted) {
    if (!quoted && (target.starts_with("vulkan/") || target.starts_with("vk_video/"))) {
      violations.push_back({line, fmt::format("{}/ includes <{}>", from, target)});
    }
  });
  return violations;
}

std::vector<Violation> files_are_short(const File& file) {
  const size_t lines = lines_of(file.text).size();
  if (lines <= kLineLimit) return {};
  return {{0, fmt::format("{} lines, the limit is {}", lines, kLineLimit)}};
}

// Vendors (PCI and Khronos identifiers) are known to the table of defects and to nothing else.
std::vector<Violation> vendors_stay_in_quirks(const File& file) {
  static const std::set<unsigned long> kVendors{
      0x1002,   // AMD
      0x1010,   // Imagination
      0x106b,   // Apple
      0x10de,   // NVIDIA
      0x13b5,   // Arm
      0x144d,   // Samsung
      0x14e4,   // Broadcom
      0x1ae0,   // Google
      0x5143,   // Qualcomm
      0x8086,   // Intel
      0x10001,  // Vivante
      0x10002,  // VeriSilicon
      0x10003,  // Kazan
      0x10004,  // Codeplay
      0x10005,  // Mesa
      0x10006,  // PoCL
  };
  std::vector<Violation> violations;
  if (file.path == "engine/quirks.cpp" || file.path.starts_with("tests/")) return violations;
  const std::vector<std::string> lines = lines_of(code_of(file.text));
  for (size_t i = 0; i < lines.size(); ++i) {
    for (std::string word : identifiers_of(lines[i])) {
      std::erase(word, '\'');
      const bool hexadecimal = word.starts_with("0x") || word.starts_with("0X");
      if ((hexadecimal && kVendors.contains(std::strtoul(word.c_str(), nullptr, 16))) ||
          word.starts_with("VK_VENDOR_ID_") || word.starts_with("VK_DRIVER_ID_")) {
        violations.push_back({i + 1, fmt::format("{} belongs in engine/quirks.cpp", word)});
      }
    }
    for (const std::string_view scope : {"VendorId::e", "DriverId::e"}) {
      if (lines[i].find(scope) != std::string::npos) {
        violations.push_back({i + 1, fmt::format("{} belongs in engine/quirks.cpp", scope)});
      }
    }
  }
  return violations;
}

std::vector<Violation> environment_is_read_once(const File& file) {
  std::vector<Violation> violations;
  // The test layer stands in for a driver: it is a library of its own and knows nothing of ours.
  const bool reads = file.path == "graph/debug.cpp" || file.path == "tests/layer/settings.cpp";
  if (reads || !is_cpp(file.path)) return violations;
  const std::vector<std::string> lines = lines_of(code_of(file.text));
  for (size_t i = 0; i < lines.size(); ++i) {
    for (const std::string& word : identifiers_of(lines[i])) {
      if (word == "getenv" || word == "secure_getenv" || word == "environ") {
        violations.push_back({i + 1, fmt::format("{} belongs in graph/debug.cpp", word)});
      }
    }
  }
  return violations;
}

// A test file that meson.build does not list would be skipped without a word. `manifest` is the
// text of the meson.build files that may list it: its folder's names sources from there and studies
// by their stem; the root's names the umbrella tool by its path.
std::vector<Violation> is_built(const File& file, const std::string& manifest) {
  if (!file.path.ends_with(".cpp")) return {};
  const fs::path inside = fs::path(file.path).lexically_relative(folder_of(file.path));
  const std::string listed = fmt::format("'{}'", inside.generic_string());
  const std::string stem = fmt::format("'{}'", inside.stem().string());
  if (manifest.find(listed) != std::string::npos) return {};
  if (manifest.find(fmt::format("'{}'", file.path)) != std::string::npos) return {};
  if (inside.begin()->string() == "studies" && manifest.find(stem) != std::string::npos) return {};
  return {{0, fmt::format("{}/meson.build does not list it", folder_of(file.path))}};
}

// Every source file of the tree.
const std::vector<File>& tree() {
  static const std::vector<File> files = [] {
    static const std::set<std::string> kSuffixes{".h", ".cpp", ".in", ".glsl", ".py", ".build"};
    const fs::path root(SURTSEY_SOURCE_ROOT);
    std::vector<File> found;
    for (const std::string_view folder : kFolders) {
      for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
        if (!entry.is_regular_file() || !kSuffixes.contains(entry.path().extension().string())) {
          continue;
        }
        found.push_back({entry.path().lexically_relative(root).generic_string(), experiments::read_file(entry.path())});
      }
    }
    std::sort(found.begin(), found.end(), [](const File& a, const File& b) { return a.path < b.path; });
    return found;
  }();
  return files;
}

// One line a violation, as compilers write them; empty for a clean tree.
std::string violations_in_tree(const Rule& rule) {
  std::string report;
  for (const File& file : tree()) {
    for (const Violation& violation : rule(file)) {
      report += fmt::format("{}:{}: {}\n", file.path, violation.line, violation.reason);
    }
  }
  return report;
}

// The lines that a rule blames in a planted file.
std::vector<size_t> blamed(const Rule& rule, const std::string& path, const std::string& text) {
  std::vector<size_t> lines;
  for (const Violation& violation : rule({path, text})) lines.push_back(violation.line);
  return lines;
}

using Lines = std::vector<size_t>;

}  // namespace

TEST_CASE("style: the checks see the tree", "[style]") {
  std::set<std::string> folders;
  bool sees_itself = false;
  for (const File& file : tree()) {
    folders.insert(folder_of(file.path));
    sees_itself |= file.path == "tests/test_style.cpp";
  }
  CHECK(sees_itself);
  CHECK(folders.size() == kFolders.size());
}

TEST_CASE("style: includes point from experiments down to graph", "[style]") {
  CHECK(violations_in_tree(includes_point_down) == "");

  const Rule rule = includes_point_down;
  CHECK(blamed(rule, "graph/plan.h", "#pragma once\n#include \"shaders/emit.h\"\n") == Lines{2});
  CHECK(blamed(rule, "shaders/emit.cpp", "#include \"engine/device.h\"\n") == Lines{1});
  CHECK(blamed(rule, "engine/device.h", "  #include \"experiments/study.h\"\n") == Lines{1});
  CHECK(blamed(rule, "experiments/study/study.h", "#include \"tests/support.h\"\n") == Lines{1});
  CHECK(blamed(rule, "graph/graph.cpp", "#include \"graph.h\"\n") == Lines{1});
  CHECK(blamed(rule, "graph/ops/leaf.cpp", "#include \"../op.h\"\n") == Lines{1});
  CHECK(blamed(rule, "tests/a.cpp", "#include \"experiments/study.h\"\n").empty());
  CHECK(blamed(rule, "engine/a.cpp", "#include \"engine/b.h\"\n#include \"graph/c.h\"\n").empty());
  CHECK(blamed(rule, "graph/a.cpp", "// #include \"engine/b.h\"\n").empty());
  CHECK(blamed(rule, "shaders/a.cpp", "auto s = R\"(\n#include \"common.glsl\"\n)\";\n").empty());
}

TEST_CASE("style: includes point one way between the rooms of experiments", "[style]") {
  CHECK(violations_in_tree(rooms_point_down) == "");

  const Rule rule = rooms_point_down;
  CHECK(blamed(rule, "experiments/train/train.h", "#include \"experiments/study/study.h\"\n") == Lines{1});
  CHECK(blamed(rule, "experiments/base/join.h", "\n#include \"experiments/text/symbols.h\"\n") == Lines{2});
  CHECK(blamed(rule, "experiments/study/study.h", "#include \"experiments/example.h\"\n") == Lines{1});
  CHECK(blamed(rule, "experiments/attic/old.h", "") == Lines{0});
  CHECK(blamed(rule, "experiments/surtsey.cpp", "#include \"experiments/commands/commands.h\"\n").empty());
  CHECK(blamed(rule, "experiments/study/study.h", "#include \"experiments/train/train.h\"\n").empty());
}

TEST_CASE("style: a room says what it is for and names its files", "[style]") {
  const fs::path root = fs::path(SURTSEY_SOURCE_ROOT) / "experiments";
  for (const std::string& room : rooms()) {
    if (!fs::exists(root / room)) continue;  // not yet
    CAPTURE(room);
    REQUIRE(fs::exists(root / room / "README.md"));
    std::vector<std::string> files;
    for (const auto& entry : fs::directory_iterator(root / room))
      files.push_back(entry.path().filename().string() + (entry.is_directory() ? "/" : ""));
    CHECK(readme_faults(experiments::read_file(root / room / "README.md"), files) == std::vector<std::string>());
  }

  const std::set<std::string> named =
      quoted_words(experiments::read_file(fs::path(SURTSEY_SOURCE_ROOT) / "tests" / "README.md"));
  for (const File& file : tree()) {
    const fs::path path(file.path);
    if (!file.path.starts_with("tests/") || !path.filename().string().starts_with("test_")) continue;
    CAPTURE(file.path);
    CHECK(named.contains(path.stem().string()));
  }

  using Faults = std::vector<std::string>;
  const std::string readme = "# base: files\n\n| `file`, `join.h` | what |\n| `pages/` | of `others` |\n";
  CHECK(readme_faults(readme, {"file.h", "file.cpp", "join.h", "pages/", "a.toml"}) == Faults());
  CHECK(readme_faults(readme, {"file.h", "join.h", "pages/", "lock.h"}) == Faults{"does not name lock.h"});
  CHECK(readme_faults(readme, {"file.h", "pages/"}) == Faults{"names join.h, which is not there"});
}

TEST_CASE("style: scripts/rooms finds arrows back up and circles", "[style]") {
  const fs::path root(SURTSEY_SOURCE_ROOT);
  const tests::Folder folder;
  const auto check_rooms = [&](const fs::path& tree) {
    return tests::run_program(folder, (root / "scripts" / "rooms").string(), "--check " + tree.string());
  };
  const tests::Outcome whole = check_rooms(root);
  CAPTURE(whole.err);
  CHECK(whole.status == 0);

  const fs::path planted = folder / "planted";
  const auto plant = [&](const std::string& path, const std::string& text) {
    fs::create_directories((planted / path).parent_path());
    std::ofstream(planted / path) << text;
  };
  plant("experiments/rooms.txt", "# bottom first\nbase\ntrain\n");
  plant("experiments/train/train.h", "#include \"experiments/base/join.h\"\n");
  CHECK(check_rooms(planted).status == 0);
  plant("graph/plan.h", "\n#include \"experiments/train/train.h\"\n");
  const tests::Outcome up = check_rooms(planted);
  CHECK(up.status == 1);
  CHECK(up.err.find("graph/plan.h:2: graph includes experiments/train, which is above it") != std::string::npos);
  CHECK(up.err.find("circle") == std::string::npos);
  plant("experiments/base/join.h", "#include \"graph/plan.h\"\n");
  CHECK(check_rooms(planted).err.find("circle: experiments/base, experiments/train, graph") != std::string::npos);
  plant("experiments/attic/old.h", "#include \"graph/plan.h\"\n");
  CHECK(check_rooms(planted).err.find("experiments/attic is no room") != std::string::npos);
}

TEST_CASE("style: tests stand in the folder of what they test", "[style]") {
  CHECK(violations_in_tree(tests_mirror_rooms) == "");

  const Rule rule = tests_mirror_rooms;
  CHECK(blamed(rule, "tests/attic/test_old.cpp", "") == Lines{0});
  CHECK(blamed(rule, "tests/train/test_training.cpp", "").empty());
  CHECK(blamed(rule, "tests/graph/test_graph.cpp", "").empty());
}

TEST_CASE("style: only the engine includes Vulkan", "[style]") {
  CHECK(violations_in_tree(vulkan_stays_in_engine) == "");

  const Rule rule = vulkan_stays_in_engine;
  const std::string text = "#include <vector>\n#include <vulkan/vulkan.h>\n";
  CHECK(blamed(rule, "graph/target.h", text) == Lines{2});
  CHECK(blamed(rule, "shaders/reflect.cpp", text) == Lines{2});
  CHECK(blamed(rule, "experiments/study.cpp", "#include <vulkan/vulkan_raii.hpp>\n") == Lines{1});
  CHECK(blamed(rule, "engine/device.cpp", text).empty());
  CHECK(blamed(rule, "tests/test_device.cpp", text).empty());
}

TEST_CASE("style: no file is longer than 600 lines", "[style]") {
  CHECK(violations_in_tree(files_are_short) == "");

  std::string text;
  for (size_t i = 0; i < kLineLimit; ++i) text += "int x;\n";
  CHECK(blamed(files_are_short, "graph/a.cpp", text).empty());
  CHECK(blamed(files_are_short, "graph/a.cpp", text + "int y;\n") == Lines{0});
  CHECK(blamed(files_are_short, "graph/a.cpp", text + "int y;") == Lines{0});
}

TEST_CASE("style: vendors are named in engine/quirks.cpp only", "[style]") {
  CHECK(violations_in_tree(vendors_stay_in_quirks) == "");

  const Rule rule = vendors_stay_in_quirks;
  const std::string text = "int a;\nif (vendor == 0x10de) fast();\n";
  CHECK(blamed(rule, "engine/device.cpp", text) == Lines{2});
  CHECK(blamed(rule, "shaders/matmul.cpp", "if (v == 0X8086u) {}\n") == Lines{1});
  CHECK(blamed(rule, "graph/target.cpp", "int v = 0x1'0005;\n") == Lines{1});
  CHECK(blamed(rule, "engine/device.cpp", "x == VK_DRIVER_ID_MESA_RADV\n") == Lines{1});
  CHECK(blamed(rule, "engine/device.cpp", "x == vk::DriverId::eMesaLlvmpipe\n") == Lines{1});
  CHECK(blamed(rule, "engine/quirks.cpp", text).empty());
  CHECK(blamed(rule, "graph/random.h", "x ^= 0x10de0000u;  // not 0x10de\n").empty());
}

TEST_CASE("style: the environment is read in graph/debug.cpp only", "[style]") {
  CHECK(violations_in_tree(environment_is_read_once) == "");

  const Rule rule = environment_is_read_once;
  const std::string text = "int a = 1'000;\nauto v = std::getenv(\"SURTSEY_DEBUG\");\n";
  CHECK(blamed(rule, "engine/device.cpp", text) == Lines{2});
  CHECK(blamed(rule, "tests/support.h", "secure_getenv (\"A\");\n") == Lines{1});
  CHECK(blamed(rule, "engine/device.cpp", "extern char** environ;\n") == Lines{1});
  CHECK(blamed(rule, "graph/debug.cpp", text).empty());
  CHECK(blamed(rule, "tests/layer/settings.cpp", text).empty());
  CHECK(blamed(rule, "tests/layer/device.cpp", text) == Lines{2});
  CHECK(blamed(rule, "graph/a.cpp", "/* getenv() */ auto s = \"\\\"getenv()\"; // getenv\n").empty());
  CHECK(blamed(rule, "graph/a.cpp", "setenv(\"A\", \"1\", 1);\n").empty());
}

TEST_CASE("style: every source file is built", "[style]") {
  const Rule rule = [](const File& file) {
    const fs::path root(SURTSEY_SOURCE_ROOT);
    return is_built(file, experiments::read_file(root / folder_of(file.path) / "meson.build") +
                              experiments::read_file(root / "meson.build"));
  };
  CHECK(violations_in_tree(rule) == "");

  const std::string manifest = "files(\n  'a.cpp',\n  'ops/b.cpp',\n)\nstudies = ['c']\n";
  CHECK(is_built({"graph/a.cpp", ""}, manifest).empty());
  CHECK(is_built({"graph/ops/b.cpp", ""}, manifest).empty());
  CHECK(is_built({"experiments/studies/c.cpp", ""}, manifest).empty());
  CHECK(is_built({"experiments/d.cpp", ""}, manifest + "'experiments/d.cpp'").empty());
  CHECK(is_built({"graph/b.cpp", ""}, manifest).size() == 1);
  CHECK(is_built({"graph/ops/a.cpp", ""}, manifest).size() == 1);
  CHECK(is_built({"experiments/c.cpp", ""}, manifest).size() == 1);
}
