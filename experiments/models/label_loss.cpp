#include "experiments/models/label_loss.h"

#include "graph/error.h"
#include "graph/functions.h"

namespace surtsey::experiments {

using graph::Value;

Value label_loss(tasks::ProblemType problem, Value scores, Value labels) {
  ensure(scores.rank() == 2 && labels.type() == scores.type(), "[labels] scores are {}, labels {}",
         to_string(scores.type()), to_string(labels.type()));
  if (problem == tasks::ProblemType::single_label) return cross_entropy(scores, labels).per_token;
  if (problem == tasks::ProblemType::regression) {
    const Value error = scores - labels;
    return mean(error * error, {1}, false);
  }
  return mean(-(labels * log_sigmoid(scores) + (1.0 - labels) * log_sigmoid(-scores)), {1}, false);
}

}  // namespace surtsey::experiments
