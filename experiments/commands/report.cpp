#include "experiments/report/report.h"

#include "experiments/commands/commands.h"

namespace surtsey::experiments::commands {

void report(const std::string& directory) { fmt::print("{}\n", write_reports(directory).string()); }

}  // namespace surtsey::experiments::commands
