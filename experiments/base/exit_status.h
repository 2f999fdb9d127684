// What a program returns, and the one message that it leaves on stderr when it cannot go on.
//
//   0    done
//   1    an error: of the user, of a file, of the device
//   2    a wrong command line
//   65   every model diverged (EX_DATAERR of sysexits.h): the same command would do it again, another rate may not
//   69   the device does not compute (EX_UNAVAILABLE): nothing that it gave was saved as done
//   75   the device was lost (EX_TEMPFAIL): the same command with --resume goes on
//   130  interrupted; what was done is saved
#pragma once

#include <functional>
#include <stdexcept>
#include <string>

namespace surtsey::experiments {

inline constexpr int kErrorStatus = 1;
inline constexpr int kDivergedStatus = 65;
inline constexpr int kNotComputingStatus = 69;
inline constexpr int kDeviceLostStatus = 75;
inline constexpr int kInterruptedStatus = 130;

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

// Runs `work`; an exception becomes "PROGRAM: message" on stderr and its exit status.
int guarded(const std::string& program, const std::function<int()>& work);

}  // namespace surtsey::experiments
