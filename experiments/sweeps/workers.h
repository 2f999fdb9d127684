// Processes that work off one directory together; its locks divide the work.
#pragma once

#include <string>
#include <vector>

namespace surtsey::experiments {

// Starts this program once for each list of arguments, and waits for all. A signal to this process is passed on.
// Throws Interrupted when any was interrupted, UserError when any failed.
void run_workers(const std::vector<std::vector<std::string>>& arguments);

}  // namespace surtsey::experiments
