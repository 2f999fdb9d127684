// Whole files, read and written: the one reader and the one atomic writer. Errors are UserErrors that name the path
// and the reason.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace surtsey::experiments {

// Every byte of a file, a pipe or a device such as /dev/stdin; a folder is refused.
std::string read_file(const std::filesystem::path& path);
// Nothing where no file has this name. One that is there and cannot be read is an error all the same.
std::optional<std::string> read_file_if_exists(const std::filesystem::path& path);

// A text that a user wrote, without a byte order mark. UserError, with byte and line: it is not UTF-8.
std::string read_text(const std::filesystem::path& path);

// Replaces a file so that a reader sees the old one or the new one, also after a power cut: a temporary beside it,
// fsync, rename, fsync of the folder. A link is followed; what is no file (a pipe, /dev/null) is written into.
// When it fails the old file is as it was and the temporary is gone.
void write_file_atomic(const std::filesystem::path& path, std::string_view content);
// The same for more than memory holds: `content` is called once and hands over the parts, in order. What it throws
// leaves the old file as it was.
using ContentWriter = std::function<void(std::string_view part)>;
void write_file_atomic(const std::filesystem::path& path, const std::function<void(const ContentWriter&)>& content);

// Writes a new file of a folder that nobody reads yet, and syncs it.
void write_file_synced(const std::filesystem::path& path, std::string_view content);
// Adds to the end of a file (made where there is none) and syncs it. When that fails, on a full disk say, nothing is
// added.
void append_file_synced(const std::filesystem::path& path, std::string_view content);

// Makes the names in a folder durable.
void sync_folder(const std::filesystem::path& folder);

// What a writer that was killed left behind in a folder: everything whose name begins with kUnfinished. Only for who
// holds the folder's lock (folder_lock.h), as others may be writing.
inline constexpr const char* kUnfinished = ".tmp-";
void remove_unfinished(const std::filesystem::path& folder);

}  // namespace surtsey::experiments
