#include "experiments/models/label_loss.h"

#include "graph/error.h"
#include "graph/functions.h"

namespace surtsey::experiments {

using graph::Shape;
using graph::Value;

Value label_loss(tasks::ProblemType problem, Value scores, Value labels) {
  ensure(scores.rank() == 2 && labels.type() == scores.type(), "[labels] scores are {}, labels {}",
         to_string(scores.type()), to_string(labels.type()));
  if (problem == tasks::ProblemType::single_label) return cross_entropy(scores, labels).per_token;
  if (problem == tasks::ProblemType::regression) {
    const Value error = scores - labels;
    return mean(error * error, {1}, false);
  }
  // Yes or no to each label, a softmax over (score, 0): finite however large a score is, and so is its gradient.
  const Shape column = {scores.dim(0), scores.dim(1), 1};
  const Value yes = reshape(scores, column), is = reshape(labels, column);
  const Value answers = graph::concat({yes, graph::constant_like(yes, 0)}, 2);
  return mean(cross_entropy(answers, graph::concat({is, 1.0 - is}, 2)).per_token, {1}, false);
}

}  // namespace surtsey::experiments
