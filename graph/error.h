// Errors. check() blames the caller, ensure() blames us; both throw, nothing in Surtsey exits or returns a bool for an
// error.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace surtsey {

// Bad input of any kind: a shape, a configuration key, a file, a flag. The message says what was wrong, where, and what
// would be right.
class UserError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A broken invariant of our own. Reaching one is a defect of Surtsey whatever the input was.
class InternalError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

template <typename... Args>
void check(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw UserError(fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
void ensure(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw InternalError("internal error: " + fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace surtsey
