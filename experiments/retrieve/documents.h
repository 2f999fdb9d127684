// What is put into an index: rows of a file, or the files of a folder.
//
//   {"id": "7", "text": "..", "title": ".."}   a line of FILE.jsonl; the title may be missing, other fields are passed
//                                              over; `_id` (BEIR's) is an id too
//   FOLDER/**/*.txt, *.md                      a document each, named by its path in the folder
//   FOLDER/**/*.jsonl                          rows, as above
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace surtsey::experiments {

struct Document {
  std::string id;     // not empty
  std::string title;  // may be empty
  std::string text;   // more than blanks
};

// All of them, files in the order of their names. UserError that names the lines that are no documents (the first of
// them, and how many): no id, an empty text, no UTF-8, an id that an earlier line has.
std::vector<Document> read_documents(const std::filesystem::path& path);

}  // namespace surtsey::experiments
