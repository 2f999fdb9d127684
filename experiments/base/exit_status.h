// What a program returns, and the one message that it leaves on stderr when it cannot go on.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "graph/error.h"

namespace surtsey::experiments {

inline constexpr int kDoneStatus = 0;
inline constexpr int kErrorStatus = 1;
inline constexpr int kCommandLineStatus = 2;
inline constexpr int kDivergedStatus = 65;      // EX_DATAERR of sysexits.h
inline constexpr int kNotComputingStatus = 69;  // EX_UNAVAILABLE
inline constexpr int kDeviceLostStatus = 75;    // EX_TEMPFAIL
inline constexpr int kInterruptedStatus = 130;

// The table of them, for --help and README.md.
struct ExitStatus {
  int status = 0;
  const char* meaning = nullptr;
};
const std::vector<ExitStatus>& exit_statuses();
std::string exit_status_help();  // a line each

// A command, an option or a key that there is not, or a value that it does not take.
class CommandLineError : public UserError {
 public:
  using UserError::UserError;
};

// Every model of a run takes steps without a finite gradient only.
class Diverged : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// What was submitted completed, and nothing was computed.
class NotComputing : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The frame of every program's main. Opens the standard descriptors that are closed, before anything else takes their
// numbers; lets a write beyond a limit of size fail rather than end the process, and one to stderr fail in silence. Then
// runs `work`: an exception becomes
// "PROGRAM: message" on stderr and its status. A program whose stdout could not be written, or that lost something else
// (note_lost_output), does not return kDoneStatus.
int guarded(const std::string& program, const std::function<int()>& work);

// Something that was to be written was not, and work goes on all the same: says so on stderr.
void note_lost_output(const std::string& message);

// A line on stdout, at once. Unlike fmt::print it does not throw where stdout cannot be written: a log on a full disk
// must not end hours of work. guarded() tells at the end.
void print_line(std::string_view line);

}  // namespace surtsey::experiments
