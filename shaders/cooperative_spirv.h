// Cooperative matrices in SPIR-V. GLSL compilers as old as Debian 12's know those of
// SPV_NV_cooperative_matrix alone, drivers those of SPV_KHR_cooperative_matrix, which no older
// compiler writes. The two say the same in other words, so a module is compiled with the first and
// rewritten into the second, by any compiler alike.
//
// What the first lacks is a matrix's use: operand A, operand B or accumulator. Kernels declare the
// number of rows of a type as one of three specialization constants, whose SpecId is that use.
#pragma once

#include <cstdint>
#include <vector>

namespace surtsey::shaders {

// SpecId of the rows of a cooperative matrix type, and the value of `Use` in KHR's type.
enum class MatrixUse : uint32_t { a = 0, b = 1, accumulator = 2 };

// A module without such matrices is returned as it is. InternalError when one has a type whose rows
// are no specialization constant of the three.
std::vector<uint32_t> with_khr_cooperative_matrices(std::vector<uint32_t> module);

}  // namespace surtsey::shaders
