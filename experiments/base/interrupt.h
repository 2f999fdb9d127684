// Ctrl-C and SIGTERM: the first asks for a clean end (finish what is in flight, save, exit), the
// second ends the process at once.
#pragma once

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

}  // namespace surtsey::experiments
