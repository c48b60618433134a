// SPDX-License-Identifier: Apache-2.0
// exp, log, tanh and erf on f32x16: one polynomial each, the same operations on every instruction
// set.
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

/// The same bits for x <= 88.3 and NaN, in fewer instructions.
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

/// tanh x with an absolute error below 2e-7.
[[gnu::always_inline]] inline f32x16 tanh(f32x16 x) {
  const f32x16 a = abs(x);
  // Large: 1 - 2 / (e^2a + 1). Small: a Taylor series, since that form cancels there.
  const f32x16 large = splat(1.0f) - splat(2.0f) / (exp(a + a) + splat(1.0f));
  const f32x16 s = a * a;
  f32x16 p = splat(-1382.0f / 155925);
  p = fma(p, s, splat(62.0f / 2835));
  p = fma(p, s, splat(-17.0f / 315));
  p = fma(p, s, splat(2.0f / 15));
  p = fma(p, s, splat(-1.0f / 3));
  const f32x16 small = fma(a * s, p, a);
  return copysign(select(a < splat(0.35f), small, large), x);
}

/// erf x with an absolute error below 3e-7. Both polynomials are Chebyshev fits: erf(x) / x in x^2
/// on [0, 1], and exp(x^2) erfc(x) in 1 / (1 + x / 2) on [1, 4.2], beyond which erf is 1 in
/// float32.
[[gnu::always_inline]] inline f32x16 erf(f32x16 x) {
  const f32x16 a = min(abs(x), splat(4.2f));
  const f32x16 s = a * a;
  f32x16 p = splat(-9.673597892e-06f);
  p = fma(p, s, splat(1.126826300e-04f));
  p = fma(p, s, splat(-8.484398883e-04f));
  p = fma(p, s, splat(5.221053665e-03f));
  p = fma(p, s, splat(-2.686543844e-02f));
  p = fma(p, s, splat(1.128378263e-01f));
  p = fma(p, s, splat(-3.761263848e-01f));
  p = fma(p, s, splat(1.128379167f));
  const f32x16 t = splat(1.0f) / fma(a, splat(0.5f), splat(1.0f));
  f32x16 q = splat(-5.796327917e-02f);
  q = fma(q, t, splat(-4.376684687e-02f));
  q = fma(q, t, splat(3.866566167e-01f));
  q = fma(q, t, splat(1.127496654e-01f));
  q = fma(q, t, splat(3.265711111e-01f));
  q = fma(q, t, splat(2.744556147e-01f));
  q = fma(q, t, splat(5.387363981e-04f));
  const f32x16 large = fma(zeros() - exp(zeros() - s), q, splat(1.0f));
  return copysign(select(a < splat(1.0f), a * p, large), x);
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
