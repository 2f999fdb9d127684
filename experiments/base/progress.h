// Progress of long work on stderr: a bar that redraws itself on a terminal, a plain line now and
// then when the output is not one. Results go to stdout, never here.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

namespace surtsey::experiments {

// "7 s", "3 min 05 s", "2 h 14 min".
std::string format_duration(double seconds);

// One state of the work, without colour or line end:
//   terminal  "label [#########-----------]  45% 270/600  12 s left  loss 1.23"
//   plain     "label 270/600 (45%), 12 s left, loss 1.23"
// The time left is the time so far scaled by what is left; none before the first unit is done.
std::string progress_line(std::string_view label, int64_t done, int64_t total, double seconds, std::string_view text,
                          bool terminal, int columns = 80);

class Progress {
 public:
  // `terminal` overrules the check of the stream. Units are whatever the caller counts.
  Progress(std::string label, int64_t total, std::FILE* stream = stderr, std::optional<bool> terminal = std::nullopt);
  // Ends the line of an unfinished bar.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Cheap to call often: draws at most ten times a second, writes a plain line at most every
  // kPlainSeconds.
  void update(int64_t done, std::string_view text = "");
  // Draws the end state with the time it took.
  void finish(std::string_view text = "");
  // Prints a line of its own above the bar.
  void note(std::string_view line);

  static constexpr double kBarSeconds = 0.1;
  static constexpr double kPlainSeconds = 10;

 private:
  void draw(int64_t done, std::string_view text);
  double seconds() const;

  std::string label_;
  int64_t total_ = 0;
  std::FILE* stream_ = nullptr;
  bool terminal_ = false;
  bool drawn_ = false;  // a bar stands on the current line
  bool finished_ = false;
  double last_draw_ = -1e9;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace surtsey::experiments
