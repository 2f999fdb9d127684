// From a session to a folder with a page: what `surtsey profile` and `STUDY --profile` share.
#pragma once

#include <string>
#include <vector>

#include "experiments/profile/profile.h"

namespace surtsey::experiments {

struct ProfileRequest {
  std::string out = "runs/profile";
  std::string compare;               // a profile.json, or empty
  int64_t steps = 20;                // replays in each mode
  bool measure_ceilings = false;     // again, although there is a file of them
  std::vector<std::string> command;  // for the page
};

// UserError: steps that make no sense, a base that is no profile. Before anything is compiled.
void check_request(const ProfileRequest& request);

// Profiles a program of an allocated session, prints ceilings, table and comparison, and writes
// profile.html, profile.json, profile.csv, trace.json and speedscope.json.
void run_profile(engine::Session& session, engine::SessionProgram program, const std::string& subject,
                 const std::string& configuration, const ProfileRequest& request);

}  // namespace surtsey::experiments
