// The page at / in a real browser: somebody writes, and the answer appears. Skips where there is no Chromium.
#include "tests/serve/fake_model.h"
#include "tests/support/folder.h"

#include <fcntl.h>
#include <sys/wait.h>

#include <catch2/catch_test_macros.hpp>

#include <csignal>
#include <nlohmann/json.hpp>

using namespace surtsey;
using namespace std::chrono_literals;
using nlohmann::json;
using tests::FakeServer;

namespace {

// Chromium without a window, spoken to by its debugging protocol: JSON in frames of a WebSocket.
class Browser {
 public:
  Browser(const std::string& program, const tests::Folder& folder) {
    const std::string profile = "--user-data-dir=" + (folder / "profile").string();
    pid_ = fork();
    if (pid_ == 0) {
      const int nowhere = open("/dev/null", O_RDWR);
      for (const int descriptor : {0, 1, 2}) dup2(nowhere, descriptor);
      execl(program.c_str(), program.c_str(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--remote-debugging-port=0", profile.c_str(), "about:blank", nullptr);
      _exit(127);
    }
    const auto file = folder / "profile" / "DevToolsActivePort";
    for (int i = 0; i < 1200 && port_ == 0; ++i) {
      std::this_thread::sleep_for(50ms);
      port_ = std::atoi(tests::slurp(file).c_str());
    }
  }
  ~Browser() {
    socket_.reset();
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  bool started() const { return port_ > 0; }

  void open_page() {
    const tests::HttpAnswer list = tests::http_ask(port_, "GET", "/json/list");
    std::string path;
    for (const json& target : json::parse(list.body)) {
      if (target["type"] == "page") path = target["webSocketDebuggerUrl"].get<std::string>();
    }
    path.erase(0, path.find('/', 5 + 2));
    socket_.emplace(port_);
    socket_->send("GET " + path +
                  " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    REQUIRE(socket_->answer().status == 101);
  }

  // The result of a command of the protocol.
  json call(const std::string& method, const json& parameters) {
    const std::string text = json{{"id", ++id_}, {"method", method}, {"params", parameters}}.dump();
    std::string frame = "\x81";
    frame += char(0x80 | 126);
    REQUIRE(text.size() < 65536);
    frame += char(text.size() >> 8);
    frame += char(text.size() & 0xFF);
    frame += std::string(4, '\0');  // a mask that changes nothing
    REQUIRE(socket_->send(frame + text));
    while (true) {
      const json message = json::parse(read_frame());
      if (message.value("id", 0) == id_) return message.at("result");
    }
  }
  // What a script's promise becomes.
  json run(const std::string& script) {
    const json result =
        call("Runtime.evaluate", {{"expression", script}, {"awaitPromise", true}, {"returnByValue", true}});
    CAPTURE(result.dump());
    REQUIRE_FALSE(result.contains("exceptionDetails"));
    return result["result"].value("value", json());
  }

 private:
  void need(size_t size) {
    while (socket_->held().size() < size) REQUIRE(socket_->receive(60'000));
  }
  std::string read_frame() {
    need(2);
    size_t length = size_t(static_cast<unsigned char>(socket_->held()[1]) & 127), at = 2;
    const size_t more = length == 126 ? 2 : length == 127 ? 8 : 0;
    need(at + more);
    if (more > 0) length = 0;
    for (size_t i = 0; i < more; ++i) length = length << 8 | static_cast<unsigned char>(socket_->held()[at + i]);
    at += more;
    need(at + length);
    const std::string text = socket_->held().substr(at, length);
    socket_->take(at + length);
    return text;
  }

  pid_t pid_ = 0;
  int port_ = 0, id_ = 0;
  std::optional<tests::HttpConnection> socket_;
};

std::string chromium() {
  for (const char* path : {"/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"}) {
    if (access(path, X_OK) == 0) return path;
  }
  return "";
}

// Writes into the page, sends, and waits until the answer is there: what the turns, the state and the speed then say.
std::string conversation(const std::string& kind, const std::string& text) {
  return "(async () => { const at = (id) => document.getElementById(id); at('kind').value = '" + kind +
         "'; at('temperature').value = 0; at('text').value = " + json(text).dump() +
         "; at('send').click(); for (let i = 0; i < 600 && (i == 0 || at('send').disabled); ++i) await new Promise((r) "
         "=> "
         "setTimeout(r, 50)); return { turns: [...document.querySelectorAll('.turn')].map((t) => [t.className, "
         "t.textContent]), "
         "state: at('state').textContent, speed: at('speed').textContent, model: at('model').textContent }; })()";
}

}  // namespace

TEST_CASE("serve: the page talks to the model in a browser", "[serve][browser]") {
  const std::string program = chromium();
  if (program.empty()) SKIP("there is no Chromium");
  FakeServer::Options options;
  options.control = [](tests::FakeControl& control) { control.context = 2048; };
  const FakeServer server(options);
  const auto chat = [&](const std::string& prompt, const std::string& answer) {
    server.control->say(server.model->tokenizer.encode(prompt, {false}), server.encode(answer));
  };
  chat("<|user|>hello\n<|assistant|>", "the cat <b>\u00e9</b>");
  chat("<|user|>hello\n<|assistant|>the cat <b>\u00e9</b>\n<|user|>and?\n<|assistant|>", "the dog");
  chat("once", " upon a time");

  const tests::Folder folder;
  Browser browser(program, folder);
  REQUIRE(browser.started());
  browser.open_page();
  browser.call("Page.navigate", {{"url", fmt::format("http://127.0.0.1:{}/", server.port())}});
  browser.run(
      "new Promise((r) => { const look = () => document.getElementById('model')?.textContent == 'fake' ? r(1) : "
      "setTimeout(look, 50); look(); })");
  const json first = browser.run(conversation("chat", "hello"));
  CHECK(first["turns"] == json::parse("[[\"turn user\", \"hello\"], [\"turn assistant\", \"the cat <b>\u00e9</b>\"]]"));
  CHECK(first["state"] == "stop");
  CHECK(first["speed"].get<std::string>().find("tokens, ") != std::string::npos);
  const json second = browser.run(conversation("chat", "and?"));
  REQUIRE(second["turns"].size() == 4);
  CHECK(second["turns"][3] == json::array({"turn assistant", "the dog"}));
  const json third = browser.run(conversation("text", "once"));
  CHECK(third["turns"][5] == json::array({"turn assistant", " upon a time"}));
  // What it loaded is this server's alone.
  const json loaded = browser.run("performance.getEntriesByType('resource').map((r) => new URL(r.name).port)");
  for (const json& port : loaded) CHECK(port == std::to_string(server.port()));
  // An error is told.
  server.control->broken_token = server.encode("hello")[0];
  const json failed = browser.run(conversation("text", "hello"));
  CHECK(failed["state"] == "failed");
  CHECK(failed["turns"].back()[0] == "turn error");
}
