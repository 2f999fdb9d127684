// E18, the part on capacity: how many bits does a parameter hold? Models memorise random facts (tasks/facts.h) until
// their loss says how many bits of them they know:
//
//   bits = facts * mean over facts of (log2 V - loss / ln 2)
//
// More facts than a model can hold leave its bits at a ceiling in proportion to its size; published: two bits a
// parameter when every fact is seen a thousand times, one at a hundred (Allen-Zhu and Li 2024).
#include "experiments/study/study.h"
#include "experiments/tasks/facts.h"

namespace surtsey::experiments {
namespace {

constexpr double kPublished = 2;  // bits a parameter

struct Keys : StudyKeys {
  Keys()
      : StudyKeys({.widths = {{4, 8, 16}, {8, 16, 32, 64}, {32, 64, 128, 256}},
                   .n_layer = {2},
                   .learning_rates = {{.16}, {.32, .16, .08}},
                   .batch_size = {256, 4096, 16'384},
                   .seeds = {{0}, seeds(5)},
                   .test_items = {1000, 4096},
                   .evaluation_rows = {256, 1024},
                   .log_interval = {50, 200},
                   .checkpoint_interval = {0, 2000}}) {
    explain("batch_size", "facts a step");
  }
  Key<Integers> facts =
      Key<Integers>(this, "facts", {{512}, {1024, 4096, 16'384, 65'536}, {16'384, 65'536, 262'144, 1'048'576}},
                    "to memorise; models of each width for each", 1, 1 << 22);
  Key<Integers> exposures{this, "exposures", {{500}, {100, 1000}}, "how often a fact is seen in the mean", 1, 1e6};
  Key<int32_t> relations{this, "relations", {4}, "facts of an entity", 1, 64};
  Key<int32_t> values{this, "values", {32}, "that a fact can have", 2, 1024};
  Key<double> ceiling{this, "ceiling", {kPublished}, "claims: most bits a parameter", 0, 1000};
  Share flat{this, "flat", {.2}, "claims: largest distance from the mean ceiling, as a share of it"};
  Key<double> span{this, "span", {4}, "claims: by what factor sizes differ at least", 1, 1000};

  int32_t most_exposures() const { return *std::max_element(exposures->begin(), exposures->end()); }
};

auto task_of(const Keys& k, int32_t facts) {
  return std::make_shared<tasks::FactTask>(tasks::FactOptions{facts, k.relations, k.values});
}

std::string variant_of(int32_t facts, int32_t exposures) { return fmt::format("{} facts x {}", facts, exposures); }

void check_keys(const Keys& k) {
  check_some(*k.facts, "facts");
  check_some(*k.exposures, "exposures");
  for (const int32_t facts : *k.facts) task_of(k, facts);
}

void experiments(const Keys& k, Experiments& list) {
  for (const int32_t facts : *k.facts) {
    const auto data = task_of(k, facts);
    for (const int32_t often : *k.exposures) {
      for (const int32_t width : k.sweep.widths) {
        Experiment& one = list.add("facts", variant_of(facts, often), data, width);
        one.steps = std::max(1, whole_steps(double(facts) * often / k.sweep.batch_size, "exposures"));
        one.optimizer = recipe_optimizer(one.steps, 0);
      }
    }
  }
}

int32_t facts_of(const Cell& cell) { return std::stoi(cell.variant); }

// Bits a parameter that a model knows. All facts asked leave no sampling error.
Score bits_known() {
  return measured([](const Cell& cell) {
    const Measure* bits = cell.find_measure("direct.bits");
    ensure(bits != nullptr, "[capacity] {} has no bits", cell.cell);
    const double each = facts_of(cell) / static_cast<double>(cell.parameters);
    const double left = 1 - static_cast<double>(bits->n) / facts_of(cell);
    return Measure{"", bits->mean * each, bits->standard_error * each * std::sqrt(std::max(0.0, left)), bits->n};
  });
}

// Bits a parameter that there are to know.
double asked(const Keys& k, const Cell& cell) {
  return std::log2(double(k.values)) * facts_of(cell) / static_cast<double>(cell.parameters);
}

std::vector<Pick> models_of(const Keys& k, const std::vector<int32_t>& exposures) {
  std::vector<Pick> picks;
  for (const int32_t often : exposures)
    for (const int32_t facts : *k.facts) picks.push_back(cells("facts", variant_of(facts, often)));
  return picks;
}

// Of each size that was asked for more than it holds: bits a parameter by seed, of the number of facts of which it
// knows the most.
std::map<int64_t, std::vector<double>> plateaus(const Keys& k, const StudyResult& result) {
  std::map<int64_t, std::vector<double>> most;
  for (const Pick& pick : models_of(k, {k.most_exposures()})) {
    for (const auto& [parameters, models] : by_size(pick.of(result))) {
      if (asked(k, *models.front()) <= kPublished) continue;
      const std::vector<double> bits = values(models, bits_known());
      if (bits.empty()) continue;
      if (auto& best = most[parameters]; best.empty() || mean(bits) > mean(best)) best = bits;
    }
  }
  return most;
}

Judgement judge_plateau(const Keys& k, const StudyResult& result, double confidence) {
  const auto most = plateaus(k, result);
  if (most.size() < 2) return {Verdict::kInconclusive, "fewer than two sizes have more than enough to learn", 0};
  std::vector<double> means;
  for (const auto& [parameters, bits] : most) means.push_back(mean(bits));
  const Bound near_the_mean = within(mean(means), k.flat * mean(means));
  Parts parts;
  for (const auto& [parameters, bits] : most)
    parts.add(near_the_mean(t_interval(bits, confidence), {}),
              fmt::format("{} parameters: {:.3f}", parameters, mean(bits)), std::ssize(bits));
  const double span = static_cast<double>(most.rbegin()->first) / static_cast<double>(most.begin()->first);
  parts.add(span < k.span ? Verdict::kInconclusive : Verdict::kPass,
            fmt::format("sizes span a factor of {:.1f}", span));
  return parts.judgement();
}

std::vector<ClaimRow> claims(const Keys& k) {
  return {{"ceiling", "No model knows more than {ceiling} bits a parameter.",
           every_seed(models_of(k, k.exposures), is(bits_known().named("bits"), at_most(k.ceiling)))},
          {"plateau",
           fmt::format("Sizes that have more than {} bits a parameter to learn, in {} exposures, know equally many a "
                       "parameter: all within {{flat}} of their mean, over sizes that differ by a factor of {{span}}.",
                       kPublished, k.most_exposures()),
           [&k](const StudyResult& result, double confidence) { return judge_plateau(k, result, confidence); }}};
}

std::vector<Figure> figures(const Keys& k, const StudyResult& result) {
  std::vector<Figure> list;
  for (const int32_t exposures : *k.exposures) {
    Curves curves(fmt::format("Bits known, {} exposures of a fact", exposures),
                  "Means over seeds. Along the diagonal everything is known; a ceiling is what a parameter holds.",
                  {"bits to know, a parameter", true}, {"bits known, a parameter", true},
                  {{"published for 1000 exposures", kPublished}});
    for (const Pick& pick : models_of(k, {exposures}))
      for (const auto& [parameters, models] : by_size(pick.of(result)))
        curves.add(fmt::format("{} parameters", parameters), models, asked(k, *models.front()), bits_known());
    list.push_back(curves.figure());
  }
  return list;
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head = {"capacity", "Bits a parameter",
             "How many bits of random facts does a model hold for each of its parameters?"},
    .parts = {.check = check_keys, .experiments = experiments, .claims = claims, .figures = figures},
    .caveats = {"Bits are counted by the loss on what was trained: there is nothing to generalise. A model that is "
                "sure and wrong counts against itself.",
                "Facts are drawn at random, so exposures differ: of a fact that is seen a hundred times in the mean, "
                "one in a thousand is seen fewer than seventy times.",
                "Embeddings count as parameters, though few facts can stand in the smallest vocabularies.",
                "A plateau that one learning rate and schedule reached is a lower bound of what fits in."}};

}  // namespace surtsey::experiments
