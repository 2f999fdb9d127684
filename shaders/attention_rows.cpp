// Attention of one query a head, as decoding has it: a subgroup has the heads of queries that share a head of keys (or
// some of them, where threads would have nothing to do), and reads keys and values once for all of these.
//
//   rows [rows, width]              queries: the heads of one group
//   scores [rows, keys]             in shared memory, which they must fit
//
//   for keys by lanes * kScored       each lane kScored keys: scores = mask(scale q k)
//   scores = exp(scores - floor(max of them))
//   total = sum of scores           a lane has a row, in the order of the keys
//   for keys by depth               lanes lie along the columns of v: out += scores / total v
//
// Each number is what the primitives of the region make of it, in their order, to the same bits: a column of a cache is
// the same whether its token was read alone, or with a prompt's others, whose attention is expanded (decompose). Keys
// that a causal mask hides from the query weigh exactly nothing, so loops end before them.
#include "graph/attention.h"
#include "shaders/archetypes.h"
#include "shaders/attention_limits.h"
#include "shaders/attention_tile.h"
#include "shaders/row_operand.h"

#include <algorithm>
#include <map>

namespace surtsey::shaders {

using namespace graph;

namespace {

constexpr int64_t kScored = 2;        // of a lane at a time, which share what is broadcast of the queries
constexpr int64_t kWrittenOut = 128;  // columns of a head that are one turn: its queries are then loaded once
constexpr int64_t kWideTurn = 32;     // columns of a turn of wider heads
constexpr int64_t kMixedKeys = 16;    // keys of a turn of the last loop
constexpr int64_t kMixed = 32;        // of a lane in the last loop; columns that are more wait for another pass

// One workgroup is one subgroup: it need not wait, its lanes must see what each other wrote.
constexpr const char* kSeen = "subgroupMemoryBarrierShared(); subgroupBarrier();";

class RowAttention : public AttentionSides {
 public:
  explicit RowAttention(Writer& writer) : AttentionSides(writer), lanes_(writer.target().subgroup_size) {
    const int64_t group = heads / key_heads, tiles = batches() * key_heads;
    while (tiles * splits_ < int64_t(w.target().threads) && splits_ < group) {
      do ++splits_;
      while (group % splits_ != 0);
    }
    rows_ = group / splits_;
    depth_ = std::min(kMixedKeys, kScored * lanes_);
    stride_ = round_up(keys, kScored * lanes_);
    for (const Value& operand : {in.q, in.k, in.v}) load_in_pairs(operand.node);
  }

  Shader write() {
    w.global(fmt::format("shared float scores[{}];", rows_ * stride_));
    w.line("uint lane = gl_SubgroupInvocationID;");
    const uint32_t groups = open_tiles(w, batches() * key_heads * splits_);
    const Affine split = variable("split", splits_, fmt::format("tile % {}u", splits_));
    key_head_ = variable("key_head", key_heads, fmt::format("tile / {}u % {}u", splits_, key_heads));
    z = variable("z", batches(), fmt::format("tile / {}u", splits_ * key_heads));
    first_head_ = w.context.add(w.context.scale(key_head_, heads / key_heads), w.context.scale(split, rows_));
    own_row_ = variable("own_row", rows_, fmt::format("lane % {}u", rows_));
    const std::string position = in.position ? scalar(in.position) : "0u";
    w.line(fmt::format("uint first = {};", position));
    // A row that sees nothing weighs all keys alike.
    const bool ends_early = form.causal && !form.has_empty_rows();
    w.line(ends_early ? fmt::format("uint end = min(first, {}u) + 1u;", keys - 1)
                      : fmt::format("uint end = {}u;", keys));
    score();
    weigh();
    mix();
    store_lse();
    w.line(kSeen);  // before the next tile's scores
    close_tiles(w);
    Shader shader = w.finish(groups, uint32_t(lanes_), uint32_t(lanes_));
    shader.variant = "rows";
    return shader;
  }

 private:
  // What an operand is computed from, up to what is stored.
  void load_in_pairs(uint32_t n) {
    for (size_t i = 0; i < w.kernel().inputs.size(); ++i)
      if (w.kernel().inputs[i].value.node == n) {
        w.load_in_pairs(i);
        return;
      }
    const auto& inlined = w.kernel().inlined;
    if (std::find(inlined.begin(), inlined.end(), n) == inlined.end()) return;
    for (const Value& of : w.graph().node(n).inputs) load_in_pairs(of.node);
  }

  Affine variable(const char* name, int64_t extent, const std::string& text) {
    const Affine made = w.context.variable(name, extent);
    w.define(made, text);
    return made;
  }

  Affine head(const Affine& row) { return w.context.add(first_head_, row); }
  std::string place(int64_t row, const std::string& key) const {
    return fmt::format("scores[{}u + {}]", row * stride_, key);
  }

  // turn(place, count) for [0, extent): written out where that is one turn, else a loop and what is left.
  template <typename Turn>
  void for_turns(const char* name, int64_t extent, int64_t depth, const Turn& turn) {
    const int64_t whole = extent / depth;
    if (whole > 1) {
      const Affine turns = w.context.variable(name, whole);
      w.open(fmt::format("for (uint {0} = 0u; {0} < {1}u; ++{0})", name, whole));
      w.declare(turns);
      turn(w.context.scale(turns, depth), depth);
      w.close();
    } else if (whole == 1) {
      w.open("");
      turn(Affine(0), depth);
      w.close();
    }
    if (whole * depth < extent) {
      w.open("");
      turn(Affine(whole * depth), extent - whole * depth);
      w.close();
    }
  }

  // ---- scores ----

  void score() {
    RowOperand queries(
        w, [this](const Affine& row, const Affine& d) { return element(in.q, head(row), Affine(0), d); }, rows_, rows_,
        {own_row_}, true, true);
    const bool once = width <= kWrittenOut && width % 2 == 0;
    for (int64_t i = 0; i < rows_; ++i) w.line(fmt::format("float most{} = {};", i, glsl_constant(DType::f32, -3e38)));
    if (once) {
      queries.begin(Affine(0), width);
      for (int64_t u = 0; u < width; ++u) queries.at(0, u);  // what is computed on load is, before the loop
    }
    w.open(fmt::format("for (uint block = 0u; block < end; block += {}u)", kScored * lanes_));
    std::vector<Affine> keys_at;
    for (int64_t c = 0; c < kScored; ++c) {
      const std::string key = fmt::format("block + {}u + lane", c * lanes_);
      keys_at.push_back(
          variable(c == 0 ? "key0" : "key1", keys, stride_ == keys ? key : fmt::format("min({}, {}u)", key, keys - 1)));
    }
    for (int64_t i = 0; i < rows_; ++i)
      for (int64_t c = 0; c < kScored; ++c) w.line(fmt::format("float c{}_{} = 0.0;", i, c));
    const auto turn = [&](const Affine& d, int64_t count) {
      if (!once) queries.begin(d, count);
      for (int64_t u = 0; u < count; ++u) {
        std::vector<std::string> mine;
        for (const Affine& key : keys_at) mine.push_back(element(in.k, key_head_, key, w.context.add(d, Affine(u))));
        for (int64_t i = 0; i < rows_; ++i) multiply_add(i, queries.at(i, u), mine);
      }
    };
    if (once) {
      turn(Affine(0), width);
    } else {
      for_turns("turn", width, kWideTurn, turn);
    }
    for (size_t c = 0; c < keys_at.size(); ++c) {
      const std::string seen = visible(keys_at[c]);
      for (int64_t i = 0; i < rows_; ++i) {
        std::string text = fmt::format("c{}_{} * {}", i, c, glsl_constant(DType::f32, form.scale));
        if (!seen.empty()) text = fmt::format("{} ? {} : {}", seen, text, glsl_constant(DType::f32, kMaskedScore));
        const std::string made = w.keep("float", text);
        w.line(fmt::format("{} = {};", place(i, fmt::format("block + {}u + lane", int64_t(c) * lanes_)), made));
        w.line(fmt::format("most{0} = max(most{0}, {1});", i, made));
      }
    }
    w.close();
  }

  // c{row}_{c} += factor mine[c]
  void multiply_add(int64_t row, const std::string& factor, const std::vector<std::string>& mine) {
    std::string text = fmt::format("{{ float s = {};", factor);
    for (size_t c = 0; c < mine.size(); ++c) text += fmt::format(" c{0}_{1} = fma(s, {2}, c{0}_{1});", row, c, mine[c]);
    w.line(text + " }");
  }

  // Does the query see the key? Empty: always.
  std::string visible(const Affine& at) {
    std::string text;
    const auto also = [&](const std::string& condition) { text += (text.empty() ? "" : " && ") + condition; };
    const std::string key = w.index(at);
    if (form.causal) also(fmt::format("{} <= first", key));
    if (form.window > 0) {
      also(fmt::format("first < {} + {}u", key, form.window));
      if (!form.causal) also(fmt::format("{} < first + {}u", key, form.window));
    }
    if (form.has_key_mask) also(key_exists(at));
    return text.empty() ? "" : w.keep("bool", text);
  }

  // ---- their softmax ----

  void weigh() {
    for (int64_t i = 0; i < rows_; ++i) {
      std::string most = fmt::format("subgroupBroadcast(most{}, 0u)", i);
      for (int64_t lane = 1; lane < lanes_; ++lane) {
        if (lane % 8 == 0) most = w.keep("float", most);  // a line that can be read
        most = fmt::format("max({}, subgroupBroadcast(most{}, {}u))", most, i, lane);
      }
      w.line(fmt::format("float shift{} = floor({});", i, most));
    }
    // Each lane's own scores: nothing to wait for.
    w.open(fmt::format("for (uint block = 0u; block < end; block += {}u)", kScored * lanes_));
    for (int64_t c = 0; c < kScored; ++c) {
      const std::string key = fmt::format("block + {}u + lane", c * lanes_);
      for (int64_t i = 0; i < rows_; ++i) {
        std::string weight = fmt::format("exp({} - shift{})", place(i, key), i);
        if (stride_ != keys) weight = fmt::format("{} < {}u ? {} : 0.0", key, keys, weight);
        w.line(fmt::format("{} = {};", place(i, key), weight));
      }
    }
    w.close();
    w.line(kSeen);
    w.line("float total = 0.0;");
    w.line(fmt::format("uint own_scores = lane % {}u * {}u;", rows_, stride_));
    w.line("for (uint key = 0u; key < end; ++key) total = total + scores[own_scores + key];");
  }

  // ---- what they weigh ----

  void mix() {
    const int64_t unit = value_width % 2 == 0 ? 2 : 1;  // columns of a lane that lie side by side
    const int64_t units = value_width / unit, each = divide_up(units, lanes_);
    const int64_t held = std::clamp<int64_t>(kMixed / (rows_ * unit), 1, each), passes = divide_up(each, held);
    w.open(passes > 1 ? fmt::format("for (uint pass = 0u; pass < {}u; ++pass)", passes) : "");
    std::vector<Affine> units_at, columns;
    std::vector<std::string> exists;
    for (int64_t h = 0; h < held; ++h) {
      const std::string at = passes > 1 ? fmt::format("(pass * {}u + {}u) * {}u + lane", held, h, lanes_)
                                        : fmt::format("{}u + lane", h * lanes_);
      const bool all = units == passes * held * lanes_;
      exists.push_back(all ? "" : fmt::format("if ({} < {}u)", at, units));
      units_at.push_back(
          variable(fmt::format("unit{}", h).c_str(), units, all ? at : fmt::format("min({}, {}u)", at, units - 1)));
      for (int64_t j = 0; j < unit; ++j)
        columns.push_back(w.context.add(w.context.scale(units_at.back(), unit), Affine(j)));
    }
    for (int64_t i = 0; i < rows_; ++i)
      for (size_t c = 0; c < columns.size(); ++c) w.line(fmt::format("float c{}_{} = 0.0;", i, c));
    const int64_t whole = keys / depth_;
    if (whole > 0) {
      const Affine turns = w.context.variable("turn", whole);
      w.open(
          fmt::format("for (uint turn = 0u; turn < min((end + {}u) / {}u, {}u); ++turn)", depth_ - 1, depth_, whole));
      w.declare(turns);
      add_values(w.context.scale(turns, depth_), depth_, columns);
      w.close();
    }
    if (whole * depth_ < keys) {
      w.open(fmt::format("if (end > {}u)", whole * depth_), true);
      add_values(Affine(whole * depth_), keys - whole * depth_, columns);
      w.close();
    }
    store_columns(exists, columns, unit);
    w.close();
  }

  void add_values(const Affine& first, int64_t count, const std::vector<Affine>& columns) {
    std::map<std::string, std::string> loaded;
    RowOperand weights(
        w,
        [&](const Affine&, const Affine& key) {
          std::string& weight = loaded[w.index(key)];
          if (weight.empty()) weight = w.keep("float", fmt::format("scores[own_scores + {}] / total", w.index(key)));
          return weight;
        },
        rows_, rows_, {own_row_}, true, false);
    weights.begin(first, count);
    for (int64_t u = 0; u < count; ++u) {
      std::vector<std::string> mine;
      for (const Affine& column : columns)
        mine.push_back(element(in.v, key_head_, w.context.add(first, Affine(u)), column));
      for (int64_t i = 0; i < rows_; ++i) multiply_add(i, weights.at(i, u), mine);
    }
  }

  // ---- results ----

  Affine result_row(const Affine& row) { return w.context.add(w.context.scale(z, heads), head(row)); }

  void store_columns(const std::vector<std::string>& exists, const std::vector<Affine>& columns, int64_t unit) {
    uint32_t member = 0;
    const std::vector<size_t> places = outputs(0, member);
    const bool pairs = unit == 2 && std::all_of(places.begin(), places.end(), [&](size_t o) { return w.pairs(o); });
    for (size_t h = 0; h < exists.size() && !places.empty(); ++h) {
      w.open(exists[h], !exists[h].empty());
      for (int64_t i = 0; i < rows_; ++i) {
        const Affine row = w.context.scale(result_row(Affine(i)), value_width);
        for (int64_t j = 0; j < unit; j += pairs ? 2 : 1) {
          const size_t c = h * size_t(unit) + size_t(j);
          const Affine at = w.context.add(row, columns[c]);
          if (pairs) {
            for (const size_t output : places)
              w.store_pair(at, output, fmt::format("c{}_{}", i, c), fmt::format("c{}_{}", i, c + 1));
            continue;
          }
          w.open("");
          w.bind(member, fmt::format("c{}_{}", i, c));
          w.store(at, places);
          w.close();
        }
      }
      w.close();
    }
  }

  void store_lse() {
    uint32_t member = 0;
    const std::vector<size_t> places = outputs(1, member);
    if (places.empty()) return;
    std::string shift = "shift0";
    for (int64_t i = 1; i < rows_; ++i) shift = fmt::format("(lane == {0}u ? shift{0} : {1})", i, shift);
    w.open(fmt::format("if (lane < {}u)", rows_), true);
    w.bind(member, w.keep("float", fmt::format("log(total) + {}", shift)));
    w.store(result_row(own_row_), places);
    w.close();
  }

  const int64_t lanes_;
  int64_t splits_ = 1, rows_ = 1, depth_ = 1;
  int64_t stride_ = 1;  // of a row of scores
  Affine key_head_, first_head_, own_row_;
};

}  // namespace

Shader attention_rows(Writer& writer) { return RowAttention(writer).write(); }

}  // namespace surtsey::shaders
