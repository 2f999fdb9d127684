// JSON as bytes that come one by one: which of them may come next so that the whole becomes a value of a schema. A
// pushdown automaton; where a schema has alternatives it goes on with all that still fit.
//
//   JsonGrammar grammar(compile_schema(schema, "schema"));
//   JsonGrammar::State state = grammar.start();
//   for (char byte : text) if (!grammar.advance(state, byte)) ..;  // no value begins like this
//   grammar.finished(state);                                      // it is one
//
// Every state that advance() leaves has a way to the end. Values are UTF-8; numbers have at most 15 digits before and
// behind the point and exponents of two, keys that a schema names are written as it writes them and come once each, and
// between two parts stand at most kMostBlanks blanks, so that a model cannot go on with these for ever.
#pragma once

#include "experiments/serve/json_schema.h"

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

namespace surtsey::experiments::serve {

class JsonGrammar {
 public:
  static constexpr uint32_t kMostBlanks = 32;
  static constexpr uint32_t kMostDepth = 32;  // of brackets in parts that a schema leaves free
  static constexpr size_t kMostThreads = 64;  // alternatives that fit at once

  explicit JsonGrammar(std::shared_ptr<const JsonSchema> schema);

  enum class Phase : uint8_t {
    value,         // blanks, then a value of `node`
    object_first,  // behind {
    key,           // in a key that the schema names: texts[low .. high) begin with the `count` bytes that were read
    free_key,      // in any other key
    colon,         // behind a key; the value is of node `low`
    object_after,  // behind a value of an object
    object_next,   // behind its comma
    array_first,
    array_after,  // `count` values were read
    text,         // in a string, `count` characters were read
    literal,      // as key
    number,
    done,
  };

  // What is read at one level. `detail` is the place in a character, an escape or a number.
  struct Frame {
    int32_t node = -1;
    Phase phase = Phase::done;
    uint8_t detail = 0;
    uint16_t blanks = 0;
    uint32_t count = 0;
    int32_t low = 0, high = 0;
    uint64_t used = 0;  // keys of an object
    bool operator==(const Frame&) const = default;
  };
  // A way of reading what came: the innermost level, and the levels around it by their place in a table of all that
  // occurred.
  struct Thread {
    int32_t around = -1;
    Frame frame;
    bool operator==(const Thread&) const = default;
  };
  using State = std::vector<Thread>;

  State start() const;
  // False, with `state` empty, where no value goes on like this. ApiError (400): more than kMostThreads alternatives of
  // the schema still fit; there may be any number where they stand inside each other.
  bool advance(State& state, unsigned char byte);
  // The same into another state, whose memory is used again.
  bool advance(const State& state, unsigned char byte, State& next);
  // A whole value was read; it may still go on where it is a number.
  bool finished(const State& state) const;
  // A whole value was read and nothing can follow.
  bool closed(const State& state) const;

 private:
  struct Level {
    int32_t around;
    Frame frame;
    uint32_t depth;
    bool operator==(const Level& other) const { return around == other.around && frame == other.frame; }
  };
  struct LevelHash {
    size_t operator()(const Level& level) const;
  };

  void step(const Thread& thread, unsigned char byte, State& next);
  void begin_value(const Thread& thread, unsigned char byte, State& next);
  void begin_node(const Thread& thread, int32_t node, unsigned char byte, State& next);
  void step_object(const Thread& thread, unsigned char byte, State& next);
  void step_array(const Thread& thread, unsigned char byte, State& next);
  void step_key(Thread thread, unsigned char byte, State& next);
  void step_free_key(Thread thread, unsigned char byte, State& next);
  void step_text(Thread thread, unsigned char byte, State& next);
  void step_literal(Thread thread, unsigned char byte, State& next);
  void step_number(const Thread& thread, unsigned char byte, State& next);
  void step_blank(Thread thread, State& next) const;
  // The value of this thread is whole: what is around it goes on.
  Thread completed(const Thread& thread) const;
  // A thread that reads a value of `node` inside `outer`.
  Thread inside(const Thread& outer, int32_t node);
  uint32_t depth(const Thread& thread) const;
  const JsonSchema::Node& node(int32_t index) const { return schema_->nodes[size_t(index)]; }
  static void put(State& next, const Thread& thread);

  std::shared_ptr<const JsonSchema> schema_;
  std::vector<Level> levels_;
  std::unordered_map<Level, int32_t, LevelHash> known_;
};

}  // namespace surtsey::experiments::serve
