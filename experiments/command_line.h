// What the parts of build/surtsey's command line share. These files are the only ones that see CLI11.
#pragma once

#include "experiments/commands/commands.h"

#include <CLI/CLI.hpp>

#include <charconv>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

namespace surtsey::experiments {

inline constexpr double kMostExtent = 1 << 24;  // of an axis, a list's number, a count of tokens
inline constexpr double kMostMembers = 65536;
inline constexpr double kMostSamples = 1e6;

class CommandLineParts {
 protected:
  using Action = std::function<void()>;

  // The options live as long as the action that was parsed for them.
  template <typename Options>
  std::shared_ptr<Options> keep() {
    return std::make_shared<Options>();
  }

  // Every number has finite limits, and is held against them before anything is built; commands know their least ones.
  static CLI::Validator at_most(double most) {
    return CLI::Validator(
        [most](const std::string& text) -> std::string {
          double number = 0;
          const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
          const bool read = error == std::errc() && end == text.data() + text.size();
          return read && number <= most ? "" : fmt::format("takes a number of at most {}, not '{}'", most, text);
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
    command->add_option(name, value, help)->capture_default_str()->check(CLI::Range(least, most));
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
