// What one connection, and all together, may take.
#pragma once

#include <cstddef>
#include <cstdint>

namespace surtsey::experiments::serve {

struct ConnectionLimits {
  int64_t connections = 256;      // at once; one more is answered 503 and closed
  size_t head_bytes = 32 << 10;   // of a request's line and headers
  size_t body_bytes = 2 << 20;    // of its body
  double read_seconds = 10;       // from its first byte to its last
  double write_seconds = 10;      // without a byte taken by the client
  double keep_alive_seconds = 5;  // between two requests
  int64_t keep_alive_requests = 1000;
};

}  // namespace surtsey::experiments::serve
