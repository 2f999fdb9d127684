#include "graph/attention.h"

#include "shaders/archetypes.h"
#include "shaders/attention_tile.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace surtsey::shaders {

using namespace graph;

namespace {

// Less than any masked score: keys past the end weigh nothing even in a row that is masked throughout. In units of
// log2, as all scores here.
constexpr const char* kNowhere = "(-3.0e38)";
constexpr double kLog2e = std::numbers::log2e;

std::string literal(double value) { return glsl_constant(DType::f32, value); }

// One kernel of attention (graph/attention.h has the formulas). A lane has rows of one side of the score matrix and
// meets the other side in tiles: products of its rows with the tile's give scores [own rows, tile rows] in registers,
// which weigh the tile's rows into the lane's results.
//
//   forward         own: queries  s = q k, m and l online (Milakov and Gimelshein 2018); o += exp(s - m) v
//   query_gradient  own: queries  p = exp(q k - lse), dp = dout v, ds = p (dp - delta); dq += ds k
//   key_gradient    own: keys     the same p and ds; dk += ds q, dv += p dout
class AttentionWriter {
 public:
  AttentionWriter(Writer& writer, std::unique_ptr<AttentionTile> tile)
      : w_(writer), tile_(std::move(tile)), t_(*tile_), form_(t_.form), first_(t_.in.position ? "first" : "0u") {}

  Shader write() {
    const uint32_t groups = t_.open();
    prologue();
    switch (form_.part) {
      case AttentionPart::forward:
        forward();
        break;
      case AttentionPart::query_gradient:
        query_gradient();
        break;
      case AttentionPart::key_gradient:
        key_gradient();
        break;
    }
    t_.close();
    Shader shader = w_.finish(groups, uint32_t(t_.lanes), t_.subgroup_size());
    shader.variant = t_.variant();
    return shader;
  }

 private:
  void prologue() {
    if (t_.in.position) w_.line(fmt::format("uint first = {};", t_.scalar(t_.in.position)));
    for (int64_t r = 0; r < t_.own_rows && form_.has_first_key && !t_.by_key; ++r)
      w_.line(fmt::format("uint first_key{} = {};", r, t_.first_key(t_.own[size_t(r)])));
    if (form_.dropout == 0) return;
    uint32_t hash = 2166136261u;  // as stream_key() has it
    for (const char letter : form_.stream) hash = (hash ^ uint8_t(letter)) * 16777619u;
    w_.line(fmt::format("uint drop_key = {}({}, {}u, {}u);", w_.helper("surtsey_philox"), t_.scalar(t_.in.seed),
                        0x73747265u, hash));
    w_.line(fmt::format("uint drop_step = {};", t_.scalar(t_.in.step)));
  }

  // ---- which rows of the other side ----

  // Tiles that the mask hides from all of the lanes' rows are skipped. A query that sees nothing weighs all keys alike:
  // where there may be one, nothing is skipped on its account.
  void tile_range() {
    if (t_.is_whole()) return;
    w_.line("uint low = 0u;");
    w_.line(fmt::format("uint high = {}u;", t_.tile_extent));
    if (form_.has_key_mask) return;
    const std::string own_last = fmt::format("min(own_base + {}u, {}u)", t_.lanes * t_.own_rows - 1, t_.own_extent - 1);
    const bool both_sides = form_.window > 0 && !form_.causal;
    const int64_t first_blind = t_.keys + form_.window - 1;  // from this position on, a window has passed all keys
    if (!t_.by_key) {
      w_.line(fmt::format("uint last = {} + {};", first_, own_last));
      if (form_.causal) w_.line("high = min(high, last + 1u);");
      // First keys do not fall: no row of the lanes' sees what stands before that of the first of them.
      if (form_.has_first_key) w_.line(fmt::format("low = {0} / {1}u * {1}u;", t_.first_key_of_all(), t_.tile_rows));
      if (both_sides) w_.line(fmt::format("high = min(high, last + {}u);", form_.window));
      if (form_.window > 0) {
        w_.line(fmt::format("uint begin = {} + own_base + 1u;", first_));
        w_.line(fmt::format("if (begin > {0}u && last < {1}u) low = (begin - {0}u) / {2}u * {2}u;", form_.window,
                            first_blind, t_.tile_rows));
      }
      return;
    }
    // Query i sees key k if k <= first + i (or k < first + i + window), and first + i < k + window.
    if (form_.causal || both_sides) {
      w_.line(fmt::format("uint reach = {} + {}u;", first_, both_sides ? form_.window - 1 : 0));
      w_.line(fmt::format("if (own_base > reach) low = (own_base - reach) / {0}u * {0}u;", t_.tile_rows));
    }
    if (form_.window > 0) {
      w_.line(fmt::format("uint end = {} + {}u;", own_last, form_.window));
      w_.line(fmt::format("if ({0} + {1}u < {2}u) high = min(high, end - min(end, {0}));", first_, t_.queries - 1,
                          first_blind));
    }
  }

  std::string query_index(int64_t r, int64_t j) { return t_.by_key ? t_.tile_index(j) : t_.own_index(r); }
  std::string key_index(int64_t r, int64_t j) { return t_.by_key ? t_.own_index(r) : t_.tile_index(j); }

  // Does the query see the key? Empty: always.
  std::string visible(int64_t r, int64_t j) {
    std::string text;
    const auto also = [&](const std::string& condition) { text += (text.empty() ? "" : " && ") + condition; };
    const std::string key = key_index(r, j);
    const std::string query = (t_.in.position ? "first + " : "") + query_index(r, j);
    if (form_.causal) also(fmt::format("{} <= {}", key, query));
    if (form_.window > 0) {
      also(fmt::format("{} < {} + {}u", query, key, form_.window));
      if (!form_.causal) also(fmt::format("{} < {} + {}u", key, query, form_.window));
    }
    // A tile's values are f32, which holds every position there is.
    if (form_.has_first_key)
      also(t_.by_key ? fmt::format("float({}) >= {}", key, t_.tile_value("first_key", j))
                     : fmt::format("{} >= first_key{}", key, r));
    if (form_.has_key_mask) also(t_.by_key ? fmt::format("own_exists{}", r) : t_.tile_value("exists", j) + " != 0.0");
    return text;
  }

  // Is there such a row in the tile? Empty: always, or the mask hides it.
  std::string in_tile(int64_t j) const {
    if (t_.tile_extent % t_.tile_rows == 0) return "";
    if (!t_.by_key && form_.causal && !form_.has_empty_rows() && !t_.in.position && t_.queries <= t_.keys) return "";
    return fmt::format("{} < {}u", t_.tile_index(j), t_.tile_extent);
  }

  // Dropout's draw for the element of the scores, its index inside the member.
  std::string kept(int64_t r, int64_t j) {
    const Affine row = w_.context.add(w_.context.scale(w_.context.modulo(t_.z, t_.batch), t_.heads), t_.query_head);
    return fmt::format("({}(drop_key, drop_step, (({}) * {}u + {}) * {}u + {}) >= {}u ? {} : 0.0)",
                       w_.helper("surtsey_philox"), w_.index(row), t_.queries, query_index(r, j), t_.keys,
                       key_index(r, j), uint32_t(form_.dropout * 4294967296.0), literal(1 / (1 - form_.dropout)));
  }

  // ---- the parts ----

  void forward() {
    const int64_t columns = t_.value_chunk;
    for (int64_t r = 0; r < t_.own_rows; ++r) w_.line(fmt::format("float m{0} = {1}; float l{0} = 0.0;", r, kNowhere));
    t_.declare_sums("o", columns);
    tile_range();
    t_.open_tile();
    if (form_.has_key_mask)
      t_.load_tile_values("exists", [&](const Affine& row) { return t_.key_exists(row) + " ? 1.0 : 0.0"; });
    t_.tile_is_complete();
    t_.dot("s", Operand::a);
    for (int64_t r = 0; r < t_.own_rows; ++r) online_softmax(r);
    t_.accumulate("o", "s", Operand::b);
    t_.close_tile();
    for (int64_t r = 0; r < t_.own_rows; ++r) {
      w_.line(fmt::format("float whole{0} = 1.0 / l{0};", r));
      w_.line(fmt::format("float lse{0} = (m{0} + log2(l{0})) * {1};", r, literal(std::numbers::ln2)));
      for (int64_t d = 0; d < columns; ++d) w_.line(fmt::format("o{0}_{1} *= whole{0};", r, d));
    }
    store(0, "o", columns, t_.value_width);
    store_value(1, "lse");
  }

  // Scores become exp2(s - m) with the maximum so far; what was summed under the old one shrinks.
  void online_softmax(int64_t r) {
    std::string most = fmt::format("m{}", r);
    for (int64_t j = 0; j < t_.tile_rows; ++j) {
      const std::string s = fmt::format("s{}_{}", r, j), seen = visible(r, j), inside = in_tile(j);
      std::string score = fmt::format("{} * {}", s, literal(form_.scale * kLog2e));
      if (!seen.empty()) score = fmt::format("({} ? {} : {})", seen, score, literal(kMaskedScore * kLog2e));
      if (!inside.empty()) score = fmt::format("({} ? {} : {})", inside, score, kNowhere);
      w_.line(fmt::format("{} = {};", s, score));
      most = fmt::format("max({}, {})", most, s);
    }
    w_.line(fmt::format("float most{} = {};", r, most));
    w_.line(fmt::format("float shrink{0} = exp2(m{0} - most{0}); m{0} = most{0}; l{0} *= shrink{0};", r));
    for (int64_t d = 0; d < t_.value_chunk; ++d) w_.line(fmt::format("o{0}_{1} *= shrink{0};", r, d));
    for (int64_t j = 0; j < t_.tile_rows; ++j) {
      w_.line(fmt::format("s{0}_{1} = exp2(s{0}_{1} - m{0}); l{0} += s{0}_{1};", r, j));
      if (form_.dropout > 0) w_.line(fmt::format("s{0}_{1} *= {2};", r, j, kept(r, j)));
    }
  }

  void query_gradient() {
    const AttentionOperands& in = t_.in;
    for (int64_t r = 0; r < t_.own_rows; ++r) {
      w_.line(fmt::format("float delta{} = 0.0;", r));
      w_.line(fmt::format("float lse{} = {};", r, t_.element(in.lse, t_.head, t_.own[size_t(r)], Affine(0))));
    }
    const Affine d = w_.context.variable("column", t_.value_width);
    w_.open(fmt::format("for (uint column = 0u; column < {}u; ++column)", t_.value_width));
    w_.declare(d);
    for (int64_t r = 0; r < t_.own_rows; ++r) {
      const Affine& row = t_.own[size_t(r)];
      w_.line(fmt::format("delta{0} = fma({1}, {2}, delta{0});", r, t_.element(in.dout, t_.head, row, d),
                          t_.element(in.out, t_.head, row, d)));
    }
    w_.close();
    for (int64_t r = 0; r < t_.own_rows && in.dlse; ++r)
      w_.line(fmt::format("delta{} -= {};", r, t_.element(in.dlse, t_.head, t_.own[size_t(r)], Affine(0))));
    t_.declare_sums("dq", t_.chunk);
    gradient_loop();
    store(0, "dq", t_.chunk, t_.width);
    store_value(1, "delta");
  }

  void key_gradient() {
    t_.declare_sums("dk", t_.chunk);
    t_.declare_sums("dv", t_.value_chunk);
    for (int64_t r = 0; r < t_.own_rows && form_.has_key_mask; ++r)
      w_.line(fmt::format("bool own_exists{} = {};", r, t_.key_exists(t_.own[size_t(r)])));
    // The queries of all heads that read these keys.
    const int64_t group = t_.heads / t_.key_heads;
    const Affine member = w_.context.variable("member", group);
    w_.open(group > 1 ? fmt::format("for (uint member = 0u; member < {}u; ++member)", group) : "");
    w_.declare(member);
    t_.query_head = w_.context.add(w_.context.scale(t_.head, group), member);
    gradient_loop();
    w_.close();
    store(0, "dk", t_.chunk, t_.width);
    store(1, "dv", t_.value_chunk, t_.value_width);
  }

  void gradient_loop() {
    tile_range();
    t_.open_tile();
    const auto column = [&](const Value& operand) {
      return [this, operand](const Affine& row) { return t_.element(operand, t_.query_head, row, Affine(0)); };
    };
    if (t_.by_key) {
      t_.load_tile_values("lse", column(t_.in.lse));
      t_.load_tile_values("delta", column(t_.in.delta));
      if (form_.has_first_key)
        t_.load_tile_values("first_key",
                            [&](const Affine& row) { return fmt::format("float({})", t_.first_key(row)); });
    } else if (form_.has_key_mask) {
      t_.load_tile_values("exists", [&](const Affine& row) { return t_.key_exists(row) + " ? 1.0 : 0.0"; });
    }
    t_.tile_is_complete();
    t_.dot("s", Operand::a);
    t_.dot("dp", Operand::b);
    for (int64_t r = 0; r < t_.own_rows; ++r)
      for (int64_t j = 0; j < t_.tile_rows; ++j) score_gradient(r, j);
    t_.accumulate(t_.by_key ? "dk" : "dq", "dp", Operand::a);
    if (t_.by_key) t_.accumulate("dv", "s", Operand::b);
    t_.close_tile();
  }

  // s becomes p, as it weighs dv; dp becomes ds, scaled.
  void score_gradient(int64_t r, int64_t j) {
    const std::string s = fmt::format("s{}_{}", r, j), dp = fmt::format("dp{}_{}", r, j);
    const std::string lse = t_.by_key ? t_.tile_value("lse", j) : fmt::format("lse{}", r);
    const std::string delta = t_.by_key ? t_.tile_value("delta", j) : fmt::format("delta{}", r);
    const std::string seen = visible(r, j), inside = in_tile(j);
    std::string p = fmt::format("exp2({} * {} - {} * {})", s, literal(form_.scale * kLog2e), lse, literal(kLog2e));
    if (!seen.empty()) {
      const std::string alike =
          fmt::format("({} < {} ? {} : 0.0)", lse, literal(kMaskedScore / 2), literal(1.0 / double(t_.keys)));
      p = fmt::format("({} ? {} : {})", seen, p, form_.has_empty_rows() ? alike : "0.0");
    }
    if (!inside.empty()) p = fmt::format("({} ? {} : 0.0)", inside, p);
    w_.line(fmt::format("{} = {};", s, p));
    const std::string keep = fmt::format("kept{}_{}", r, j);
    if (form_.dropout > 0) w_.line(fmt::format("float {} = {}; {} *= {};", keep, kept(r, j), dp, keep));
    const std::string ds = fmt::format("{} * {} * ({} - {})", literal(form_.scale), s, dp, delta);
    w_.line(fmt::format("{} = {};", dp, form_.has_empty_rows() ? fmt::format("{} ? {} : 0.0", seen, ds) : ds));
    if (form_.dropout > 0 && t_.by_key) w_.line(fmt::format("{} *= {};", s, keep));
  }

  // ---- results ----

  Affine result_row(int64_t r) {
    const Affine head = w_.context.add(w_.context.scale(t_.z, t_.by_key ? t_.key_heads : t_.heads), t_.head);
    return w_.context.add(w_.context.scale(head, t_.own_extent), t_.own[size_t(r)]);
  }

  void open_row(int64_t r) {
    const std::string own = t_.stores(r);
    w_.open(own.empty() ? "" : fmt::format("if ({})", own), true);
  }

  void store(int result, const std::string& sums, int64_t columns, int64_t width) {
    uint32_t member = 0;
    const auto places = t_.outputs(result, member);
    if (places.empty()) return;
    for (int64_t r = 0; r < t_.own_rows; ++r) {
      open_row(r);
      const Affine row = w_.context.scale(result_row(r), width);
      if (columns == width && columns % 2 == 0 &&
          std::all_of(places.begin(), places.end(), [&](size_t place) { return w_.pairs(place); })) {
        for (const size_t place : places)
          for (int64_t d = 0; d < columns; d += 2)
            w_.store_pair(w_.context.add(row, Affine(d)), place, fmt::format("{}{}_{}", sums, r, d),
                          fmt::format("{}{}_{}", sums, r, d + 1));
        w_.close();
        continue;
      }
      for (int64_t d = 0; d < columns; ++d) {
        const std::string place = fmt::format("chunk * {}u + {}u", columns, d);
        w_.open(t_.chunks * columns == width ? "" : fmt::format("if ({} < {}u)", place, width), true);
        Affine column(d);
        if (t_.chunks > 1) {
          column = w_.context.variable(fmt::format("{}_column{}_{}", sums, r, d), width);
          w_.define(column, place);
        }
        w_.bind(member, fmt::format("{}{}_{}", sums, r, d));
        w_.store(w_.context.add(row, column), places);
        w_.close();
      }
      w_.close();
    }
  }

  // A value of each row; every chunk has it, the first stores it.
  void store_value(int result, const std::string& name) {
    uint32_t member = 0;
    const auto places = t_.outputs(result, member);
    if (places.empty()) return;
    for (int64_t r = 0; r < t_.own_rows; ++r) {
      open_row(r);
      w_.open(t_.chunks > 1 ? "if (chunk == 0u)" : "", true);
      w_.bind(member, fmt::format("{}{}", name, r));
      w_.store(result_row(r), places);
      w_.close();
      w_.close();
    }
  }

  Writer& w_;
  const std::unique_ptr<AttentionTile> tile_;
  AttentionTile& t_;
  const AttentionForm& form_;
  const std::string first_;  // the position of the first query
};

}  // namespace

Shader attention_lane_broadcast(Writer& writer) {
  return AttentionWriter(writer, AttentionTile::by_subgroups(writer)).write();
}

Shader attention_shared_tile(Writer& writer) {
  return AttentionWriter(writer, AttentionTile::in_shared_memory(writer)).write();
}

}  // namespace surtsey::shaders
