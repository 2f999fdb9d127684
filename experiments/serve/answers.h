// From the events of a ticket to what a client reads: an answer as a whole, or a stream of its parts.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "experiments/serve/api.h"

namespace surtsey::experiments::serve {

// What is asked for beside the texts themselves.
struct AnswerPlan {
  AnswerHead head;
  std::vector<std::string> echoes;  // by choice, what stands before its text; empty: nothing
  std::vector<std::string> tools;   // functions that answers may call
  int64_t choices = 1;
  int64_t prompt_tokens = 0;
  bool include_usage = false;  // in a stream
};

// Waits for all texts of the ticket. ApiError: what one of them failed by; 503 where the client went away.
Reply collect_answer(const AnswerPlan& plan, const ServedModel& model, const std::shared_ptr<Ticket>& ticket,
                     const Alive& alive);
// Server-sent events, a part an event, and [DONE] at the end; an error ends it as an event of its own.
Reply stream_answer(AnswerPlan plan, const ServedModel& model, std::shared_ptr<Ticket> ticket, Alive alive);

}  // namespace surtsey::experiments::serve
