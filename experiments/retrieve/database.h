// SQLite, as an index needs it: a file, statements, and errors that say what to do. Every error is a UserError that
// begins with the path.
#pragma once

#include "graph/error.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace surtsey::experiments {

// Another process writes to the file.
class DatabaseBusy : public UserError {
 public:
  using UserError::UserError;
};

// One statement, run again and again. Places of bind() count from 1, columns from 0.
class Statement {
 public:
  Statement(sqlite3* database, std::string path, std::string_view sql);

  Statement& bind(int place, int64_t value);
  Statement& bind(int place, std::string_view text);
  Statement& bind(int place, std::span<const std::byte> bytes);
  // The next row; false behind the last one, and the statement can be bound and run again.
  bool step();
  // All of it, where there are no rows to look at.
  void run();
  void reset();

  // Of the row; text and bytes are good until the next step.
  int64_t integer(int column) const;
  double number(int column) const;
  std::string_view text(int column) const;
  std::span<const std::byte> bytes(int column) const;
  bool is_null(int column) const;

 private:
  void check_result(int result) const;

  sqlite3* database_;
  std::string path_;
  std::unique_ptr<sqlite3_stmt, int (*)(sqlite3_stmt*)> statement_;
};

class Database {
 public:
  enum class Mode : uint8_t { read, write, create };
  // `create` makes a file where there is none. What a file has beside plain tables (functions in its schema, say) is
  // not trusted. UserError: no such file, one that SQLite does not know.
  Database(const std::filesystem::path& path, Mode mode);

  Statement prepare(std::string_view sql) const { return Statement(database_.get(), path_, sql); }
  void run(std::string_view sql) const { prepare(sql).run(); }
  int64_t integer(std::string_view sql) const;  // of the first row
  int64_t last_inserted() const;
  // How long a lock of another process is waited for; then an error that says so.
  void set_patience(int milliseconds) const;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::unique_ptr<sqlite3, int (*)(sqlite3*)> database_;
};

// From its making to commit(); without one nothing was changed.
class Transaction {
 public:
  // `writes`: others cannot write until it ends. UserError: another process is writing.
  Transaction(const Database& database, bool writes);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit();

 private:
  const Database& database_;
  bool open_ = true;
};

}  // namespace surtsey::experiments
