// Being told to stop: the first signal asks for a clean end (finish what is in flight, save, exit).
//
// SIGINT, SIGTERM, SIGHUP (a terminal that closes), SIGXCPU (a soft limit of CPU time) and SIGUSR1, SIGUSR2 (batch
// systems, ahead of a time limit) ask alike; one that was ignored when the program began (nohup) stays ignored, SIGINT
// and SIGTERM excepted. A SIGINT or SIGTERM that comes a second or more after the first signal ends the process at
// once; sooner it is the same request, which reached the process twice (timeout, a batch system, a shell's trap signal
// both the process and its group).
//
// SIGPIPE is ignored from then on: whoever reads a log and goes away does not end what writes it. That stdout was not
// written is told at the end (exit_status.h).
#pragma once

#include <sys/types.h>

#include "graph/error.h"

namespace surtsey::experiments {

// Thrown where work stops after the first signal; what was done is saved by then.
class Interrupted : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

void handle_interrupts();
bool interrupted();
// Sets what interrupted() says, for tests and for programs that stop for other reasons.
void set_interrupted(bool value);

// Asks a process that handles interrupts to stop. However often and whenever, it never ends at once by this.
void ask_to_stop(pid_t process);

}  // namespace surtsey::experiments
