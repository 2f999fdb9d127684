// Copies 64-bit words, put together of two halves each.
#version 460
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require

layout(local_size_x = 64) in;
layout(buffer_reference, std430) buffer Halves { uint half_word[]; };
layout(buffer_reference, std430) buffer Words { uint64_t word[]; };
layout(push_constant) uniform Arguments { uint64_t from, to; };

void main() {
  const uint i = gl_GlobalInvocationID.x;
  Halves halves = Halves(from);
  Words(to).word[i] = packUint2x32(uvec2(halves.half_word[2 * i], halves.half_word[2 * i + 1]));
}
