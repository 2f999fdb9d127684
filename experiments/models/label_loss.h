// The losses of a head of labels (tasks/tuning/labels.h), as graphs.
#pragma once

#include "experiments/tasks/tuning/labels.h"
#include "graph/graph.h"

namespace surtsey::experiments {

// f32 [B]: of each text, from scores and labels f32 [B, K].
graph::Value label_loss(tasks::ProblemType problem, graph::Value scores, graph::Value labels);

}  // namespace surtsey::experiments
