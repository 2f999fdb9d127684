#include "engine/session_state.h"

namespace surtsey::engine {

LoadedProgram& SessionProgram::loaded() const {
  check(loaded_ != nullptr, "this is no program yet: Session::add_program() and Session::program() give one");
  return *loaded_;
}

LoadedProgram& SessionProgram::allocated() const {
  LoadedProgram& program = loaded();
  program.session->check_allocated(true);
  return program;
}

const std::string& SessionProgram::name() const { return loaded().plan.name; }

void SessionProgram::run(uint32_t steps) const { run_at(0, steps); }
uint64_t SessionProgram::submit(uint32_t steps) const { return submit_at(0, steps); }

void SessionProgram::run_at(int64_t first, uint32_t steps) const {
  const uint64_t ticket = submit_at(first, steps);
  loaded_->session->context.wait(ticket);
}

uint64_t SessionProgram::submit_at(int64_t first, uint32_t steps) const {
  LoadedProgram& program = allocated();
  Session::Impl& session = *program.session;
  Executable& executable = session.executable(program, first);
  if (!session.options.poison) return executable.submit(steps);
  uint64_t ticket = session.context.submitted();
  for (uint32_t step = 0; step < steps; ++step) {
    session.poison();
    ticket = executable.submit(1);
  }
  return ticket;
}

graph::HostTensor SessionProgram::read(const std::string& output) const {
  Session::Impl& session = *loaded().session;
  Place place;
  const graph::Buffer& buffer = session.output(*loaded_, output, place);
  return graph::HostTensor::from_bytes(buffer.type, session.download(place, buffer.type));
}

std::vector<float> SessionProgram::read_floats(const std::string& output) const {
  Session::Impl& session = *loaded().session;
  Place place;
  const graph::Buffer& buffer = session.output(*loaded_, output, place);
  check_floats(output, buffer.type);
  return as<float>(session.download(place, buffer.type));
}

std::vector<uint32_t> SessionProgram::read_words(const std::string& output) const {
  Session::Impl& session = *loaded().session;
  Place place;
  const graph::Buffer& buffer = session.output(*loaded_, output, place);
  check_words(output, buffer.type);
  return as<uint32_t>(session.download(place, buffer.type));
}

const graph::Plan& SessionProgram::plan() const { return loaded().plan; }
const std::vector<shaders::Shader>& SessionProgram::shaders() const { return loaded().shaders; }
const std::vector<KernelBuild>& SessionProgram::builds() const { return loaded().builds; }
const ProgramStatistics& SessionProgram::statistics() const { return loaded().statistics; }

std::vector<DriverStatistics> SessionProgram::driver_statistics() const {
  check(loaded().session->options.driver_statistics,
        "statistics of the driver are kept with SessionOptions::driver_statistics only");
  std::vector<DriverStatistics> result;
  for (const auto& pipeline : loaded_->pipelines)
    if (pipeline->statistics) result.push_back(*pipeline->statistics);
  return result;
}

TimedReplay SessionProgram::run_timed(TimingMode mode) const {
  LoadedProgram& program = allocated();
  program.session->drain();
  if (program.session->options.poison) program.session->poison();
  return program.executable->run_timed(mode);
}

uint64_t SessionProgram::timestamp_ns() const {
  LoadedProgram& program = allocated();
  program.session->drain();
  return program.executable->timestamp_ns();
}

uint64_t SessionProgram::host_ns_per_submission() const {
  const Executable& executable = *allocated().executable;
  return executable.submissions() == 0 ? 0 : executable.host_ns() / executable.submissions();
}

uint64_t SessionProgram::submissions() const { return allocated().executable->submissions(); }
uint32_t SessionProgram::segments() const { return allocated().executable->segments(); }

}  // namespace surtsey::engine
