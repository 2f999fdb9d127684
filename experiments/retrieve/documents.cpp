#include "experiments/retrieve/documents.h"

#include "experiments/base/file.h"
#include "experiments/base/utf8.h"
#include "experiments/formats/strict_json.h"
#include "graph/error.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <vector>

namespace surtsey::experiments {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kNamed = 5;        // faults that are told in words
constexpr int kDocumentDepth = 64;  // of brackets in a row

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n\v\f") == text.npos; }

std::string text_field(const json& row, const char* name) {
  const auto found = row.find(name);
  check(found != row.end() && !found->is_null(), "has no {}", name);
  check(found->is_string(), "{} is a text, not {}", name, found->type_name());
  return found->get<std::string>();
}

std::string id_of(const json& row) {
  const auto found = row.contains("id") ? row.find("id") : row.find("_id");
  check(found != row.end(), "has no id");
  if (found->is_number_integer()) return found->dump();
  check(found->is_string(), "id is a text or a whole number, not {}", found->type_name());
  check(!found->get_ref<const std::string&>().empty(), "id is empty");
  return found->get<std::string>();
}

Document row_of(std::string_view line) {
  const json row = parse_strict_json(line, "the line", kDocumentDepth);
  check(row.is_object(), "is no object with id and text");
  Document document{.id = id_of(row), .text = text_field(row, "text")};
  if (row.contains("title") && !row["title"].is_null()) document.title = text_field(row, "title");
  check(!is_blank(document.text), "text is empty");
  return document;
}

class Reader {
 public:
  void rows(const fs::path& path) {
    const std::string all = read_file(path);  // what is no UTF-8 is a fault of its row
    const std::string_view content = without_byte_order_mark(all);
    size_t number = 1;
    for (size_t at = 0; at < content.size(); ++number) {
      const size_t end = std::min(content.find('\n', at), content.size());
      const std::string_view line = content.substr(at, end - at);
      at = end + 1;
      if (is_blank(line)) continue;
      take(fmt::format("{}:{}", path.string(), number), [&] { return row_of(line); });
    }
  }

  void text(const fs::path& path, const fs::path& folder) {
    take(path.string(), [&] {
      const std::string text = read_file(path);
      Document document{.id = path.lexically_relative(folder).generic_string(),
                        .text = std::string(without_byte_order_mark(text))};
      check_utf8(document.id, "its name");
      check_utf8(text, "its text");
      check(!is_blank(document.text), "is empty");
      return document;
    });
  }

  std::vector<Document> finish(const fs::path& path) {
    check(faults_ == 0, "{} of the documents cannot be taken:\n  {}{}", faults_, fmt::join(named_, "\n  "),
          faults_ > named_.size() ? fmt::format("\n  and {} more", faults_ - named_.size()) : "");
    check(!documents_.empty(), "{}: there are no documents in it (rows of .jsonl; in a folder also .txt and .md)",
          path.string());
    return std::move(documents_);
  }

 private:
  template <class Make>
  void take(const std::string& where, const Make& make) {
    try {
      Document document = make();
      const auto [earlier, fresh] = places_.emplace(document.id, where);
      check(fresh, "id '{}' stands in {} already", document.id, earlier->second);
      documents_.push_back(std::move(document));
    } catch (const UserError& error) {
      if (++faults_ <= kNamed) named_.push_back(fmt::format("{}: {}", where, error.what()));
    }
  }

  std::vector<Document> documents_;
  std::unordered_map<std::string, std::string> places_;  // of ids
  size_t faults_ = 0;
  std::vector<std::string> named_;
};

}  // namespace

std::vector<Document> read_documents(const fs::path& path) {
  Reader reader;
  if (fs::is_directory(path)) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(path)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) {
      const fs::path kind = file.extension();
      if (kind == ".jsonl") reader.rows(file);
      if (kind == ".txt" || kind == ".md") reader.text(file, path);
    }
  } else {
    reader.rows(path);
  }
  return reader.finish(path);
}

}  // namespace surtsey::experiments
