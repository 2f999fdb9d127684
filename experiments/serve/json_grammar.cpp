#include "experiments/serve/json_grammar.h"

#include "experiments/serve/errors.h"

#include <algorithm>
#include <string_view>

namespace surtsey::experiments::serve {
namespace {

using Kind = JsonSchema::Kind;

bool is_blank(unsigned char byte) { return byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r'; }
bool is_digit(unsigned char byte) { return byte >= '0' && byte <= '9'; }
bool is_hex(unsigned char byte) {
  return is_digit(byte) || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
}

// Places in a string (Frame::detail).
enum Text : uint8_t {
  kPlain,
  kOneMore,  // bytes of a character that are missing
  kTwoMore,
  kThreeMore,
  kAfterE0,  // then 80-BF twice; the first of them is limited, as no character is written longer than it must be
  kAfterED,  // .. and none of them is half of a pair of UTF-16
  kAfterF0,
  kAfterF4,
  kEscape,
  kHex1,  // four digits
  kHex2,
  kHex2AfterD,  // \uD8 to \uDF are halves of pairs
  kHex3,
  kHex4,
};

constexpr int kRefused = -1, kQuote = -2;

// The place after `byte`; `begins` is set where a character begins with it.
int next_text(uint8_t place, unsigned char byte, bool& begins) {
  begins = false;
  const bool more = byte >= 0x80 && byte <= 0xBF;
  switch (place) {
    case kPlain:
      if (byte == '"') return kQuote;
      if (byte < 0x20) return kRefused;
      begins = true;
      if (byte == '\\') return kEscape;
      if (byte < 0x80) return kPlain;
      if (byte >= 0xC2 && byte <= 0xDF) return kOneMore;
      if (byte == 0xE0) return kAfterE0;
      if (byte == 0xED) return kAfterED;
      if (byte >= 0xE1 && byte <= 0xEF) return kTwoMore;
      if (byte == 0xF0) return kAfterF0;
      if (byte >= 0xF1 && byte <= 0xF3) return kThreeMore;
      if (byte == 0xF4) return kAfterF4;
      return kRefused;
    case kOneMore:
      return more ? kPlain : kRefused;
    case kTwoMore:
      return more ? kOneMore : kRefused;
    case kThreeMore:
      return more ? kTwoMore : kRefused;
    case kAfterE0:
      return more && byte >= 0xA0 ? kOneMore : kRefused;
    case kAfterED:
      return more && byte <= 0x9F ? kOneMore : kRefused;
    case kAfterF0:
      return more && byte >= 0x90 ? kTwoMore : kRefused;
    case kAfterF4:
      return more && byte <= 0x8F ? kTwoMore : kRefused;
    case kEscape:
      if (byte == 'u') return kHex1;
      return std::string_view("\"\\/bfnrt").find(char(byte)) != std::string_view::npos ? int(kPlain) : kRefused;
    case kHex1:
      return !is_hex(byte) ? kRefused : byte == 'd' || byte == 'D' ? int(kHex2AfterD) : int(kHex2);
    case kHex2:
      return is_hex(byte) ? int(kHex3) : kRefused;
    case kHex2AfterD:
      return byte >= '0' && byte <= '7' ? int(kHex3) : kRefused;
    case kHex3:
      return is_hex(byte) ? int(kHex4) : kRefused;
    default:
      return is_hex(byte) ? int(kPlain) : kRefused;
  }
}

// Places in a number.
enum Number : uint8_t { kMinus, kZero, kDigits, kPoint, kFraction, kExponent, kExponentSign, kExponentDigits };
constexpr uint32_t kMostDigits = 15, kMostExponentDigits = 2;

bool number_is_whole(uint8_t place) {
  return place == kZero || place == kDigits || place == kFraction || place == kExponentDigits;
}

// Those of texts[low .. high) whose byte at `at` is `byte`.
void narrow(const std::vector<std::string>& texts, size_t at, unsigned char byte, int32_t& low, int32_t& high) {
  const auto value = [&](const std::string& text) { return at < text.size() ? int((unsigned char)text[at]) : -1; };
  const auto begin = texts.begin() + low, end = texts.begin() + high;
  const auto first = std::partition_point(begin, end, [&](const std::string& text) { return value(text) < byte; });
  const auto last = std::partition_point(first, end, [&](const std::string& text) { return value(text) <= byte; });
  low = int32_t(first - texts.begin());
  high = int32_t(last - texts.begin());
}

// Bits low .. high - 1.
uint64_t bits(int32_t low, int32_t high) {
  const auto below = [](int32_t n) { return n >= 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1; };
  return below(high) & ~below(low);
}

}  // namespace

size_t JsonGrammar::LevelHash::operator()(const Level& level) const {
  const Frame& frame = level.frame;
  uint64_t hash = 0xcbf29ce484222325;
  for (const uint64_t word :
       {uint64_t(uint32_t(level.around)) << 32 | uint32_t(frame.node),
        uint64_t(frame.phase) << 56 | uint64_t(frame.detail) << 48 | uint64_t(frame.blanks) << 32 | frame.count,
        uint64_t(uint32_t(frame.low)) << 32 | uint32_t(frame.high), frame.used}) {
    hash = (hash ^ word) * 0x9E3779B97F4A7C15;
    hash ^= hash >> 29;
  }
  return size_t(hash);
}

JsonGrammar::JsonGrammar(std::shared_ptr<const JsonSchema> schema) : schema_(std::move(schema)) {}

JsonGrammar::State JsonGrammar::start() const {
  return {{.around = -1, .frame = {.node = schema_->root, .phase = Phase::value}}};
}

bool JsonGrammar::advance(State& state, unsigned char byte) {
  State next;
  const bool good = advance(state, byte, next);
  state = std::move(next);
  return good;
}

bool JsonGrammar::advance(const State& state, unsigned char byte, State& next) {
  next.clear();
  for (const Thread& thread : state) step(thread, byte, next);
  return !next.empty();
}

bool JsonGrammar::finished(const State& state) const {
  return std::any_of(state.begin(), state.end(), [](const Thread& thread) {
    const bool number = thread.frame.phase == Phase::number && number_is_whole(thread.frame.detail);
    return thread.frame.phase == Phase::done || (number && thread.around < 0);
  });
}

bool JsonGrammar::closed(const State& state) const {
  return !state.empty() && std::all_of(state.begin(), state.end(),
                                       [](const Thread& thread) { return thread.frame.phase == Phase::done; });
}

void JsonGrammar::put(State& next, const Thread& thread) {
  if (std::find(next.begin(), next.end(), thread) != next.end()) return;
  if (next.size() >= kMostThreads)
    throw invalid_request("more than {} alternatives of the schema fit at one place of a value", kMostThreads);
  next.push_back(thread);
}

uint32_t JsonGrammar::depth(const Thread& thread) const {
  return thread.around < 0 ? 0 : levels_[size_t(thread.around)].depth;
}

JsonGrammar::Thread JsonGrammar::inside(const Thread& outer, int32_t node) {
  const Level level{outer.around, outer.frame, depth(outer) + 1};
  const auto [found, fresh] = known_.try_emplace(level, int32_t(levels_.size()));
  if (fresh) levels_.push_back(level);
  return {found->second, {.node = node, .phase = Phase::value}};
}

JsonGrammar::Thread JsonGrammar::completed(const Thread& thread) const {
  if (thread.around < 0) return {};
  const Level& level = levels_[size_t(thread.around)];
  return {level.around, level.frame};
}

void JsonGrammar::step_blank(Thread thread, State& next) const {
  if (++thread.frame.blanks <= kMostBlanks) put(next, thread);
}

void JsonGrammar::step(const Thread& thread, unsigned char byte, State& next) {
  switch (thread.frame.phase) {
    case Phase::value:
      return begin_value(thread, byte, next);
    case Phase::object_first:
    case Phase::object_after:
    case Phase::object_next:
      return step_object(thread, byte, next);
    case Phase::key:
      return step_key(thread, byte, next);
    case Phase::free_key:
      return step_free_key(thread, byte, next);
    case Phase::colon: {
      if (byte != ':') return;
      Thread outer = thread;
      outer.frame.phase = Phase::object_after;
      outer.frame.low = outer.frame.high = 0;
      return put(next, inside(outer, thread.frame.low));
    }
    case Phase::array_first:
    case Phase::array_after:
      return step_array(thread, byte, next);
    case Phase::text:
      return step_text(thread, byte, next);
    case Phase::literal:
      return step_literal(thread, byte, next);
    case Phase::number:
      return step_number(thread, byte, next);
    case Phase::done:
      return;
  }
}

void JsonGrammar::begin_value(const Thread& thread, unsigned char byte, State& next) {
  if (is_blank(byte)) return step_blank(thread, next);
  const JsonSchema::Node& wanted = node(thread.frame.node);
  if (wanted.kind != Kind::choice) return begin_node(thread, thread.frame.node, byte, next);
  for (const int32_t each : wanted.any) begin_node(thread, each, byte, next);
}

void JsonGrammar::begin_node(const Thread& thread, int32_t index, unsigned char byte, State& next) {
  const JsonSchema::Node& wanted = node(index);
  const bool deep = wanted.free && depth(thread) >= kMostDepth;
  Thread begun{thread.around, {.node = index}};
  switch (wanted.kind) {
    case Kind::object:
      if (byte != '{' || deep) return;
      begun.frame.phase = Phase::object_first;
      return put(next, begun);
    case Kind::array:
      if (byte != '[' || deep) return;
      begun.frame.phase = Phase::array_first;
      return put(next, begun);
    case Kind::string:
      if (byte != '"') return;
      begun.frame.phase = Phase::text;
      return put(next, begun);
    case Kind::literals:
      begun.frame.phase = Phase::literal;
      begun.frame.high = int32_t(wanted.texts.size());
      return step_literal(begun, byte, next);
    case Kind::number:
    case Kind::integer:
      if (byte != '-' && !is_digit(byte)) return;
      begun.frame.phase = Phase::number;
      begun.frame.detail = byte == '-' ? kMinus : byte == '0' ? kZero : kDigits;
      begun.frame.count = byte == '-' || byte == '0' ? 0 : 1;
      return put(next, begun);
    case Kind::choice:
      return;  // compile_schema() leaves none inside another
  }
}

void JsonGrammar::step_object(const Thread& thread, unsigned char byte, State& next) {
  if (is_blank(byte)) return step_blank(thread, next);
  const JsonSchema::Node& object = node(thread.frame.node);
  const auto all = int32_t(object.texts.size());
  const bool more = object.additional >= 0 || (bits(0, all) & ~thread.frame.used) != 0;
  const bool whole = (object.required & ~thread.frame.used) == 0;
  Thread now = thread;
  now.frame.blanks = 0;
  if (byte == '}' && whole && thread.frame.phase != Phase::object_next) return put(next, completed(thread));
  if (byte == ',' && more && thread.frame.phase == Phase::object_after) {
    now.frame.phase = Phase::object_next;
    return put(next, now);
  }
  if (byte != '"' || !more || thread.frame.phase == Phase::object_after) return;
  now.frame.phase = object.additional >= 0 ? Phase::free_key : Phase::key;
  now.frame.high = all;
  put(next, now);
}

void JsonGrammar::step_key(Thread thread, unsigned char byte, State& next) {
  const JsonSchema::Node& object = node(thread.frame.node);
  Frame& frame = thread.frame;
  narrow(object.texts, frame.count, byte, frame.low, frame.high);
  const uint64_t left = bits(frame.low, frame.high) & ~frame.used;
  if (left == 0) return;
  ++frame.count;
  // The quote at its end makes a key differ from the beginning of every other.
  const size_t index = size_t(frame.low);
  if (object.texts[index].size() == frame.count) {
    frame.phase = Phase::colon;
    frame.used |= uint64_t{1} << index;
    frame.low = object.values[index];
    frame.high = 0;
    frame.count = 0;
  }
  put(next, thread);
}

void JsonGrammar::step_free_key(Thread thread, unsigned char byte, State& next) {
  bool begins = false;
  const int place = next_text(thread.frame.detail, byte, begins);
  if (place == kRefused) return;
  thread.frame.detail = place == kQuote ? uint8_t(kPlain) : uint8_t(place);
  if (place == kQuote) {
    thread.frame.phase = Phase::colon;
    thread.frame.low = node(thread.frame.node).additional;
    thread.frame.high = 0;
  }
  put(next, thread);
}

void JsonGrammar::step_array(const Thread& thread, unsigned char byte, State& next) {
  const JsonSchema::Node& array = node(thread.frame.node);
  const bool first = thread.frame.phase == Phase::array_first;
  const int64_t count = thread.frame.count;
  Thread outer = thread;
  outer.frame.phase = Phase::array_after;
  outer.frame.blanks = 0;
  // What is not limited is not counted any further, so that states stay few.
  if (array.most >= 0 || count < array.least) ++outer.frame.count;
  if (is_blank(byte)) return step_blank(thread, next);
  if (byte == ']' && count >= array.least) return put(next, completed(thread));
  const bool room = array.most < 0 || count < array.most;
  if (!room) return;
  if (first) return begin_value(inside(outer, array.items), byte, next);
  if (byte == ',') put(next, inside(outer, array.items));
}

void JsonGrammar::step_text(Thread thread, unsigned char byte, State& next) {
  const JsonSchema::Node& text = node(thread.frame.node);
  bool begins = false;
  const int place = next_text(thread.frame.detail, byte, begins);
  if (place == kRefused) return;
  const int64_t count = thread.frame.count;
  if (place == kQuote) {
    if (count >= text.least) put(next, completed(thread));
    return;
  }
  if (begins) {
    if (text.most >= 0 && count >= text.most) return;
    if (text.most >= 0 || count < text.least) ++thread.frame.count;
  }
  thread.frame.detail = uint8_t(place);
  put(next, thread);
}

void JsonGrammar::step_literal(Thread thread, unsigned char byte, State& next) {
  const JsonSchema::Node& literals = node(thread.frame.node);
  Frame& frame = thread.frame;
  narrow(literals.texts, frame.count, byte, frame.low, frame.high);
  if (frame.low >= frame.high) return;
  ++frame.count;
  // Of 1 and 12 the first is whole here, and the second may follow.
  if (literals.texts[size_t(frame.low)].size() == frame.count) {
    put(next, completed(thread));
    if (++frame.low == frame.high) return;
  }
  put(next, thread);
}

void JsonGrammar::step_number(const Thread& thread, unsigned char byte, State& next) {
  const bool whole_only = node(thread.frame.node).kind == Kind::integer;
  Thread now = thread;
  uint8_t& place = now.frame.detail;
  uint32_t& count = now.frame.count;
  const auto go = [&](uint8_t to, uint32_t digits) {
    place = to;
    count = digits;
    put(next, now);
  };
  const bool digit = is_digit(byte), exponent = (byte == 'e' || byte == 'E') && !whole_only;
  const bool point = byte == '.' && !whole_only;
  switch (thread.frame.detail) {
    case kMinus:
      if (digit) go(byte == '0' ? kZero : kDigits, 1);
      return;
    case kZero:
    case kDigits:
      if (digit && place == kDigits && count < kMostDigits) return go(kDigits, count + 1);
      if (point) return go(kPoint, 0);
      if (exponent) return go(kExponent, 0);
      break;
    case kPoint:
      if (digit) go(kFraction, 1);
      return;
    case kFraction:
      if (digit && count < kMostDigits) return go(kFraction, count + 1);
      if (exponent) return go(kExponent, 0);
      break;
    case kExponent:
      if (byte == '+' || byte == '-') return go(kExponentSign, 0);
      if (digit) go(kExponentDigits, 1);
      return;
    case kExponentSign:
      if (digit) go(kExponentDigits, 1);
      return;
    default:
      if (digit && count < kMostExponentDigits) return go(kExponentDigits, count + 1);
      break;
  }
  // The number ended with the byte before: this one belongs to what is around it.
  if (thread.around >= 0) step(completed(thread), byte, next);
}

}  // namespace surtsey::experiments::serve
