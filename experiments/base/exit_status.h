// What a program returns, and the one message that it leaves on stderr when it cannot go on.
//
//   0    done
//   1    an error: of the user, of a file, of the device
//   2    a wrong command line
//   75   the device was lost (EX_TEMPFAIL of sysexits.h): the same command with --resume goes on
//   130  interrupted; what was done is saved
#pragma once

#include <functional>
#include <string>

namespace surtsey::experiments {

inline constexpr int kErrorStatus = 1;
inline constexpr int kDeviceLostStatus = 75;
inline constexpr int kInterruptedStatus = 130;

// Runs `work`; an exception becomes "PROGRAM: message" on stderr and its exit status.
int guarded(const std::string& program, const std::function<int()>& work);

}  // namespace surtsey::experiments
