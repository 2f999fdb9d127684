#include "experiments/retrieve/encoder.h"

#include "experiments/retrieve/index.h"
#include "graph/error.h"

#include <cmath>

namespace surtsey::experiments {

void normalize(std::vector<float>& vector) {
  double sum = 0;
  for (const float value : vector) sum += double(value) * double(value);
  if (sum == 0) return;
  const double length = std::sqrt(sum);
  for (float& value : vector) value = float(double(value) / length);
}

void check_encoder(const std::string& index, const IndexSettings& settings, const TextEncoder& encoder) {
  check(settings.has_vectors(), "{}: made without a model, so it has no vectors; build it with --model", index);
  check(settings.model_hash == encoder.hash && settings.width == encoder.width,
        "{}: made with another model than {} (its hash is {}, that of this one {}; the index was made with {}): name "
        "that one, or build the index again",
        index, encoder.model, settings.model_hash, encoder.hash, settings.model);
}

}  // namespace surtsey::experiments
