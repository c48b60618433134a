// SPDX-License-Identifier: Apache-2.0
// exp and log on f32x16 by a polynomial each, tanh and erf by a rational: the same operations on
// every instruction set.
#pragma once

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

/// Below this exp gives 0.
inline constexpr float kLowestExponent = -87.3f;

/// e ** x for x in [kLowestExponent, 88.3], 0 where not `normal`.
[[gnu::always_inline]] inline f32x16 exp_within(f32x16 x, mask16 normal) {
  // x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts keeps r exact.
  const f32x16 n = round(x * splat(1.44269504088896341f));
  f32x16 r = fma(n, splat(-0.693359375f), x);
  r = fma(n, splat(2.12194440e-4f), r);
  // Taylor terms to r^7: the first one left out is below 4e-9 at |r| = 0.347.
  f32x16 p = splat(1.0f / 5040);
  p = fma(p, r, splat(1.0f / 720));
  p = fma(p, r, splat(1.0f / 120));
  p = fma(p, r, splat(1.0f / 24));
  p = fma(p, r, splat(1.0f / 6));
  p = fma(p, r, splat(0.5f));
  p = fma(p, r, splat(1.0f));
  p = fma(p, r, splat(1.0f));
  return select(normal, p * exp2_int(n), zeros());
}

/// e ** x with a relative error below 2e-7. Below kLowestExponent the result is 0; above 88.3 it is
/// that of 88.3; NaN gives 0.
[[gnu::always_inline]] inline f32x16 exp(f32x16 x) {
  const f32x16 lowest = splat(kLowestExponent);
  return exp_within(min(max(x, lowest), splat(88.3f)), x > lowest);
}

/// The same bits for x <= 88.3 and NaN, in fewer instructions; above, anything, infinity and NaN
/// too.
[[gnu::always_inline]] inline f32x16 exp_of_small(f32x16 x) {
  const f32x16 lowest = splat(kLowestExponent);
  return exp_within(max(x, lowest), x > lowest);
}

/// log(1 + f) + exponent * ln 2 for f in [sqrt(1/2) - 1, sqrt(2) - 1], with a relative error below
/// 2e-7. The polynomial is a Chebyshev fit of (log(1 + f) - f + f^2 / 2) / f^3.
[[gnu::always_inline]] inline f32x16 log_near_one(f32x16 f, f32x16 exponent) {
  f32x16 p = splat(7.149753930e-02f);
  p = fma(p, f, splat(-1.157120075e-01f));
  p = fma(p, f, splat(1.166151106e-01f));
  p = fma(p, f, splat(-1.241105068e-01f));
  p = fma(p, f, splat(1.424993653e-01f));
  p = fma(p, f, splat(-1.666848024e-01f));
  p = fma(p, f, splat(2.000070748e-01f));
  p = fma(p, f, splat(-2.499998905e-01f));
  p = fma(p, f, splat(3.333333119e-01f));
  const f32x16 square = f * f;
  f32x16 rest = fma(square * f, p, square * splat(-0.5f));
  rest = fma(exponent, splat(-2.12194440e-4f), rest);
  return fma(exponent, splat(0.693359375f), f + rest);
}

/// x = (1 + f) 2^exponent with f in [sqrt(1/2) - 1, sqrt(2) - 1], for positive normal x.
[[gnu::always_inline]] inline void split_near_one(f32x16 x, f32x16& f, f32x16& exponent) {
  const u32x16 word = as_u32(x);
  const f32x16 e = to_float(shift_right<23>(word)) - splat(127.0f);
  const f32x16 m = as_f32((word & splat_u32(0x7fffffu)) | splat_u32(0x3f800000u));  // [1, 2)
  const mask16 large = m > splat(1.41421356f);
  f = select(large, m * splat(0.5f), m) - splat(1.0f);
  exponent = select(large, e + splat(1.0f), e);
}

/// log x for positive normal x, with a relative error below 2e-7 away from 1 and an absolute one
/// below 1e-7 around it.
[[gnu::always_inline]] inline f32x16 log(f32x16 x) {
  f32x16 f;
  f32x16 exponent;
  split_near_one(x, f, exponent);
  return log_near_one(f, exponent);
}

/// -log(1 - x) for x in [0, 1), with a relative error below 3e-7: small x lose nothing.
[[gnu::always_inline]] inline f32x16 minus_log_of_rest(f32x16 x) {
  f32x16 f;
  f32x16 exponent;
  split_near_one(splat(1.0f) - x, f, exponent);
  const mask16 small = x < splat(0.25f);
  f = select(small, zeros() - x, f);
  exponent = select(small, zeros(), exponent);
  return zeros() - log_near_one(f, exponent);
}

/// x p(x^2) / q(x^2) in [-1, 1], coefficients from the lowest on, for |x| <= limit; beyond it is
/// what it is there. NaN gives NaN.
template <int P, int Q>
[[gnu::always_inline]] inline f32x16 odd_rational(f32x16 x, float limit, const float (&p)[P],
                                                  const float (&q)[Q]) {
  x = min(splat(limit), max(splat(-limit), x));
  const f32x16 s = x * x;
  f32x16 above = splat(p[P - 1]);
#pragma GCC unroll 8
  for (int i = P - 2; i >= 0; --i) above = fma(above, s, splat(p[i]));
  f32x16 below = splat(q[Q - 1]);
#pragma GCC unroll 8
  for (int i = Q - 2; i >= 0; --i) below = fma(below, s, splat(q[i]));
  return min(splat(1.0f), max(splat(-1.0f), x * above / below));
}

/// tanh x with an error below 4e-7, absolute and relative. The rational is a fit of least largest
/// relative error, 2.1e-8, on [0, 9], where tanh is 1 in float32.
[[gnu::always_inline]] inline f32x16 tanh(f32x16 x) {
  constexpr float kAbove[] = {9.999999795e-01f, 1.338102445e-01f, 3.495586737e-03f,
                              2.060906066e-05f, 1.335463408e-08f};
  constexpr float kBelow[] = {1.0f, 4.671434005e-01f, 2.587697685e-02f, 3.285632594e-04f,
                              7.776546523e-07f};
  return odd_rational(x, 9.0f, kAbove, kBelow);
}

/// erf x with an error below 4e-7, absolute and relative. The rational is a fit of least largest
/// relative error, 2.5e-8, on [0, 4]; from 3.98 on erf is 1 in float32.
[[gnu::always_inline]] inline f32x16 erf(f32x16 x) {
  constexpr float kAbove[] = {1.128379139e+00f, 1.935444653e-01f, 5.310167305e-02f,
                              3.883321408e-03f, 2.845659014e-04f, 1.986792722e-06f};
  constexpr float kBelow[] = {1.0f,
                              5.048568721e-01f,
                              1.153497593e-01f,
                              1.520720375e-02f,
                              1.185566722e-03f,
                              3.742028448e-05f};
  return odd_rational(x, 3.98f, kAbove, kBelow);
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
