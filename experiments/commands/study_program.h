// The programs of studies, for commands that take the name of one.
#pragma once

#include <string>
#include <vector>

namespace surtsey::experiments::commands {

// Whether `subject` is the name of a study; what has a dot or a slash, or is a file, is not.
// UserError (with the nearest name) for a word that is neither.
bool names_a_study(const std::string& subject);

// Goes on as the study's own program: it knows its models, its data and its keys.
[[noreturn]] void run_study_program(const std::string& study, std::vector<std::string> arguments);

}  // namespace surtsey::experiments::commands
