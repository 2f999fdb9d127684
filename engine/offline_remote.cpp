#include "engine/offline_remote.h"

#include "engine/offline_device.h"
#include "engine/offline_text.h"
#include "graph/debug.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace surtsey::engine {
namespace {

// What the new process is called, so that it knows what it is for, and where it listens and answers.
constexpr const char* kProcessName = "surtsey: offline device";
constexpr int kSocket = 3;

// Messages are JSON (CBOR) after their length; false when nobody is at the other end.
bool put_message(int socket, const nlohmann::json& message) {
  const std::vector<uint8_t> bytes = nlohmann::json::to_cbor(message);
  const uint64_t size = bytes.size();
  const auto put = [&](const void* data, size_t count) {
    for (size_t done = 0; done < count;) {
      const ssize_t n = send(socket, static_cast<const char*>(data) + done, count - done, MSG_NOSIGNAL);
      if (n <= 0 && errno != EINTR) return false;
      done += size_t(std::max<ssize_t>(n, 0));
    }
    return true;
  };
  return put(&size, sizeof size) && put(bytes.data(), bytes.size());
}

bool get_message(int socket, nlohmann::json& message) {
  const auto get = [&](void* data, size_t count) {
    for (size_t done = 0; done < count;) {
      const ssize_t n = read(socket, static_cast<char*>(data) + done, count - done);
      if (n == 0 || (n < 0 && errno != EINTR)) return false;
      done += size_t(std::max<ssize_t>(n, 0));
    }
    return true;
  };
  uint64_t size = 0;
  if (!get(&size, sizeof size) || size > (uint64_t(4) << 30)) return false;
  std::vector<uint8_t> bytes(size);
  if (!get(bytes.data(), size)) return false;
  message = nlohmann::json::from_cbor(bytes, true, false);
  return !message.is_discarded();
}

// In the new process: from threads that compile, too.
class Answers : public Progress {
 public:
  void set(const std::string& what) override { say({{"progress", what}}); }
  void say(const nlohmann::json& message) {
    std::scoped_lock lock(mutex_);
    if (!put_message(kSocket, message)) _exit(0);  // nobody listens any more
  }
  void say_error(const char* kind, const char* text) { say({{"error", text}, {"kind", kind}}); }

 private:
  std::mutex mutex_;
};

// Calls `work`; what it throws is an answer.
template <typename F>
void answer(Answers& answers, F&& work) {
  try {
    answers.say(work());
  } catch (const UserError& error) {
    answers.say_error("user", error.what());
  } catch (const std::exception& error) {
    answers.say_error("device", error.what());
  }
}

[[noreturn]] void serve() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // it does not outlive its parent
  unsetenv("LD_PRELOAD");            // for this process alone
  auto* answers = new Answers;
  std::unique_ptr<ModuleCompiler> device;
  answer(*answers, [&] {
    device = open_offline_device(*answers, false);
    return nlohmann::json{{"info", to_text(device->info())}};
  });
  for (nlohmann::json request; device && get_message(kSocket, request);)
    answer(*answers, [&] {
      const auto shaders = shaders_from_text(request.at("shaders"));
      const auto spirv = request.at("spirv").get<std::vector<shaders::Spirv>>();
      nlohmann::json list = nlohmann::json::array();
      for (const DriverStatistics& one : device->compile_modules(shaders, spirv)) list.push_back(to_text(one));
      return nlohmann::json{{"statistics", list}};
    });
  _exit(0);  // what the driver has is left alone, as it is not for releasing
}

// Runs before main(): any program that analyses can be started anew, whatever its main() does. Nothing that it uses has
// constructors to wait for, as the SPIR-V compiler has: modules come from the other process.
__attribute__((constructor)) void begin(int count, char** words, char**) {
  if (count == 1 && std::strcmp(words[0], kProcessName) == 0) serve();
}

std::string death_of(pid_t process) {
  int status = 0;
  while (waitpid(process, &status, 0) < 0)
    if (errno != EINTR) return "no status";
  return WIFSIGNALED(status) ? fmt::format("signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)))
                             : fmt::format("exit status {}", WEXITSTATUS(status));
}

// This program anew, under a name that tells begin() what it is for.
[[noreturn]] void become_device(const std::vector<std::pair<std::string, std::string>>& environment, int socket,
                                std::FILE* errors) {
  // In this order: the file of errors may lie where the socket goes.
  if (dup2(fileno(errors), STDERR_FILENO) < 0 || dup2(socket, kSocket) < 0) _exit(126);
  for (const auto& [name, value] : environment) {
    if (value.empty())
      unsetenv(name.c_str());
    else
      setenv(name.c_str(), value.c_str(), 1);
  }
  std::string word = kProcessName;
  char* words[] = {word.data(), nullptr};
  execv("/proc/self/exe", words);
  _exit(127);
}

class RemoteDevice : public ModuleCompiler {
 public:
  RemoteDevice(std::string name, const std::vector<std::pair<std::string, std::string>>& environment)
      : name_(std::move(name)), errors_(std::tmpfile(), std::fclose) {
    check(errors_ != nullptr, "no temporary file can be made: {}", std::strerror(errno));
    start(environment);
    info_ = info_from_text(ask().at("info"));
  }
  ~RemoteDevice() override {
    close(socket_);
    if (process_ <= 0) return;
    kill(process_, SIGKILL);
    death_of(process_);
  }
  RemoteDevice(const RemoteDevice&) = delete;
  RemoteDevice& operator=(const RemoteDevice&) = delete;

  const DeviceInfo& info() const override { return info_; }

  std::vector<DriverStatistics> compile_modules(std::span<const shaders::Shader> shaders,
                                                std::span<const shaders::Spirv> spirv) override {
    put_message(socket_, {{"shaders", to_text(shaders)}, {"spirv", std::vector(spirv.begin(), spirv.end())}});
    std::vector<DriverStatistics> result;
    const nlohmann::json answered = ask();
    for (const nlohmann::json& one : answered.at("statistics")) result.push_back(statistics_from_text(one));
    return result;
  }

 private:
  void start(const std::vector<std::pair<std::string, std::string>>& environment) {
    int ends[2];
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "no socket can be made: {}",
          std::strerror(errno));
    socket_ = ends[0];
    // Above the place that it gets in the new process: a copy onto itself would still be closed there.
    const int theirs = fcntl(ends[1], F_DUPFD_CLOEXEC, 10);
    close(ends[1]);
    // The new process appends, whatever has been read here meanwhile.
    fcntl(fileno(errors_.get()), F_SETFL, O_APPEND);
    std::fflush(nullptr);  // what is buffered would be written twice
    process_ = fork();
    if (process_ == 0) become_device(environment, theirs, errors_.get());
    close(theirs);
    check(process_ > 0, "no child process can be started: {}", std::strerror(errno));
  }

  // The next answer that is one; errors are thrown.
  nlohmann::json ask() {
    nlohmann::json message;
    std::string progress = "being opened";
    while (get_message(socket_, message)) {
      if (message.contains("progress")) {
        progress = message["progress"];
      } else if (message.contains("error")) {
        const std::string text = fmt::format("{}: {}; {}", name_, message["error"].get<std::string>(), said());
        if (message["kind"] == "user") throw UserError(text);
        throw DeviceError("", "", "", "", text);
      } else {
        return message;
      }
    }
    const std::string death = death_of(process_);
    process_ = -1;
    throw DeviceError("", "", "", "",
                      fmt::format("{}: the driver ended with {}, {}; {}", name_, death, progress, said()));
  }

  std::string said() const {
    const std::string text = file_content(errors_.get());
    if (debug_level() > 0) fmt::print(stderr, "{}", text);
    return last_lines(text, 3);
  }

  const std::string name_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> errors_;
  pid_t process_ = -1;
  int socket_ = -1;
  DeviceInfo info_;
};

}  // namespace

std::unique_ptr<OfflineDevice> open_remote_device(const std::string& name,
                                                  const std::vector<std::pair<std::string, std::string>>& environment) {
  return std::make_unique<RemoteDevice>(name, environment);
}

}  // namespace surtsey::engine
