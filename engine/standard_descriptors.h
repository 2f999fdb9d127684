// Descriptors 0, 1 and 2 belong to stdin, stdout and stderr, open or not.
#pragma once

namespace surtsey::engine {

// Opens those that are closed on /dev/null. Otherwise whatever is opened next gets the number: lavapipe's memory for
// one, and what is printed then lands in tensors. Programs call it first of all; opening a device calls it again.
void open_standard_descriptors();

}  // namespace surtsey::engine
