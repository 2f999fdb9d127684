// A piece of work in a child process, so that a driver that ends its process ends only that.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace surtsey::engine {

// What parent and child see both: the child says what it is at, and the parent reads that after
// the child has died.
class Progress {
 public:
  virtual ~Progress() = default;
  virtual void set(const std::string& what) = 0;
};

struct ChildResult {
  bool finished = false;  // `work` returned; false when it threw or the child died
  std::string output;     // of `work`, or the message of what it threw
  bool user_error = false;
  std::string progress;  // the last that was set; of a child that died, what it was at
  std::string death;     // "signal 6 (Aborted)", "exit status 3"; empty when it did not die
  std::string errors;    // what it wrote to stderr
};

// Forks, sets (or with an empty value removes) the variables, and calls `work` with stderr going to
// a file. The child ends without destructors, so nothing that a driver left half made is released.
// The caller has no other thread that holds a lock of a library that `work` uses.
ChildResult run_in_child(const std::vector<std::pair<std::string, std::string>>& environment,
                         const std::function<std::string(Progress&)>& work);

}  // namespace surtsey::engine
