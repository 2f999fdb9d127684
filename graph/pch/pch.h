// The precompiled header of graph/, shaders/, experiments/ and its programs: what nearly every file reads, from outside
// the repository only, so that no change here builds everything anew.
#ifndef SURTSEY_GRAPH_PCH_H
#define SURTSEY_GRAPH_PCH_H

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <set>
#include <source_location>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#endif
