// E03: how many examples of addition does a model need, by how the sums are written? Four formats of the same finite
// sets of examples (tasks/addition_text.h, Lee et al. 2023), a model for each format and size of its training set. The
// number of examples at which half of the test is solved is each format's threshold.
//
// Answers are greedy; the published ones were sampled at temperature .8, so those stand beside them.
#include "experiments/evaluate/interview.h"
#include "experiments/study/study.h"
#include "experiments/tasks/addition_text.h"

namespace surtsey::experiments {
namespace {

constexpr const char* kSampled = "direct_sampled";

// Share of right test answers after so many examples in plots/sample_efficiency.csv of lee-ny/teaching_arithmetic
// @7e489fa: one run each.
const Integers kPublishedExamples = {250, 500, 1000, 2000, 3000, 4000, 5000, 10'000, 20'000};
const std::map<std::string, Numbers> kPublished = {
    {"plain", {0, 0, .0039, .017, .287, .623, .811, .874, .901}},
    {"reverse", {0, 0, .0157, .306, .791, .982, .998, 1, 1}},
    {"simplified", {.004, .001, .846, .997, .998, .999, 1, 1, 1}},
    {"detailed", {.595, .928, .998, .996, 1, 1, .999, 1, 1}},
};

struct Keys : StudyKeys {
  Keys()
      : StudyKeys({.steps = {600, 2000, 5000},
                   .batch_size = {16, 64, 256},
                   .seeds = {{0}},
                   .test_items = {500, 2000, 9900},
                   .evaluation_rows = {256, 500},
                   .log_interval = {50, 100}}) {
    explain("batch_size", "windows a step");
  }
  Key<Words> formats =
      Key<Words>(this, "formats", {{}, {"plain", "reverse", "simplified"}, tasks::addition_format_names()},
                 "how sums are written", tasks::addition_format_names());
  Key<Integers> examples{
      this, "examples", {{2000, 8000}, {1000, 3000, 5000, 10'000}, kPublishedExamples}, "in each training set", 200};
  Key<int32_t> width{this, "width", {64, 192, 384}, "n_embd", 2, kMostWidth};
  Key<int32_t> layers{this, "layers", {2, 6}, "blocks", 1, kMostLayers};
  Key<int32_t> heads{this, "heads", {4, 6}, "n_head", 1, 1024};
  Key<double> dropout{this, "dropout", {0, 0, .2}, "share of activations that are dropped", 0, 0.99};
  Rates learning_rates{this, "learning_rates", {{3e-3}, {1e-3}}, "peak learning rates"};
  Key<int32_t> context{this, "context", {96, 256}, "characters in a window of text", 16, 65'536};
  Steps warmup_steps{this, "warmup_steps", {50, 100}, "of them, with a rising rate", 0};
  Key<int32_t> scratchpad_context{this, "scratchpad_context", {96, 256, 1024}, "context of formats with steps", 16};
  Key<int32_t> scratchpad_batch_size{this, "scratchpad_batch_size", {16, 64, 16}, "their windows a step"};
  Steps scratchpad_steps{this, "scratchpad_steps", {600, 2000, 20'000}, "their optimizer steps"};
  Steps scratchpad_warmup_steps{this, "scratchpad_warmup_steps", {50, 100, 0}, "of them, with a rising rate", 0};
  Key<bool> newline_before{
      this, "newline_before", {false}, "prompts of the test start with the newline that ends an example"};
  Key<double> temperature{this, "temperature", {.8}, "of the sampled answers beside the greedy ones; 0: none", 0, 100};
  Key<Integers> compared{this, "compared", {{3000, 5000}}, "claims: examples at which plain and reverse are compared"};
  Key<int32_t> published{this, "published_examples", {10'000}, "claims: examples of a published share", 1, 100'000};
  Share published_low{this, "published_low", {.8}, "claims: least share of plain sums there"};
  Share published_high{this, "published_high", {.97}, "claims: largest share there"};
};

void check_keys(const Keys& k) {
  check_some(*k.examples, "examples");
  check_some(*k.learning_rates, "learning_rates");
  check_heads(k.heads, k.width);
  check_once(*k.formats, "formats");
}

// Greedy answers, and sampled ones to the same questions.
struct TwoWays : InterviewOf<Keys> {
  using InterviewOf::InterviewOf;

  void ask(Evaluator& evaluator, int64_t, bool, std::span<Cell> cells,
           std::vector<SampleLine>& samples) const override {
    const auto seed = static_cast<uint32_t>(k.sweep.test_seed);
    const ArmAnswers greedy = evaluator.answer(*task, 0, k.sweep.test_items, seed);
    add_answer_lines(*task, cells, greedy, samples);
    if (k.temperature == 0) return;
    const size_t first = samples.size();
    evaluator.decoder().set_sampling(k.temperature, seed);
    add_answer_lines(*task, cells, evaluator.answer(*task, greedy.items), samples);
    evaluator.decoder().set_sampling(0, seed);
    for (size_t i = first; i < samples.size(); ++i) samples[i].arm = kSampled;
  }
};

std::string variant_of(int32_t examples) { return fmt::format("n{}", examples); }
double examples_of(const Cell& cell) { return std::stod(cell.variant.substr(1)); }
Pick trained(const std::string& format, int32_t examples) { return cells(format, variant_of(examples)); }

void add_experiment(const Keys& k, Experiments& list, const std::string& name, int32_t examples) {
  const auto format = tasks::parse_addition_format(name);
  // Formats that write steps down are trained otherwise.
  const bool steps = format == tasks::AdditionFormat::simplified || format == tasks::AdditionFormat::detailed;
  tasks::AdditionTextOptions options{.format = format, .examples = examples, .newline_before = k.newline_before};
  options.context = steps ? k.scratchpad_context : k.context;
  const auto data = std::make_shared<tasks::AdditionText>(options);
  Experiment& one = list.add(name, variant_of(examples), data, k.width);
  one.interview = std::make_shared<TwoWays>(k, data);
  one.n_layer = k.layers;
  one.learning_rates = k.learning_rates;
  if (steps) {
    one.steps = k.scratchpad_steps;
    one.batch_size = k.scratchpad_batch_size;
  }
  one.model = decoder_config(k.layers, k.width, k.heads, data->vocab_size(), data->block_size());
  one.model->dropout = k.dropout;
  one.model->bias = false;
  one.model->tied = true;
  one.optimizer = graph::OptimizerConfig{.beta2 = .99, .weight_decay = .1};
  one.optimizer->schedule = {graph::Decay::cosine, steps ? *k.scratchpad_warmup_steps : *k.warmup_steps, one.steps, .1};
}

void experiments(const Keys& k, Experiments& list) {
  for (const std::string& format : *k.formats)
    for (const int32_t examples : *k.examples) add_experiment(k, list, format, examples);
}

std::vector<ClaimRow> claims(const Keys& k) {
  // Formats stand in AdditionFormat with the hardest first.
  std::vector<Growth> growths;
  for (const std::string& format : tasks::addition_format_names()) {
    std::vector<Pick> picks;
    for (const int32_t examples : *k.examples) picks.push_back(trained(format, examples));
    const int place = -static_cast<int>(tasks::parse_addition_format(format));
    if (has(*k.formats, format)) growths.push_back({format, picks, "direct", place, "examples", examples_of});
  }
  std::vector<std::pair<Pick, Pick>> pairs;
  for (const int32_t examples : *k.compared)
    pairs.emplace_back(trained("reverse", examples), trained("plain", examples));
  return {
      {"order",
       fmt::format("The more of its steps a format shows, the fewer examples solve half of the test: detailed < "
                   "simplified < reverse < plain of those trained, with disjoint intervals; at least {} training sets.",
                   kThresholdSizes),
       thresholds_in_order(growths)},
      {"reverse",
       "After {compared} examples, accuracy of reverse sums is above that of plain ones in every seed, with disjoint "
       "intervals.",
       above_in_pairs(pairs, exact_match("direct"))},
      {"published",
       "After {published_examples} examples, accuracy of plain sums is between {published_low} and {published_high} in "
       "every seed.",
       every_seed(trained("plain", k.published),
                  all_of({is(exact_match("direct"), at_least(k.published_low)),
                          is(exact_match("direct"), at_most(k.published_high)).hidden()}))}};
}

std::vector<Figure> figures(const Keys& k, const StudyResult& result) {
  Curves curves("Accuracy against examples", "Means over seeds. Published: one run each, sampled at temperature .8.",
                {"examples in the training set", true}, {"share of right sums"});
  for (const std::string& format : tasks::addition_format_names()) {
    if (!has(*k.formats, format)) continue;
    for (const int32_t examples : *k.examples)
      curves.add(format, trained(format, examples).of(result), examples, exact_match("direct"));
    curves.line(format + ", published", {.marks = false, .dashed = true});
    for (size_t i = 0; i < kPublishedExamples.size(); ++i)
      curves.add(format + ", published", kPublishedExamples[i], kPublished.at(format)[i]);
  }
  return {curves.figure()};
}

}  // namespace

const StudyProgram kStudy = StudyOf<Keys>{
    .head = {"addition_formats", "Ways to write a sum",
             "How many examples of addition does a model need, when sums are written plainly, backwards, or with their "
             "steps?"},
    .parts = {.check = check_keys, .experiments = experiments, .claims = claims, .figures = figures},
    .caveats = {"Examples are cut at the ends of windows, and all but the first character of a window have something "
                "before them. A test prompt has nothing: a newline before it alone moved one published accuracy from "
                ".87 to .96 (newline_before asks so).",
                "A format with steps spends more characters on an example: it sees each less often in as many windows.",
                "Training sets are drawn by the published rule (all pairs of one digit, 9% of two, carries balanced), "
                "not copied; pairs of the test are never in them, where 77 published ones are.",
                "Weight decay reaches gains of norms too, and the vocabulary holds only characters that occur.",
                "With one seed the order is all that may be read, and no more than the published runs say."},
    .on_request = [](const Keys& k) { return k.formats->empty() ? "--formats=reverse" : nullptr; }};

}  // namespace surtsey::experiments
