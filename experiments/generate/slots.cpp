#include "experiments/generate/slots.h"

#include "engine/session.h"
#include "experiments/adapt/adaptation.h"
#include "experiments/adapt/adapter_set.h"
#include "experiments/adapt/packed.h"
#include "experiments/generate/cache_type.h"
#include "experiments/generate/slot_programs.h"
#include "experiments/models/hub/import.h"
#include "graph/vectorize.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>

namespace surtsey::experiments {
namespace {

constexpr int64_t kMostSlots = 1024;
constexpr int64_t kMostChunk = 64;
constexpr int64_t kSourceUnit = 64;  // a text's part of the source's mask begins where devices like it
// What a pass over the weights costs beside the rows that share it, in rows.
constexpr int64_t kPassCost = 8;
// Programs that look at the first columns of the caches alone: so many of them, and four times as many, and so on.
constexpr int64_t kLeastDepth = 512;
// So few columns are read one by one rather than as a chunk.
constexpr int64_t kFewColumns = 4;

engine::SessionOptions session_options(const engine::Device& device) {
  // A chunk's attention is computed by its primitives, as a step's kernel sums in their order: a column has the same
  // bits however it was read.
  graph::Target target = device.target();
  target.attention = graph::AttentionVariant::one_query;
  return {.target = target, .quiet = true};
}

SlotOptions checked(SlotOptions options, const std::string& where) {
  check(options.slots >= 1 && options.slots <= kMostSlots, "{}: there are 1 to {} slots, not {}", where, kMostSlots,
        options.slots);
  check(options.weights != "trained", "{}: weights are frozen here: stored, f32, f16, bf16, q8_0, .., not trained",
        where);
  options.source = (options.source + kSourceUnit - 1) / kSourceUnit * kSourceUnit;
  return options;
}

// With an adapter's virtual tokens, which stand before each text.
hub::ContextLength context_of(const SlotOptions& options) {
  const int64_t before = options.adapter.empty() ? 0 : adapter_virtual_tokens(options.adapter);
  return {options.context > 0 ? options.context + before : 0, options.source};
}

size_t common(std::span<const int32_t> a, std::span<const int32_t> b) {
  return size_t(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

}  // namespace

struct Slots::Impl {
  // What stands in a slot.
  struct Text {
    std::vector<int32_t> tokens;
    std::vector<int32_t> source;
    int32_t adapter = 0;
    // Columns below this may hold what is not finite: they must not be passed by, as 0 times that is no number.
    int64_t broken = 0;
  };
  // A program of so many rows, over slots that lie side by side.
  struct Block {
    int64_t first = 0, rows = 0;
  };

  Impl(engine::Device& device, const hub::Source& from, const SlotOptions& asked)
      : where(from.path().string()),
        options(checked(asked, where)),
        model(hub::model_config(from, context_of(options))),
        session(device, session_options(device)),
        texts(size_t(options.slots)) {
    const ModelConfig& config = model.config();
    check(config.head == HeadKind::language && config.architecture != Architecture::encoder,
          "{}: no language model's head, so it continues no text", where);
    freeze_weights(model, from, options.weights, device.target());
    model.keep_projections_together();
    model.keep_cache_as(cache_storage(options.cache_type, config, device.target()));
    if (!options.adapter.empty()) {
      adapter.emplace(options.adapter, from, model);
      adapter->install_frozen(model);
    }
    if (!options.adapters.empty()) {
      check(options.adapter.empty(), "{}: an adapter for all texts ({}) beside adapters to choose from", where,
            options.adapter);
      adapters.emplace(options.adapters, from, model);
      adapters->install(model);
    }
    shape.chunk = std::min(kMostChunk, context());
    shape.cache_length = (context() / shape.chunk + 1) * shape.chunk;
    add_programs();
    session.share_with_host("slot.next");
    session.share_with_host("read.next");
  }

  void load(const hub::Source& from) {
    session.allocate();
    const auto write = [&](const std::string& name, const graph::HostTensor& tensor) {
      if (session.has_state(name)) session.write(name, tensor);
    };
    hub::read_weights(from, model, [&](const std::string& name, std::span<const std::byte> bytes) {
      if (session.has_state(name)) session.write_bytes(name, bytes);
    });
    if (adapter) adapter->write(model, write);
    if (adapters) adapters->write(write);
    for (const auto& [name, tensor] : model.constants()) write(name, tensor);
    for (int64_t slot = 0; slot < options.slots && model.virtual_tokens().count > 0; ++slot) before.run_at(slot);
  }

  SlotPlan plan() const {
    const engine::MemoryBudget budget = session.budget();
    SlotPlan plan{.transient = budget.transient, .available = budget.available, .context = context()};
    const std::string frozen = graph::kFrozen, of_adapter = frozen + hub::kAdapterPrefix;
    for (const std::string& name : session.state_names()) {
      const graph::Type& type = session.state_type(name);
      const auto bytes = uint64_t(graph::element_count(type.shape) * graph::storage_bytes(type.dtype));
      if (name.starts_with("cache.")) plan.cache += bytes;
      if (name.starts_with(frozen) && !name.starts_with(of_adapter)) plan.weights += bytes;
    }
    plan.rest = budget.state - std::min(budget.state, plan.cache + plan.weights);
    return plan;
  }

  bool answers() const { return model.config().architecture == Architecture::encoder_decoder; }
  int64_t context() const { return model.config().block_size - model.virtual_tokens().count; }
  size_t vocabulary() const { return size_t(model.config().vocab_size); }

  // ---- programs ----

  // A program for so many of the texts, which has their axis where they are several.
  engine::SessionProgram add(const std::string& name, const graph::Program& program, int64_t rows) {
    return session.add_program(name, program, {}, {slot_member_state(), options.slots, rows});
  }

  void add_programs() {
    for (int64_t depth = kLeastDepth; 2 * depth <= shape.cache_length; depth *= 4) depths.push_back(depth);
    depths.push_back(shape.cache_length);
    for (const int64_t depth : depths) {
      const graph::Program one = step_program(model, shape, depth);
      for (int64_t rows = 1; rows < 2 * options.slots; rows *= 2) {
        const int64_t some = std::min(rows, options.slots);
        const graph::Program program = some == 1 ? one : graph::vectorize(one, some, slot_member_state());
        steps[{some, depth}] = add(fmt::format("step {} to {}", some, depth), program, some);
      }
      read[depth] = add(fmt::format("read to {}", depth), read_program(model, shape, depth, false), 1);
      if (options.scores)
        read_all[depth] = add(fmt::format("read all to {}", depth), read_program(model, shape, depth, true), 1);
    }
    if (answers()) encode = add("encode", source_program(model), 1);
    if (model.virtual_tokens().count > 0) before = add("before", virtual_program(model, shape), 1);
    if (options.slots == 1) return;
    hold = add("hold", hold_program(model, shape, options.slots), options.slots);
    put = add("put", put_program(model, shape, options.slots), options.slots);
  }

  // The least depth that has so many columns.
  int64_t depth_for(int64_t columns) const { return *std::lower_bound(depths.begin(), depths.end(), columns); }

  // The cheapest way to pass over the slots that are `wanted` among [first, first + rows).
  int64_t cover(const std::vector<bool>& wanted, int64_t first, int64_t rows, std::vector<Block>& blocks) const {
    const auto begin = wanted.begin() + std::ptrdiff_t(first);
    if (std::find(begin, begin + std::ptrdiff_t(rows), true) == begin + std::ptrdiff_t(rows)) return 0;
    const int64_t whole = kPassCost + rows;
    if (rows > 1) {
      int64_t half = 1;
      while (2 * half < rows) half *= 2;
      std::vector<Block> parts;
      const int64_t cost = cover(wanted, first, half, parts) + cover(wanted, first + half, rows - half, parts);
      if (cost < whole || !steps.contains({rows, shape.cache_length})) {
        blocks.insert(blocks.end(), parts.begin(), parts.end());
        return cost;
      }
    }
    blocks.push_back({first, rows});
    return whole;
  }

  // ---- what is checked ----

  Text& text_at(int32_t slot) {
    check(slot >= 0 && slot < options.slots, "{}: there are slots 0 to {}, not {}", where, options.slots - 1, slot);
    return texts[size_t(slot)];
  }
  void check_token(int32_t token) const {
    check(token >= 0 && size_t(token) < vocabulary(), "{}: there are tokens 0 to {}, not {}", where, vocabulary() - 1,
          token);
  }

  // ---- steps ----

  void step_all(std::span<const SlotToken> next, std::vector<float>& out) {
    std::vector<uint32_t> words(texts.size() * size_t(kSlotWords), 0);
    std::vector<bool> wanted(texts.size(), false);
    std::vector<size_t> row(texts.size());
    for (size_t slot = 0; slot < texts.size(); ++slot) {
      words[slot * size_t(kSlotWords) + 1] = uint32_t(texts[slot].tokens.size());
      words[slot * size_t(kSlotWords) + 2] = uint32_t(texts[slot].adapter);
    }
    for (size_t i = 0; i < next.size(); ++i) {
      const auto slot = size_t(next[i].slot);
      words[slot * size_t(kSlotWords)] = uint32_t(next[i].token);
      wanted[slot] = true;
      row[slot] = i;
    }
    session.write("slot.next", words);
    std::vector<Block> blocks;
    cover(wanted, 0, options.slots, blocks);
    const size_t V = vocabulary();
    out.resize(next.size() * V);
    for (const Block& block : blocks) {
      int64_t columns = 0;
      for (int64_t i = block.first; i < block.first + block.rows; ++i)
        if (wanted[size_t(i)]) columns = std::max(columns, int64_t(texts[size_t(i)].tokens.size()) + 1);
      const engine::SessionProgram& program = steps.at({block.rows, depth_for(columns)});
      program.run_at(block.first);
      const std::vector<float> logits = program.read_floats("logits");
      for (int64_t i = 0; i < block.rows; ++i) {
        const auto slot = size_t(block.first + i);
        if (!wanted[slot]) continue;
        std::copy_n(logits.begin() + i * std::ptrdiff_t(V), V, out.begin() + std::ptrdiff_t(row[slot] * V));
      }
    }
  }

  void step(std::span<const SlotToken> next, std::vector<float>& out) {
    step_all(next, out);
    std::vector<int32_t> bad;
    for (size_t i = 0; i < next.size(); ++i) {
      if (all_finite(std::span(out).subspan(i * vocabulary(), vocabulary()))) continue;
      Text& text = texts[size_t(next[i].slot)];
      text.broken = std::max(text.broken, int64_t(text.tokens.size()) + 1);
      bad.push_back(next[i].slot);
    }
    if (!bad.empty()) throw_not_finite(std::move(bad));
    for (const SlotToken& one : next) texts[size_t(one.slot)].tokens.push_back(one.token);
  }

  [[noreturn]] void throw_not_finite(std::vector<int32_t> slots) const {
    throw NotFinite(fmt::format("{}: the model's logits are not finite", where), std::move(slots));
  }

  // ---- reading ----

  // The program that ran.
  engine::SessionProgram run_chunk(int32_t slot, std::span<const int32_t> tokens, int64_t begin, int64_t column,
                                   bool all) {
    std::vector<uint32_t> words(size_t(shape.chunk) + 3, 0);
    words[0] = uint32_t(begin);
    words[1] = uint32_t(column);
    words[2] = uint32_t(texts[size_t(slot)].adapter);
    const int64_t end = std::min(begin + shape.chunk, int64_t(tokens.size()));
    for (int64_t i = begin; i < end; ++i) words[size_t(3 + i - begin)] = uint32_t(tokens[size_t(i)]);
    session.write("read.next", words);
    const engine::SessionProgram program = (all ? read_all : read).at(depth_for(begin + shape.chunk));
    program.run_at(slot);
    return program;
  }

  // Columns of a text whose logits were not finite become finite again.
  void mend(int32_t slot) {
    Text& text = texts[size_t(slot)];
    for (int64_t begin = 0; begin < text.broken; begin += shape.chunk) run_chunk(slot, {}, begin, 0, false);
    text.broken = 0;
  }

  void tell(int32_t slot, int64_t end, int64_t position, std::span<const float> logits, const Told& told) {
    if (!all_finite(logits)) {
      Text& text = texts[size_t(slot)];
      text.broken = std::max(text.broken, end);
      text.tokens.clear();
      throw_not_finite({slot});
    }
    told(position, logits);
  }

  void read_chunk(int32_t slot, std::span<const int32_t> tokens, int64_t begin, int64_t first, const Told& told) {
    const int64_t end = std::min(begin + shape.chunk, int64_t(tokens.size()));
    const int64_t from = std::max(begin, first);  // the logits after these are told
    const bool all = from < end - 1;
    const engine::SessionProgram program = run_chunk(slot, tokens, begin, end - 1 - begin, all);
    if (from >= end) return;
    const std::vector<float> logits = program.read_floats("logits");
    const size_t V = vocabulary();
    for (int64_t i = from; i < end; ++i)
      tell(slot, begin + shape.chunk, i, std::span(logits).subspan(all ? size_t(i - begin) * V : 0, V), told);
  }

  void read_text(int32_t slot, std::vector<int32_t> tokens, int64_t first, const Told& told) {
    Text& text = text_at(slot);
    const auto size = int64_t(tokens.size());
    check(size >= 1 && size <= context(), "{}: a text has 1 to {} tokens, not {}", where, context(), size);
    check(first >= 0 && first <= size, "{}: logits after the tokens from {} on, of {}", where, first, size);
    check(options.scores || first >= size - 1, "{}: slots without scores tell the logits after the last token alone",
          where);
    check(!answers() || !text.source.empty(), "{}: slot {} has no source to answer", where, slot);
    for (const int32_t token : tokens) check_token(token);
    if (text.broken > 0) {
      text.tokens.clear();
      mend(slot);
    }
    const int64_t start = std::min(int64_t(common(text.tokens, tokens)), first);
    text.tokens.assign(tokens.begin(), tokens.begin() + start);
    if (size - start <= kFewColumns && first >= size - 1) {
      std::vector<float> logits;
      for (int64_t i = start; i < size; ++i) step(std::vector<SlotToken>{{slot, tokens[size_t(i)]}}, logits);
      if (start < size && first < size) told(size - 1, logits);
      return;
    }
    for (int64_t begin = start / shape.chunk * shape.chunk; begin < size; begin += shape.chunk) {
      read_chunk(slot, tokens, begin, first, told);
      text.tokens.assign(tokens.begin(), tokens.begin() + std::min(begin + shape.chunk, size));
    }
  }

  // ---- sources and copies ----

  void remember_source(int32_t slot) {
    const auto S = size_t(model.config().source_length());
    const std::vector<int32_t>& source = texts[size_t(slot)].source;
    std::vector<uint32_t> tokens(S, 0), mask(S * texts.size(), 0);
    for (size_t i = 0; i < source.size(); ++i) tokens[i] = uint32_t(source[i]);
    for (size_t i = 0; i < texts.size(); ++i)
      std::fill_n(mask.begin() + std::ptrdiff_t(i * S), texts[i].source.size(), 1u);
    session.write("read.source", tokens);
    session.write("slot.source_mask", mask);
    encode.run_at(slot);
  }

  // Columns from here on differ between what slot i has and what it is to have.
  int64_t first_difference(size_t i, size_t from) const {
    if (texts[i].source != texts[from].source || texts[i].adapter != texts[from].adapter) return 0;
    return int64_t(common(texts[i].tokens, texts[from].tokens));
  }

  void reorder_texts(std::span<const int32_t> from) {
    check(from.size() == texts.size(), "{}: an order of {} slots, there are {}", where, from.size(), texts.size());
    int64_t begin = shape.cache_length, end = 0;
    std::vector<uint32_t> words;
    for (size_t i = 0; i < from.size(); ++i) {
      text_at(from[i]);
      const auto other = size_t(from[i]);
      words.push_back(uint32_t(other));
      if (other == i) continue;
      begin = std::min(begin, first_difference(i, other));
      end = std::max({end, int64_t(texts[other].tokens.size()), texts[other].broken});
    }
    if (begin < end) session.write("move.from", words);
    for (int64_t at = begin; at < end; at += shape.chunk) {
      const auto position = uint32_t(model.virtual_tokens().count + std::min(at, shape.cache_length - shape.chunk));
      session.write("move.position", std::vector<uint32_t>{position});
      hold.run();
      put.run();
    }
    const std::vector<Text> before = texts;
    for (size_t i = 0; i < from.size(); ++i) {
      const int64_t broken = std::max(texts[i].broken, before[size_t(from[i])].broken);
      texts[i] = before[size_t(from[i])];
      texts[i].broken = broken;
    }
    if (!answers()) return;
    for (size_t i = 0; i < from.size(); ++i)
      if (before[i].source != texts[i].source && !texts[i].source.empty()) remember_source(int32_t(i));
  }

  const std::string where;
  const SlotOptions options;
  Model model;
  std::optional<Adaptation> adapter;
  std::optional<AdapterSet> adapters;
  SlotShape shape;
  engine::Session session;
  std::vector<int64_t> depths;                                          // columns of the caches, rising
  std::map<std::pair<int64_t, int64_t>, engine::SessionProgram> steps;  // by rows and depth
  std::map<int64_t, engine::SessionProgram> read, read_all;             // by depth
  engine::SessionProgram encode, before, hold, put;
  std::vector<Text> texts;
  std::vector<float> logits;
};

Slots::Slots(engine::Device& device, const hub::Source& source, const SlotOptions& options)
    : impl_(std::make_unique<Impl>(device, source, options)) {
  impl_->load(source);
}
Slots::~Slots() = default;
Slots::Slots(Slots&&) noexcept = default;

SlotPlan Slots::plan(engine::Device& device, const hub::Source& source, const SlotOptions& options) {
  return Impl(device, source, options).plan();
}

const ModelConfig& Slots::config() const { return impl_->model.config(); }
int64_t Slots::slots() const { return impl_->options.slots; }
int64_t Slots::context() const { return impl_->context(); }
int64_t Slots::vocabulary() const { return int64_t(impl_->vocabulary()); }
int64_t Slots::chunk() const { return impl_->shape.chunk; }
const std::vector<int32_t>& Slots::text(int32_t slot) const { return impl_->text_at(slot).tokens; }

void Slots::read(int32_t slot, std::span<const int32_t> tokens, int64_t first, const Told& told) {
  impl_->read_text(slot, {tokens.begin(), tokens.end()}, first, told);
}

std::span<const float> Slots::step(std::span<const SlotToken> next) {
  std::vector<bool> named(size_t(slots()), false);
  for (const SlotToken& one : next) {
    const Impl::Text& text = impl_->text_at(one.slot);
    impl_->check_token(one.token);
    check(!named[size_t(one.slot)], "{}: slot {} is named twice in a step", impl_->where, one.slot);
    check(!text.tokens.empty(), "{}: slot {} has no text to go on with", impl_->where, one.slot);
    check(int64_t(text.tokens.size()) < context(), "{}: the text of slot {} has the {} tokens that it can have",
          impl_->where, one.slot, context());
    named[size_t(one.slot)] = true;
  }
  impl_->step(next, impl_->logits);
  return impl_->logits;
}

void Slots::choose(int32_t slot, int32_t adapter) {
  Impl::Text& text = impl_->text_at(slot);
  check(adapter >= 0 && size_t(adapter) <= impl_->options.adapters.size(), "{}: there are adapters 0 to {}, not {}",
        impl_->where, impl_->options.adapters.size(), adapter);
  if (text.adapter == adapter) return;
  text.tokens.clear();
  text.adapter = adapter;
}

int32_t Slots::adapter(int32_t slot) const { return impl_->text_at(slot).adapter; }

void Slots::set_source(int32_t slot, std::span<const int32_t> tokens) {
  Impl::Text& text = impl_->text_at(slot);
  check(impl_->answers(), "{}: only an encoder-decoder reads a source", impl_->where);
  const int64_t most = config().source_length();
  check(!tokens.empty() && int64_t(tokens.size()) <= most, "{}: a source has 1 to {} tokens, not {}", impl_->where,
        most, tokens.size());
  for (const int32_t token : tokens) impl_->check_token(token);
  text.tokens.clear();
  if (std::equal(tokens.begin(), tokens.end(), text.source.begin(), text.source.end())) return;
  text.source.assign(tokens.begin(), tokens.end());
  impl_->remember_source(slot);
}

void Slots::reorder(std::span<const int32_t> from) { impl_->reorder_texts(from); }

}  // namespace surtsey::experiments
