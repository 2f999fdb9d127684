#include "experiments/retrieve/database.h"

#include <sqlite3.h>

#include <cstring>

namespace surtsey::experiments {
namespace {

constexpr int kPatience = 5000;  // ms: a commit of another process takes less

[[noreturn]] void fail(sqlite3* database, const std::string& path, int result) {
  const char* said = database != nullptr ? sqlite3_errmsg(database) : sqlite3_errstr(result);
  switch (result & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      throw DatabaseBusy(fmt::format("{}: another process is writing to it; try again when it is done", path));
    case SQLITE_FULL:
      throw UserError(fmt::format("{}: there is no room left on the disk; it is as it was before", path));
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      throw UserError(fmt::format("{}: damaged, or no index of `surtsey index build`: {}", path, said));
    case SQLITE_CANTOPEN:
      throw UserError(fmt::format("{}: cannot be opened: {}", path, said));
    case SQLITE_READONLY:
    case SQLITE_PERM:
      throw UserError(fmt::format("{}: cannot be written to: {}", path, said));
    case SQLITE_IOERR: {
      const int reason = database != nullptr ? sqlite3_system_errno(database) : 0;
      throw UserError(fmt::format("{}: cannot be read or written: {}{}", path, said,
                                  reason != 0 ? fmt::format(" ({})", std::strerror(reason)) : ""));
    }
    case SQLITE_TOOBIG:
      throw UserError(fmt::format("{}: a text or its index is larger than SQLite takes: {}", path, said));
    default:
      throw UserError(fmt::format("{}: {}", path, said));
  }
}

}  // namespace

Statement::Statement(sqlite3* database, std::string path, std::string_view sql)
    : database_(database), path_(std::move(path)), statement_(nullptr, sqlite3_finalize) {
  sqlite3_stmt* made = nullptr;
  check_result(sqlite3_prepare_v2(database, sql.data(), int(sql.size()), &made, nullptr));
  statement_.reset(made);
}

void Statement::check_result(int result) const {
  if (result != SQLITE_OK) fail(database_, path_, result);
}

Statement& Statement::bind(int place, int64_t value) {
  check_result(sqlite3_bind_int64(statement_.get(), place, value));
  return *this;
}

Statement& Statement::bind(int place, std::string_view text) {
  const char* data = text.empty() ? "" : text.data();  // null would be no text
  check_result(sqlite3_bind_text64(statement_.get(), place, data, text.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
  return *this;
}

Statement& Statement::bind(int place, std::span<const std::byte> bytes) {
  check_result(sqlite3_bind_blob64(statement_.get(), place, bytes.data(), bytes.size(), SQLITE_TRANSIENT));
  return *this;
}

bool Statement::step() {
  const int result = sqlite3_step(statement_.get());
  if (result == SQLITE_ROW) return true;
  if (result != SQLITE_DONE) {
    // The message is the connection's: it is read before the statement is reset.
    try {
      fail(database_, path_, sqlite3_extended_errcode(database_));
    } catch (...) {
      reset();
      throw;
    }
  }
  reset();
  return false;
}

void Statement::run() {
  while (step()) {
  }
}

void Statement::reset() { sqlite3_reset(statement_.get()); }

int64_t Statement::integer(int column) const { return sqlite3_column_int64(statement_.get(), column); }
double Statement::number(int column) const { return sqlite3_column_double(statement_.get(), column); }
bool Statement::is_null(int column) const { return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL; }

std::string_view Statement::text(int column) const {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
  return data == nullptr ? std::string_view() : std::string_view(data, bytes(column).size());
}

std::span<const std::byte> Statement::bytes(int column) const {
  const auto* data = static_cast<const std::byte*>(sqlite3_column_blob(statement_.get(), column));
  return {data, size_t(sqlite3_column_bytes(statement_.get(), column))};
}

Database::Database(const std::filesystem::path& path, Mode mode)
    : path_(path.string()), database_(nullptr, sqlite3_close) {
  if (mode != Mode::create) {
    std::error_code error;
    check(std::filesystem::exists(path, error), "{}: there is no such index; `surtsey index build` makes one", path_);
    check(!std::filesystem::is_directory(path, error), "{}: a folder; an index is one file", path_);
  }
  const int flags = mode == Mode::read    ? SQLITE_OPEN_READONLY
                    : mode == Mode::write ? SQLITE_OPEN_READWRITE
                                          : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  sqlite3* made = nullptr;
  const int result = sqlite3_open_v2(path_.c_str(), &made, flags | SQLITE_OPEN_FULLMUTEX, nullptr);
  database_.reset(made);
  if (result != SQLITE_OK) fail(made, path_, result);
  sqlite3_extended_result_codes(made, 1);
  sqlite3_db_config(made, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(made, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  set_patience(kPatience);
}

int64_t Database::integer(std::string_view sql) const {
  Statement statement = prepare(sql);
  check(statement.step(), "{}: damaged: {} gives nothing", path_, sql);
  return statement.integer(0);
}

int64_t Database::last_inserted() const { return sqlite3_last_insert_rowid(database_.get()); }

void Database::set_patience(int milliseconds) const { sqlite3_busy_timeout(database_.get(), milliseconds); }

Transaction::Transaction(const Database& database, bool writes) : database_(database) {
  database_.run(writes ? "BEGIN IMMEDIATE" : "BEGIN");
  // A transaction that reads begins with what it first reads.
  if (!writes) database_.run("SELECT count(*) FROM sqlite_master");
}

Transaction::~Transaction() {
  if (!open_) return;
  try {
    database_.run("ROLLBACK");
  } catch (const UserError&) {
    // What failed has rolled back by itself.
  }
}

void Transaction::commit() {
  database_.run("COMMIT");
  open_ = false;
}

}  // namespace surtsey::experiments
