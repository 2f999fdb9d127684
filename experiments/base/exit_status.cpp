#include "experiments/base/exit_status.h"

#include "engine/error.h"
#include "experiments/base/interrupt.h"

namespace surtsey::experiments {

int guarded(const std::string& program, const std::function<int()>& work) {
  const auto fail = [&](const std::exception& error, int status) {
    fmt::print(stderr, "{}: {}\n", program, error.what());
    return status;
  };
  try {
    return work();
  } catch (const Interrupted& error) {
    return fail(error, kInterruptedStatus);
  } catch (const Diverged& error) {
    return fail(error, kDivergedStatus);
  } catch (const NotComputing& error) {
    return fail(error, kNotComputingStatus);
  } catch (const engine::DeviceError& error) {
    return fail(error, error.lost() ? kDeviceLostStatus : kErrorStatus);
  } catch (const std::exception& error) {
    return fail(error, kErrorStatus);
  }
}

}  // namespace surtsey::experiments
