// Numbers as they are shown.
#pragma once

#include <string>

namespace surtsey::experiments {

// "26.2k", "1.6M": three digits.
std::string short_number(double value);
// "83.1 GFLOP".
std::string flop_number(double value);
// ".104", "1.000": shares with three decimals, no leading zero.
std::string share_number(double value);
// Three significant digits, scientific where that is shorter.
std::string loss_number(double value);
// "26,208".
std::string whole_number(double value);

}  // namespace surtsey::experiments
