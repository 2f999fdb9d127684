#include "experiments/generate/decode.h"

#include "experiments/models/members.h"
#include "graph/functions.h"

#include <algorithm>

namespace surtsey::experiments {
namespace {

using graph::DType;
using graph::Program;
using graph::Value;

// What the three programs have in common.
struct DecodePrograms {
  DecodePrograms(const Model& m, const DecodeConfig& c)
      : model(m), config(c), graph(*program.graph), parameters(graph, m.store()) {}

  Value state(const char* name, graph::Shape shape, DType dtype = DType::u32) const {
    return graph.parameter(name, {dtype, std::move(shape)});
  }
  Value word(int64_t value) const { return graph::scalar(graph, double(value), DType::u32); }
  Value source_mask() const {
    if (model.config().architecture != Architecture::encoder_decoder) return {};
    return state("decode.source_mask", {config.rows, model.config().source_length()}, DType::boolean);
  }
  // tokens u32 [N, n] that stand at `position`.
  Value hidden(Value tokens, Value position) {
    ForwardOptions options;
    options.source_mask = source_mask();
    options.cache_length = config.cache_length();
    options.position = position;
    return model.hidden(parameters, tokens, options);
  }

  const Model& model;
  const DecodeConfig& config;
  Program program{std::make_shared<graph::Graph>(), {}};
  graph::Graph& graph;
  graph::Parameters parameters;
};

void check_decodes(const Model& model, const DecodeConfig& config) {
  check(model.config().architecture != Architecture::encoder, "[decode] an encoder writes nothing");
  check(model.config().input_size == 0, "[decode] a model that reads vectors writes no tokens");
  const int64_t most = model.config().block_size - model.virtual_tokens().count + 1;
  check(config.rows > 0 && config.columns > 1 && config.columns <= most,
        "[decode] {} rows of {} columns: there are 2 to {}", config.rows, config.columns, most);
  check(config.prefill >= 0 && config.chunk() <= config.columns - 1,
        "[decode] prefill takes at most {} columns at once, not {}", config.columns - 1, config.prefill);
  check_filter(config.filter);
}

}  // namespace

Program encode_program(const Model& model, const DecodeConfig& config) {
  DecodePrograms b(model, config);
  const Value source = b.state("decode.source", {config.rows, model.config().source_length()});
  model.remember_source(b.parameters, source, b.source_mask());
  return b.program;
}

Program before_program(const Model& model, const DecodeConfig& config) {
  check_decodes(model, config);
  DecodePrograms b(model, config);
  model.remember_virtual(b.parameters, config.rows, config.cache_length());
  return b.program;
}

Program prefill_program(const Model& model, const DecodeConfig& config) {
  check_decodes(model, config);
  DecodePrograms b(model, config);
  const int64_t count = config.chunk();
  const Value tokens = b.state("decode.tokens", {config.rows, config.columns});
  const Value filled = b.state("decode.filled", {});
  const Value columns = graph::iota(b.graph, {DType::u32, {count}}, 0) + filled;
  b.hidden(graph::gather(tokens, columns, 1), filled);
  b.graph.assign(filled, filled + b.word(count));
  return b.program;
}

Program decode_program(const Model& model, const DecodeConfig& config) {
  check_decodes(model, config);
  DecodePrograms b(model, config);
  const int64_t N = config.rows, L = config.columns;
  const Value tokens = b.state("decode.tokens", {N, L});
  const Value length = b.state("decode.length", {N});
  const Value broken = b.state("decode.broken", {N});
  const Value position = b.state("decode.position", {});
  const Value before = position - b.word(1);
  const Value hidden = b.hidden(graph::reshape(graph::gather(tokens, before, 1), {N, 1}), before);
  const Value logits = graph::reshape(b.model.head(b.parameters, hidden), {N, -1});
  graph::ScopeGuard scope(b.graph, "decode");
  const TokenDraw draw{b.state("decode.temperature", {}, DType::f32), b.state("decode.seed", {}),
                       position + b.state("decode.origin", {}), b.state("decode.stream", {N})};
  const Value next = draw_tokens(logits, draw, config.filter);
  const Value column = graph::iota(b.graph, {DType::u32, {1, L}}, 1);
  const Value free = graph::logical_not(graph::less(position, graph::reshape(length, {N, 1})));
  const Value here = graph::logical_and(graph::equal(column, position), free);
  b.graph.assign(tokens, graph::select(here, next, tokens));
  const Value bad = graph::sum(cast(graph::logical_not(is_finite(logits)), DType::f32), {1}, false);
  b.graph.assign(broken, broken + cast(bad, DType::u32));
  b.graph.assign(position, position + b.word(1));
  b.program.outputs = {{"logits", logits}};
  return b.program;
}

std::set<std::string> decode_member_state() {
  return {"decode.tokens", "decode.length", "decode.broken", "decode.source", "decode.source_mask", "cache.*"};
}

namespace {

// What a draw depends on. With a single token in the vocabulary there is nothing to draw, and the compiled programs
// have no such state.
template <typename T>
void write_draw_state(engine::Session& session, const std::string& name, const std::vector<T>& values) {
  if (session.has_state(name)) session.write(name, values);
}

}  // namespace

Decoder::Decoder(engine::Session& session, const Model& model, size_t members, DecodeConfig config)
    : session_(session), config_(config), members_(members) {
  check_decodes(model, config);
  if (model.config().architecture == Architecture::encoder_decoder) {
    source_length_ = size_t(model.config().source_length());
    encode_ =
        session_.add_program("encode", for_members(encode_program(model, config), members, decode_member_state()));
  }
  has_before_ = model.virtual_tokens().count > 0;
  if (has_before_)
    before_ =
        session_.add_program("before", for_members(before_program(model, config), members, decode_member_state()));
  prefill_ =
      session_.add_program("prefill", for_members(prefill_program(model, config), members, decode_member_state()));
  decode_ = session_.add_program("decode", for_members(decode_program(model, config), members, decode_member_state()));
}

void Decoder::set_sampling(double temperature, uint32_t seed) {
  check(temperature >= 0, "[decode] the temperature cannot be {}", temperature);
  write_draw_state(session_, "decode.temperature", std::vector<float>{float(temperature)});
  write_draw_state(session_, "decode.seed", std::vector<uint32_t>{seed});
}

void Decoder::write_rows(const std::vector<std::vector<DecodeRow>>& rows, size_t first, size_t count, int32_t padding) {
  const auto N = size_t(config_.rows), L = size_t(config_.columns);
  std::vector<uint32_t> tokens(members_ * N * L, uint32_t(padding));
  std::vector<uint32_t> lengths(members_ * N, 1), streams;
  for (size_t e = 0; e < members_; ++e) {
    for (size_t n = 0; n < count; ++n) {
      const DecodeRow& row = rows[e][first + n];
      lengths[e * N + n] = uint32_t(row.length);
      const auto to = tokens.begin() + std::ptrdiff_t((e * N + n) * L);
      std::copy_n(row.tokens.begin(), row.length, to);
    }
  }
  for (size_t n = 0; n < N; ++n) streams.push_back(uint32_t(first + n));
  session_.write("decode.tokens", tokens);
  session_.write("decode.length", lengths);
  write_draw_state(session_, "decode.stream", streams);
  session_.write("decode.broken", std::vector<uint32_t>(members_ * N, 0));
}

void Decoder::write_sources(const std::vector<std::vector<DecodeRow>>& rows, size_t first, size_t count) {
  const auto N = size_t(config_.rows), S = source_length_;
  std::vector<uint32_t> tokens(members_ * N * S, 0), mask(members_ * N * S, 0);
  for (size_t e = 0; e < members_; ++e) {
    for (size_t n = 0; n < count; ++n) {
      const std::vector<int32_t>& source = rows[e][first + n].source;
      check(!source.empty() && source.size() <= S, "[decode] a source of {} tokens, there are 1 to {}", source.size(),
            S);
      for (size_t s = 0; s < source.size(); ++s) {
        tokens[(e * N + n) * S + s] = uint32_t(source[s]);
        mask[(e * N + n) * S + s] = 1;
      }
    }
  }
  session_.write("decode.source", tokens);
  session_.write("decode.source_mask", mask);
}

std::vector<std::vector<int32_t>> Decoder::decode(const std::vector<std::vector<DecodeRow>>& rows, int32_t start,
                                                  int32_t stop, int32_t padding, int64_t origin) {
  ensure(rows.size() == members_, "[decode] rows for {} of {} members", rows.size(), members_);
  const auto L = size_t(config_.columns);
  check(start > 0 && start <= stop && size_t(stop) <= L, "[decode] positions {} to {} of {} cannot be decoded", start,
        stop, L);
  for (const auto& list : rows) {
    for (const DecodeRow& row : list) {
      ensure(row.length >= start && size_t(row.length) <= row.tokens.size() && row.tokens.size() <= L,
             "[decode] a row of {} tokens, {} of them given, decoded from {}", row.tokens.size(), row.length, start);
    }
  }
  const size_t count = rows[0].size();
  const auto N = size_t(config_.rows);
  // The last given column is read by decode itself.
  const int64_t chunks = (start - 1 + config_.chunk() - 1) / config_.chunk();
  write_draw_state(session_, "decode.origin", std::vector<uint32_t>{uint32_t(origin)});
  std::vector<std::vector<int32_t>> result(members_);
  for (size_t first = 0; first < count; first += N) {
    const size_t part = std::min(N, count - first);
    write_rows(rows, first, part, padding);
    if (source_length_ > 0) {
      write_sources(rows, first, part);
      encode_.run();
    }
    if (has_before_) before_.run();
    session_.write("decode.filled", std::vector<uint32_t>{0});
    session_.write("decode.position", std::vector<uint32_t>{uint32_t(start)});
    if (chunks > 0) prefill_.run(uint32_t(chunks));
    if (stop > start) decode_.run(uint32_t(stop - start));
    append_rows(part, result);
  }
  going_on_ = count <= N ? count : 0;
  stop_ = stop;
  return result;
}

std::vector<std::vector<int32_t>> Decoder::go_on(int32_t count) {
  check(going_on_ > 0, "[decode] nothing to go on with: the last rows did not go through at once");
  check(count > 0 && int64_t(stop_) + count <= config_.columns, "[decode] {} columns from {} on, of {}", count, stop_,
        config_.columns);
  decode_.run(uint32_t(count));
  stop_ += count;
  std::vector<std::vector<int32_t>> result(members_);
  append_rows(going_on_, result);
  return result;
}

// The first `count` rows of each member as they are, behind what `result` has of them.
void Decoder::append_rows(size_t count, std::vector<std::vector<int32_t>>& result) {
  const auto N = size_t(config_.rows), L = size_t(config_.columns);
  const std::vector<uint32_t> written = session_.read_words("decode.tokens");
  for (size_t e = 0; e < members_; ++e) {
    const auto begin = written.begin() + std::ptrdiff_t(e * N * L);
    result[e].insert(result[e].end(), begin, begin + std::ptrdiff_t(count * L));
  }
}

bool Decoder::finite() {
  const std::vector<uint32_t> broken = session_.read_words("decode.broken");
  return std::all_of(broken.begin(), broken.end(), [](uint32_t count) { return count == 0; });
}

}  // namespace surtsey::experiments
