// SPDX-License-Identifier: Apache-2.0
// linear on float32 panels, and on bfloat16 panels widened to float32; the end of all tiles.
#include "kernels/cpu/linear.h"

#include "kernels/cpu/linear_tile.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

namespace {

struct F32 {
  using X = float;
  using Weights = f32x16;
  using Sum = f32x16;
  using Number = float;
  using Unpacked = void;
  static constexpr int64_t kStepWords = kLinearPanel;
  static constexpr int kParts = 1;
  static constexpr int kValues = 1;
  static constexpr bool kPlain = true;  // x is packed as it is

  template <int>
  [[gnu::always_inline]] static f32x16 weights(const uint32_t* p) {
    return load(reinterpret_cast<const float*>(p));
  }
  [[gnu::always_inline]] static f32x16 broadcast(const float* x, int /*rows*/) { return splat(*x); }
  [[gnu::always_inline]] static void multiply_add(f32x16& sum, f32x16 w, f32x16 x) {
    sum = fma(w, x, sum);
  }
};

struct Bf16 {
  using X = float;
  using Weights = f32x16;
  using Sum = f32x16;
  using Number = float;
  using Unpacked = void;
  static constexpr int64_t kStepWords = kLinearPanel;
  static constexpr int kParts = 2;
  static constexpr int kValues = 2;
  static constexpr bool kPlain = false;

  template <int kPart>
  [[gnu::always_inline]] static f32x16 weights(const uint32_t* p) {
    return kPart == 0 ? load_bf16_even(p) : load_bf16_odd(p);
  }
  [[gnu::always_inline]] static f32x16 broadcast(const float* x, int /*rows*/) { return splat(*x); }
  [[gnu::always_inline]] static void multiply_add(f32x16& sum, f32x16 w, f32x16 x) {
    sum = fma(w, x, sum);
  }
  static void pack_row(const LinearJob& job, int64_t row, int64_t step, int64_t steps, float* to) {
    const float* x = job.x.data + row * job.x.stride;
    const int64_t count = 2 * steps < job.I - 2 * step ? 2 * steps : job.I - 2 * step;
    to[2 * steps - 1] = 0;
    each_vector(count, [&](int64_t i, int64_t n) {
      store_part(to + i, round_bf16(load_part(x + 2 * step + i, n)), n);
    });
  }
};

[[gnu::always_inline]] inline f32x16 activate(Activation act, f32x16 x) {
  const f32x16 half = splat(0.5f);
  const f32x16 one = splat(1.0f);
  switch (act) {
    case Activation::none: return x;
    case Activation::relu: return max(zeros(), x);
    case Activation::gelu: return half * x * (one + erf(x * splat(0.70710678118654752f)));
    case Activation::gelu_tanh: {
      const f32x16 cube = x * x * x;
      const f32x16 inner = splat(0.79788456080286536f) * (x + splat(0.044715f) * cube);
      return half * x * (one + tanh(inner));
    }
    // exp stops growing at 88.3, so the numerator must stop too.
    case Activation::silu: return max(splat(-100.0f), x) / (one + exp(zeros() - x));
    case Activation::tanh: return tanh(x);
  }
  return x;
}

}  // namespace

void finish_tile(const LinearJob& job, int64_t first_row, int64_t rows, int64_t panel,
                 const float* sums) {
  const int64_t output = panel * kLinearPanel;
  const int64_t outputs = job.O - output < kLinearPanel ? job.O - output : kLinearPanel;
  each_vector(outputs, [&](int64_t i, int64_t n) {
    const f32x16 bias = job.bias ? load_part(job.bias + output + i, n) : zeros();
    const f32x16 scale = job.w_scales ? load(job.w_scales + output + i) : zeros();
    // vnni multiplied x + 128.
    const i32x16 excess =
        job.format == LinearFormat::vnni ? load(job.w_sums + output + i) : i32x16{};
    for (int64_t m = 0; m < rows; ++m) {
      const int64_t row = first_row + m;
      f32x16 value;
      if (job.w_scales) {
        const i32x16 sum = load(reinterpret_cast<const int32_t*>(sums) + m * kLinearPanel + i);
        value = to_float(sum - excess) * scale * splat(job.x_scales[row]);
      } else {
        value = load(sums + m * kLinearPanel + i);
      }
      if (job.bias) value = value + bias;
      value = activate(job.act, value);
      if (job.gate.data) {
        value = value * load_part(job.gate.data + row * job.gate.stride + output + i, n);
      }
      if (job.residual.data) {
        value = value + load_part(job.residual.data + row * job.residual.stride + output + i, n);
      }
      store_part(job.y.data + row * job.y.stride + output + i, value, n);
    }
  });
}

void linear_pack(const LinearJob& job, int64_t begin, int64_t end) {
  job.format == LinearFormat::f32 ? pack_units<F32>(job, begin, end)
                                  : pack_units<Bf16>(job, begin, end);
}

void linear_few(const LinearJob& job, int64_t begin, int64_t end) {
  job.format == LinearFormat::f32 ? multiply_few<F32>(job, begin, end)
                                  : multiply_few<Bf16>(job, begin, end);
}

void linear_many(const LinearJob& job, int64_t first_tile, int64_t end_tile, int64_t first_panel,
                 int64_t end_panel, float* block) {
  if (job.format == LinearFormat::f32) {
    multiply_many<F32>(job, first_tile, end_tile, first_panel, end_panel, block);
  } else {
    multiply_many<Bf16>(job, first_tile, end_tile, first_panel, end_panel, block);
  }
}

}  // namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE
