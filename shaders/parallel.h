// Independent pieces of host work on all cores.
#pragma once

#include <cstddef>
#include <functional>

namespace surtsey::shaders {

// Calls work(i) for every i in [0, count), on as many threads as there are processors; on the
// calling thread when one is enough. Rethrows the first exception after all threads have stopped;
// pieces not yet begun are then left out.
void parallel_for(size_t count, const std::function<void(size_t)>& work);

}  // namespace surtsey::shaders
