// What the parts of build/surtsey's command line share. These files are the only ones that see CLI11.
#pragma once

#include "experiments/base/utf8.h"
#include "experiments/commands/commands.h"
#include "graph/error.h"

#include <CLI/CLI.hpp>

#include <charconv>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

namespace surtsey::experiments {

inline constexpr int64_t kMostExtent = 1 << 24;  // of an axis, a list's number, a count of tokens
inline constexpr int64_t kMostMembers = 65536;
inline constexpr int64_t kMostSamples = 1'000'000;

class CommandLineParts {
 protected:
  using Action = std::function<void()>;

  // The options live as long as the action that was parsed for them.
  template <typename Options>
  std::shared_ptr<Options> keep() {
    return std::make_shared<Options>();
  }

  // Every number has finite limits (check_limits()), and is held against them before anything is built.
  template <typename T>
  static CLI::Validator within(T least, T most) {
    return CLI::Validator(
        [least, most](const std::string& text) -> std::string {
          T number = {};
          const size_t sign = text.starts_with('+') ? 1 : 0;
          const auto [end, error] = std::from_chars(text.data() + sign, text.data() + text.size(), number);
          const bool read = error == std::errc() && end == text.data() + text.size();
          if (read && number >= least && number <= most) return "";
          return fmt::format("takes a {}number from {} to {}, not '{}'", std::is_integral_v<T> ? "whole " : "", least,
                             most, text);
        },
        "");
  }
  static CLI::Validator at_most(int64_t most) { return within<int64_t>(0, most); }
  static CLI::Validator from_one_to(int64_t most) { return within<int64_t>(1, most); }

  // A text that a tokenizer reads.
  static CLI::Validator utf8() {
    return CLI::Validator(
        [](const std::string& text) -> std::string {
          try {
            check_utf8(text, "the text");
            return "";
          } catch (const UserError& error) {
            return error.what();
          }
        },
        "");
  }

  // Runs `work` with the options when this command was given.
  template <typename Options>
  void on(CLI::App* command, std::shared_ptr<Options> options, void (*work)(const Options&)) {
    command->callback([this, options, work] { action_ = [options, work] { work(*options); }; });
  }

  // The same for a command that takes --key=value beside its own options.
  template <typename Options>
  void on_with_keys(CLI::App* command, std::shared_ptr<Options> options, void (*work)(const Options&)) {
    command->allow_extras();
    command->callback([this, command, options, work] {
      options->keys = command->remaining();
      action_ = [options, work] { work(*options); };
    });
  }

  template <typename T>
  static void add_list(CLI::App* command, const char* name, std::vector<T>& list, const char* help) {
    CLI::Option* option = command->add_option(name, list, help)->delimiter(',')->capture_default_str();
    if constexpr (std::is_arithmetic_v<T>) option->check(at_most(kMostExtent));
  }

  template <typename T>
  static void add_range(CLI::App* command, const char* name, T& value, std::type_identity_t<T> least,
                        std::type_identity_t<T> most, const char* help) {
    command->add_option(name, value, help)->capture_default_str()->check(within<T>(least, most));
  }

  void add_bench();                                                             // surtsey_bench.cpp
  void add_index();                                                             // surtsey_index.cpp
  static void add_retrieve(CLI::App* command, commands::RetrieveFlags& flags);  // surtsey_index.cpp

  CLI::App app_{
      "Vulkan compute research engine: trains small transformers and watches abilities "
      "emerge."};
  Action action_;
  std::vector<std::string> arguments_;

 private:
  static void add_bench_options(CLI::App* command, commands::BenchOptions& options);
  static void add_models(CLI::App* command, commands::BenchModels& models);
};

}  // namespace surtsey::experiments
