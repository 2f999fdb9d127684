#include "experiments/base/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace surtsey::experiments {
namespace {

constexpr int kBarWidth = 24;

// guarded() puts a stream without a descriptor of its own in the place of stderr.
int descriptor_of(std::FILE* stream) { return stream == stderr ? STDERR_FILENO : fileno(stream); }

int terminal_columns(std::FILE* stream) {
  winsize size{};
  return ioctl(descriptor_of(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

std::string format_duration(double seconds) {
  const auto whole = static_cast<int64_t>(std::lround(std::max(0.0, seconds)));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

std::string progress_line(std::string_view label, int64_t done, int64_t total, double seconds, std::string_view text,
                          bool terminal, int columns) {
  done = std::clamp<int64_t>(done, 0, std::max<int64_t>(total, 0));
  const double share = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1;
  const int percent = static_cast<int>(std::floor(share * 100));
  std::string left;
  if (done == total) {
    left = "in " + format_duration(seconds);
  } else if (done > 0) {
    left = format_duration(seconds * (1 - share) / share) + " left";
  }
  if (!terminal) {
    return fmt::format("{} {}/{} ({}%){}{}{}{}", label, done, total, percent, left.empty() ? "" : ", ", left,
                       text.empty() ? "" : ", ", text);
  }
  const int filled = static_cast<int>(share * kBarWidth);
  std::string line =
      fmt::format("{} [{:#<{}}{:-<{}}] {:3}% {}/{}", label, "", filled, "", kBarWidth - filled, percent, done, total);
  if (!left.empty()) line += "  " + left;
  if (!text.empty()) line += fmt::format("  {}", text);
  // A line that wraps cannot be redrawn.
  if (static_cast<int>(line.size()) >= columns) line.resize(std::max(0, columns - 1));
  return line;
}

Progress::Progress(std::string label, int64_t total, std::FILE* stream, std::optional<bool> terminal)
    : label_(std::move(label)),
      total_(total),
      stream_(stream),
      terminal_(terminal.value_or(isatty(descriptor_of(stream)) != 0)),
      start_(std::chrono::steady_clock::now()) {}

Progress::~Progress() {
  if (drawn_ && !finished_) fmt::print(stream_, "\n");
}

double Progress::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void Progress::draw(int64_t done, std::string_view text) {
  const std::string line =
      progress_line(label_, done, total_, seconds(), text, terminal_, terminal_ ? terminal_columns(stream_) : 0);
  if (terminal_) {
    fmt::print(stream_, "\r\x1b[K{}", line);
    drawn_ = true;
  } else {
    fmt::print(stream_, "{}\n", line);
  }
  std::fflush(stream_);
  last_draw_ = seconds();
}

void Progress::update(int64_t done, std::string_view text) {
  if (finished_) return;
  if (seconds() - last_draw_ < (terminal_ ? kBarSeconds : kPlainSeconds)) return;
  draw(done, text);
}

void Progress::finish(std::string_view text) {
  if (finished_) return;
  draw(total_, text);
  if (terminal_) fmt::print(stream_, "\n");
  finished_ = true;
}

void Progress::note(std::string_view line) {
  fmt::print(stream_, "{}{}\n", terminal_ && drawn_ ? "\r\x1b[K" : "", line);
  drawn_ = false;
  std::fflush(stream_);
}

}  // namespace surtsey::experiments
