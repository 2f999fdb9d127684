#include "graph/ops/rows.h"
#include "graph/random.h"

#include <cmath>
#include <numbers>

namespace surtsey::graph {

namespace {

using Values = std::vector<Value>;
using Inputs = std::span<const Value>;

// ---- types: which element types an op takes ----
enum Accepts : unsigned { kF32 = 1, kI32 = 2, kU32 = 4, kBoolean = 8, kSignedNumbers = 3, kNumbers = 7, kAll = 15 };

void check_accepts(const Type& type, unsigned accepts) {
  check(type.dtype != DType::f16 && type.dtype != DType::bf16, "{} is a storage type: cast to f32 first",
        name(type.dtype));
  check(accepts & (1u << static_cast<unsigned>(type.dtype)), "takes no {}", to_string(type));
}

template <unsigned accepts>
std::vector<Type> infer_same(std::span<const Type> inputs, const Attr&) {
  check_accepts(inputs[0], accepts);
  for (const Type& input : inputs) {
    check(input == inputs[0], "operands differ: {} and {}", to_string(inputs[0]), to_string(input));
  }
  return {inputs[0]};
}

template <unsigned accepts>
std::vector<Type> infer_boolean(std::span<const Type> inputs, const Attr& attr) {
  return {boolean_type(infer_same<accepts>(inputs, attr)[0].shape)};
}

std::vector<Type> infer_select(std::span<const Type> inputs, const Attr&) {
  check_accepts(inputs[1], kAll);
  check(inputs[0].dtype == DType::boolean, "[select] the condition is {}, not bool", to_string(inputs[0]));
  check(inputs[1] == inputs[2] && inputs[0].shape == inputs[1].shape, "[select] operands differ: {}, {} and {}",
        to_string(inputs[0]), to_string(inputs[1]), to_string(inputs[2]));
  return {inputs[1]};
}

std::vector<Type> infer_cast(std::span<const Type> inputs, const Attr& attr) {
  const Type& to = attribute<TypeAttr>(attr).type;
  check(to.shape == inputs[0].shape, "[cast] {} to {} changes the shape", to_string(inputs[0]), to_string(to));
  return {to};
}

// ---- integers: two's complement in 32 bits ----
uint32_t to_word(double value) { return static_cast<uint32_t>(static_cast<int64_t>(value)); }

double from_word(uint32_t word, DType dtype) {
  return dtype == DType::i32 ? static_cast<double>(static_cast<int32_t>(word)) : static_cast<double>(word);
}

template <typename Function>
double arithmetic(const double* x, DType dtype, Function function) {
  if (dtype == DType::f32) return function(x[0], x[1]);
  return from_word(function(to_word(x[0]), to_word(x[1])), dtype);
}

double divide(const double* x, DType dtype) {
  if (dtype == DType::f32) return x[0] / x[1];
  if (x[1] == 0) return 0;
  return from_word(static_cast<uint32_t>(static_cast<int64_t>(x[0]) / static_cast<int64_t>(x[1])), dtype);
}

double modulo(const double* x, DType dtype) {
  if (x[1] == 0) return 0;
  return from_word(static_cast<uint32_t>(static_cast<int64_t>(x[0]) % static_cast<int64_t>(x[1])), dtype);
}

HostTensor interpret_cast(std::span<const HostTensor* const> inputs, const Attr&, const Type& type) {
  HostTensor result(type, inputs[0]->values);
  if (type.dtype == DType::f16 || type.dtype == DType::bf16) {
    result.round_to_storage();
  } else if (type.dtype == DType::boolean) {
    for (double& value : result.values) value = value != 0 ? 1 : 0;
  } else if (is_integer(type.dtype)) {
    for (double& value : result.values) {
      // Out of range there is no promise, but no undefined behaviour either.
      const bool fits = std::fabs(value) < 0x1p62;
      value = fits ? from_word(to_word(std::trunc(value)), type.dtype) : 0;
    }
  }
  return result;
}

// ---- samples ----
using Range = std::pair<double, double>;
constexpr Range kWords{0, 4294967296.0};
constexpr Range kSigned{-2147483648.0, 2147483648.0};

const std::vector<Shape> kShapes = {{7}, {3, 5}, {2, 33, 17}, {}, {1, 5, 1}};
const std::vector<Shape> kFewShapes = {{9}, {3, 1, 5}};

std::vector<Sample> samples(DType dtype, std::vector<Range> ranges, const std::vector<Shape>& shapes = kShapes) {
  std::vector<Sample> result;
  for (const Shape& shape : shapes) {
    Sample sample;
    sample.inputs.assign(ranges.size(), Type{dtype, shape});
    sample.ranges = ranges;
    result.push_back(std::move(sample));
  }
  return result;
}

std::vector<Sample> operator+(std::vector<Sample> a, const std::vector<Sample>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// f32 on all shapes, integers on a few.
std::vector<Sample> number_samples(size_t arity, Range f32 = {-2, 2}, Range i32 = {-1000, 1000},
                                   Range u32 = {0, 1000}) {
  return samples(DType::f32, std::vector<Range>(arity, f32)) +
         samples(DType::i32, std::vector<Range>(arity, i32), kFewShapes) +
         samples(DType::u32, std::vector<Range>(arity, u32), kFewShapes);
}

std::vector<Sample> select_samples() {
  std::vector<Sample> result;
  for (const DType dtype : {DType::f32, DType::i32, DType::u32, DType::boolean}) {
    for (const Shape& shape : dtype == DType::f32 ? kShapes : kFewShapes) {
      const Type type{dtype, shape};
      const Range range = dtype == DType::u32 ? Range{0, 100} : Range{-100, 100};
      result.push_back({{boolean_type(shape), type, type}, NoAttr{}, -2, 2, {{0, 1}, range, range}});
    }
  }
  return result;
}

Sample cast_sample(DType from, DType to, Shape shape, Range range) {
  return {{Type{from, shape}}, TypeAttr{Type{to, shape}}, range.first, range.second};
}

std::vector<Sample> cast_samples() {
  using enum DType;
  return {
      cast_sample(f32, i32, {7}, {-1000, 1000}),    cast_sample(f32, u32, {3, 5}, {0, 1000}),
      cast_sample(f32, i32, {2, 33, 17}, {-3, 3}),  cast_sample(i32, f32, {3, 5}, {-16000000, 16000000}),
      cast_sample(u32, f32, {}, {0, 16000000}),     cast_sample(u32, f32, {1, 7}, {0, 16000000}),
      cast_sample(i32, u32, {9}, kSigned),          cast_sample(u32, i32, {9}, kWords),
      cast_sample(boolean, f32, {3, 5}, {0, 1}),    cast_sample(boolean, u32, {7}, {0, 1}),
      cast_sample(boolean, i32, {1, 5, 1}, {0, 1}), cast_sample(i32, boolean, {17}, {-2, 2}),
      cast_sample(f32, boolean, {7}, {-2, 2}),
  };
}

}  // namespace

std::vector<OpDef> elementwise_rows() {
  const auto unary = [](Range range) { return samples(DType::f32, {range}); };
  // Tolerances: exactly rounded operations are compared bit by bit (after rounding the reference);
  // the others take the bound of the Vulkan specification's precision appendix.
  std::vector<OpDef> rows = {
      {.op = Op::neg,
       .name = "neg",
       .arity = 1,
       .doc = "-x",
       .glsl = "(-$0)",
       .scalar = [](const double* x, DType d) { return d == DType::i32 ? from_word(-to_word(x[0]), d) : -x[0]; },
       .infer = infer_same<kSignedNumbers>,
       .gradient = [](Inputs, const Attr&, Value, Value g) -> Values { return {-g}; },
       .samples = unary({-2, 2}) + samples(DType::i32, {{-1000, 1000}}, kFewShapes)},
      {.op = Op::abs,
       .name = "abs",
       .arity = 1,
       .doc = "|x|",
       .glsl = "abs($0)",
       .scalar = [](const double* x, DType) { return std::fabs(x[0]); },
       .infer = infer_same<kSignedNumbers>,
       .gradient = [](Inputs in, const Attr&, Value, Value g) -> Values {
         return {select(less(in[0], constant_like(in[0], 0)), -g, g)};
       },
       .samples = unary({-2, 2}) + samples(DType::i32, {{-1000, 1000}}, kFewShapes)},
      {.op = Op::exp,
       .name = "exp",
       .arity = 1,
       .doc = "e^x",
       .glsl = "exp($0)",
       .scalar = [](const double* x, DType) { return std::exp(x[0]); },
       .infer = infer_same<kF32>,
       .gradient = [](Inputs, const Attr&, Value out, Value g) -> Values { return {g * out}; },
       .absolute = 1e-7,
       .relative = 5e-6,
       .work = 8,
       .samples = unary({-2, 2}) + samples(DType::f32, {{-20, 10}}, kFewShapes)},
      {.op = Op::log,
       .name = "log",
       .arity = 1,
       .doc = "natural logarithm",
       .glsl = "log($0)",
       .scalar = [](const double* x, DType) { return std::log(x[0]); },
       .infer = infer_same<kF32>,
       .gradient = [](Inputs in, const Attr&, Value, Value g) -> Values { return {g / in[0]}; },
       .absolute = 1e-6,
       .relative = 1e-6,
       .work = 8,
       .samples = unary({0.1, 4}) + samples(DType::f32, {{1e-3, 1000}}, kFewShapes)},
      {.op = Op::sqrt,
       .name = "sqrt",
       .arity = 1,
       .doc = "square root",
       .glsl = "sqrt($0)",
       .scalar = [](const double* x, DType) { return std::sqrt(x[0]); },
       .infer = infer_same<kF32>,
       // d sqrt(x) = 1 / (2 sqrt(x))
       .gradient = [](Inputs, const Attr&, Value out, Value g) -> Values { return {g * 0.5 / out}; },
       .relative = 1e-6,
       .samples = unary({0.1, 4})},
      {.op = Op::rsqrt,
       .name = "rsqrt",
       .arity = 1,
       .doc = "1 / square root",
       .glsl = "inversesqrt($0)",
       .scalar = [](const double* x, DType) { return 1 / std::sqrt(x[0]); },
       .infer = infer_same<kF32>,
       // d x^(-1/2) = -1/2 x^(-3/2)
       .gradient = [](Inputs, const Attr&, Value out, Value g) -> Values { return {g * -0.5 * (out * out * out)}; },
       .relative = 1e-6,
       .samples = unary({0.1, 4})},
      {.op = Op::sin,
       .name = "sin",
       .arity = 1,
       .doc = "sine",
       .glsl = "sin($0)",
       .scalar = [](const double* x, DType) { return std::sin(x[0]); },
       .infer = infer_same<kF32>,
       .gradient = [](Inputs in, const Attr&, Value, Value g) -> Values { return {g * cos(in[0])}; },
       .absolute = 5e-4,
       .work = 8,
       .samples = unary({-3.1, 3.1})},
      {.op = Op::cos,
       .name = "cos",
       .arity = 1,
       .doc = "cosine",
       .glsl = "cos($0)",
       .scalar = [](const double* x, DType) { return std::cos(x[0]); },
       .infer = infer_same<kF32>,
       .gradient = [](Inputs in, const Attr&, Value, Value g) -> Values { return {-(g * sin(in[0]))}; },
       .absolute = 5e-4,
       .work = 8,
       .samples = unary({-3.1, 3.1})},
      {.op = Op::tanh,
       .name = "tanh",
       .arity = 1,
       .doc = "hyperbolic tangent",
       .glsl = "surtsey_tanh($0)",
       .calls_helpers = true,
       .scalar = [](const double* x, DType) { return std::tanh(x[0]); },
       .infer = infer_same<kF32>,
       // d tanh(x) = 1 - tanh(x)^2
       .gradient = [](Inputs, const Attr&, Value out, Value g) -> Values { return {g * (1.0 - out * out)}; },
       .absolute = 2e-6,
       .relative = 1e-5,
       .work = 8,
       .samples = unary({-2, 2}) + samples(DType::f32, {{-200, 200}}, kFewShapes)},
      {.op = Op::erf,
       .name = "erf",
       .arity = 1,
       .doc = "error function",
       .glsl = "surtsey_erf($0)",
       .calls_helpers = true,
       .scalar = [](const double* x, DType) { return std::erf(x[0]); },
       .infer = infer_same<kF32>,
       // d erf(x) = 2 / sqrt(pi) exp(-x^2)
       .gradient = [](Inputs in, const Attr&, Value, Value g) -> Values {
         return {g * (exp(-(in[0] * in[0])) * (2.0 * std::numbers::inv_sqrtpi))};
       },
       .absolute = 5e-7,
       .relative = 1e-6,
       .work = 8,
       .samples = unary({-2, 2}) + samples(DType::f32, {{-6, 6}}, kFewShapes)},
      {.op = Op::floor,
       .name = "floor",
       .arity = 1,
       .doc = "the largest whole number not above x",
       .glsl = "floor($0)",
       .scalar = [](const double* x, DType) { return std::floor(x[0]); },
       .infer = infer_same<kF32>,
       .samples = unary({-20, 20})},
      {.op = Op::is_finite,
       .name = "is_finite",
       .arity = 1,
       .doc = "neither NaN nor infinite, by the bits",
       .glsl = "surtsey_is_finite($0)",
       .calls_helpers = true,
       .scalar = [](const double* x, DType) { return std::isfinite(x[0]) ? 1.0 : 0.0; },
       .infer = infer_boolean<kF32>,  // the range overflows f32, so that some draws are infinite
       .samples = unary({-2, 2}) + samples(DType::f32, {{-7e38, 7e38}}, kShapes)},
      {.op = Op::logical_not,
       .name = "logical_not",
       .arity = 1,
       .doc = "not x",
       .glsl = "(!$0)",
       .scalar = [](const double* x, DType) { return x[0] != 0 ? 0.0 : 1.0; },
       .infer = infer_same<kBoolean>,
       .samples = samples(DType::boolean, {{0, 1}})},
      {.op = Op::cast,
       .name = "cast",
       .arity = 1,
       .doc = "another element type; float to integer truncates towards zero",
       .glsl = "$t($0)",
       .infer = infer_cast,
       .gradient = [](Inputs in, const Attr&, Value, Value g) -> Values {
         if (!is_float(in[0].dtype())) return {Value{}};
         return {cast(g, in[0].dtype())};
       },
       .interpret = interpret_cast,
       .samples = cast_samples()},

      {.op = Op::add,
       .name = "add",
       .arity = 2,
       .doc = "a + b",
       .glsl = "($0 + $1)",
       .scalar = [](const double* x, DType d) { return arithmetic(x, d, [](auto a, auto b) { return a + b; }); },
       .infer = infer_same<kNumbers>,
       .gradient = [](Inputs, const Attr&, Value, Value g) -> Values { return {g, g}; },
       .samples = number_samples(2, {-2, 2}, kSigned, kWords)},
      {.op = Op::sub,
       .name = "sub",
       .arity = 2,
       .doc = "a - b",
       .glsl = "($0 - $1)",
       .scalar = [](const double* x, DType d) { return arithmetic(x, d, [](auto a, auto b) { return a - b; }); },
       .infer = infer_same<kNumbers>,
       .gradient = [](Inputs, const Attr&, Value, Value g) -> Values { return {g, -g}; },
       .samples = number_samples(2, {-2, 2}, kSigned, kWords)},
      {.op = Op::mul,
       .name = "mul",
       .arity = 2,
       .doc = "a b",
       .glsl = "($0 * $1)",
       .scalar = [](const double* x, DType d) { return arithmetic(x, d, [](auto a, auto b) { return a * b; }); },
       .infer = infer_same<kNumbers>,
       .gradient = [](Inputs in, const Attr&, Value, Value g) -> Values { return {g * in[1], g * in[0]}; },
       .samples = number_samples(2, {-2, 2}, kSigned, kWords)},
      {.op = Op::div,
       .name = "div",
       .arity = 2,
       .doc = "a / b; integers truncate towards zero",
       .glsl = "($0 / $1)",
       .scalar = divide,
       .infer = infer_same<kNumbers>,
       // d (a / b) = da / b - (a / b) db / b
       .gradient = [](Inputs in, const Attr&, Value out, Value g) -> Values {
         const Value scaled = g / in[1];
         return {scaled, -(scaled * out)};
       },
       .relative = 3e-7,
       .samples = samples(DType::f32, {{-2, 2}, {0.3, 2}}) + samples(DType::f32, {{-2, 2}, {-3, -0.5}}, kFewShapes) +
                  samples(DType::i32, {{-1000, 1000}, {1, 40}}, kFewShapes) +
                  samples(DType::u32, {kWords, {1, 40}}, kFewShapes)},
      {.op = Op::mod,
       .name = "mod",
       .arity = 2,
       .doc = "a mod b for integers; i32 operands must not be negative",
       .glsl = "($0 % $1)",
       .scalar = modulo,
       .infer = infer_same < kI32 | kU32 >,
       .samples = samples(DType::i32, {{0, 1000}, {1, 40}}) + samples(DType::u32, {kWords, {1, 40}})},
      {.op = Op::max,
       .name = "max",
       .arity = 2,
       .doc = "the larger",
       .glsl = "max($0, $1)",
       .scalar = [](const double* x, DType) { return x[0] < x[1] ? x[1] : x[0]; },
       .infer = infer_same<kNumbers>,
       // Of equal operands the first takes the gradient.
       .gradient = [](Inputs in, const Attr&, Value, Value g) -> Values {
         const Value second = less(in[0], in[1]);
         return {select(second, constant_like(g, 0), g), select(second, g, constant_like(g, 0))};
       },
       .samples = number_samples(2)},
      {.op = Op::min,
       .name = "min",
       .arity = 2,
       .doc = "the smaller",
       .glsl = "min($0, $1)",
       .scalar = [](const double* x, DType) { return x[1] < x[0] ? x[1] : x[0]; },
       .infer = infer_same<kNumbers>,
       .gradient = [](Inputs in, const Attr&, Value, Value g) -> Values {
         const Value second = less(in[1], in[0]);
         return {select(second, constant_like(g, 0), g), select(second, g, constant_like(g, 0))};
       },
       .samples = number_samples(2)},
      {.op = Op::equal,
       .name = "equal",
       .arity = 2,
       .doc = "a = b",
       .glsl = "($0 == $1)",
       .scalar = [](const double* x, DType) { return x[0] == x[1] ? 1.0 : 0.0; },
       .infer = infer_boolean<kAll>,
       .samples = number_samples(2, {-2, 2}, {-2, 3}, {0, 3}) + samples(DType::boolean, {{0, 1}, {0, 1}}, kFewShapes)},
      {.op = Op::less,
       .name = "less",
       .arity = 2,
       .doc = "a < b",
       .glsl = "($0 < $1)",
       .scalar = [](const double* x, DType) { return x[0] < x[1] ? 1.0 : 0.0; },
       .infer = infer_boolean<kNumbers>,
       .samples = number_samples(2, {-2, 2}, {-2, 3}, kWords)},
      {.op = Op::logical_and,
       .name = "logical_and",
       .arity = 2,
       .doc = "a and b",
       .glsl = "($0 && $1)",
       .scalar = [](const double* x, DType) { return x[0] != 0 && x[1] != 0 ? 1.0 : 0.0; },
       .infer = infer_same<kBoolean>,
       .samples = samples(DType::boolean, {{0, 1}, {0, 1}})},
      {.op = Op::logical_or,
       .name = "logical_or",
       .arity = 2,
       .doc = "a or b",
       .glsl = "($0 || $1)",
       .scalar = [](const double* x, DType) { return x[0] != 0 || x[1] != 0 ? 1.0 : 0.0; },
       .infer = infer_same<kBoolean>,
       .samples = samples(DType::boolean, {{0, 1}, {0, 1}})},

      {.op = Op::select,
       .name = "select",
       .arity = 3,
       .doc = "b where the condition a holds, else c",
       .glsl = "($0 ? $1 : $2)",
       .scalar = [](const double* x, DType) { return x[0] != 0 ? x[1] : x[2]; },
       .infer = infer_select,
       .gradient = [](Inputs in, const Attr&, Value, Value g) -> Values {
         return {Value{}, select(in[0], g, constant_like(g, 0)), select(in[0], constant_like(g, 0), g)};
       },
       .samples = select_samples()},
      {.op = Op::random_bits,
       .name = "random_bits",
       .arity = 3,
       .doc = "Philox-2x32-10: u32 bits of key a (seed) at counter (c, b) (index, step)",
       .glsl = "surtsey_philox($0, $1, $2)",
       .calls_helpers = true,
       .scalar = [](const double* x,
                    DType) { return double(random_bits(to_word(x[0]), to_word(x[1]), to_word(x[2]))); },
       .infer = infer_same<kU32>,
       .work = 8,
       .samples = samples(DType::u32, {kWords, kWords, kWords})},
  };
  for (OpDef& row : rows) row.family = Family::elementwise;
  return rows;
}

}  // namespace surtsey::graph
