// SPDX-License-Identifier: Apache-2.0
// linear on float32 panels, and on bfloat16 panels widened to float32; the end of all tiles.
#include "kernels/cpu/linear.h"

#include "kernels/cpu/linear_tile.h"
#include "kernels/cpu/score_block.h"

namespace fuseq::inline v0::cpu::FUSEQ_ISA_NAMESPACE {

namespace {

struct F32 {
  using X = float;
  using Weights = f32x16;
  using Sum = f32x16;
  using Number = float;
  using Unpacked = void;
  static constexpr int64_t kStepWords = kLinearPanel;
  static constexpr int kSteps = 1;
  static constexpr int kParts = 1;
  static constexpr int kOthers = 1;
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
  static constexpr int kSteps = 1;
  static constexpr int kParts = 2;
  static constexpr int kOthers = 2;
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
    case Activation::gelu: {
      const f32x16 part = half * x;
      return fma(part, erf(x * splat(0.70710678118654752f)), part);
    }
    case Activation::gelu_tanh: {
      const f32x16 cube = x * x * x;
      const f32x16 inner = splat(0.79788456080286536f) * (x + splat(0.044715f) * cube);
      const f32x16 part = half * x;
      return fma(part, tanh(inner), part);
    }
    // exp stops growing at 88.3, so the numerator must stop too.
    case Activation::silu: return max(splat(-100.0f), x) / (one + exp(zeros() - x));
    case Activation::tanh: return tanh(x);
  }
  return x;
}

/// The outputs of 16 columns of a panel, of any row of a tile.
class FinishedOutputs {
 public:
  /// Columns output ... output + n - 1.
  [[gnu::always_inline]] FinishedOutputs(const LinearJob& job, int64_t output, int64_t n)
      : job_(job),
        output_(output),
        n_(n),
        bias_(job.bias ? load_part(job.bias + output, n) : zeros()),
        scale_(job.w_scales ? load(job.w_scales + output) : zeros()),
        // vnni multiplied x + 128.
        excess_(job.format == LinearFormat::vnni ? load(job.w_sums + output) : i32x16{}) {}

  /// act(sums + bias) * gate + residual of a row.
  [[gnu::always_inline]] f32x16 of(int64_t row, const float* sums) const {
    f32x16 value;
    if (job_.w_scales) {
      const i32x16 sum = load(reinterpret_cast<const int32_t*>(sums));
      value = to_float(sum - excess_) * scale_ * splat(job_.x_scales[row]);
    } else {
      value = load(sums);
    }
    if (job_.bias) value = value + bias_;
    value = activate(job_.act, value);
    if (job_.gate.data) {
      value = value * load_part(job_.gate.data + row * job_.gate.stride + output_, n_);
    }
    if (job_.residual.data) {
      value = value + load_part(job_.residual.data + row * job_.residual.stride + output_, n_);
    }
    return value;
  }

 private:
  const LinearJob& job_;
  const int64_t output_;
  const int64_t n_;
  const f32x16 bias_;
  const f32x16 scale_;
  const i32x16 excess_;
};

static_assert(kScoreBlock == kLinearPanel);

/// The outputs of a panel, by rows of a tile; -inf where there is none.
struct PanelScores {
  alignas(64) float values[kLinearMaxTileRows][kLinearPanel];

  [[gnu::always_inline]] ScoreBlock of(int64_t m) const {
    return {load(values[m]), load(values[m] + 16)};
  }
};

/// Each step of all rows at once, so that none waits for that before.
void keep_sums(const LinearBest& best, int64_t first_row, int64_t rows, int64_t panel,
               int64_t num_panels, const PanelScores& scores) {
  float most[kLinearMaxTileRows];
  alignas(64) float sums[kLinearMaxTileRows][16];
  for (int64_t m = 0; m < rows; ++m) most[m] = scores.of(m).most();
  for (int64_t m = 0; m < rows; ++m) store(sums[m], scores.of(m).exponentials(most[m]));
  for (int64_t m = 0; m < rows; ++m) {
    const int64_t at = (first_row + m) * num_panels + panel;
    best.maxima[at] = most[m];
    best.sums[at] = reduce_add(load(sums[m]));
  }
}

/// Adds the tile to the lists and sums of its rows.
void keep_best(const LinearJob& job, int64_t first_row, int64_t rows, int64_t panel,
               const float* sums) {
  const LinearBest& best = *job.best;
  const int64_t output = panel * kLinearPanel;
  const int64_t outputs = job.outputs_of(panel);
  PanelScores scores;
  each_vector(outputs, [&](int64_t i, int64_t n) {
    const FinishedOutputs finished(job, output + i, n);
    for (int64_t m = 0; m < rows; ++m) {
      const f32x16 value = finished.of(first_row + m, sums + m * kLinearPanel + i);
      store(scores.values[m] + i, n == 16 ? value : select(first(n), value, minus_infinity()));
    }
  });
  if (outputs <= 16) {
    for (int64_t m = 0; m < rows; ++m) store(scores.values[m] + 16, minus_infinity());
  }
  if (best.maxima) keep_sums(best, first_row, rows, panel, job.num_panels(), scores);
  for (int64_t m = 0; m < rows; ++m) {
    const int64_t row = first_row + m;
    const ScoreBlock block = scores.of(m);
    // Equal ones belong into the list where their id is lower; -inf and NaN never do.
    const f32x16 threshold = splat(best.values[(row + 1) * best.count - 1]);
    if (bits(block.larger() < threshold) == 0xffffu) continue;
    const auto candidates = [&](f32x16 v) {
      return ~bits(v < threshold) & bits(v > minus_infinity());
    };
    uint32_t lanes = candidates(block.low) | candidates(block.high) << 16;
    for (; lanes != 0; lanes &= lanes - 1) {
      const int lane = __builtin_ctz(lanes);
      best.rank(row, scores.values[m][lane], static_cast<int32_t>(output + lane));
    }
  }
}

}  // namespace

void finish_tile(const LinearJob& job, int64_t first_row, int64_t rows, int64_t panel,
                 const float* sums) {
  if (job.best != nullptr) return keep_best(job, first_row, rows, panel, sums);
  const int64_t output = panel * kLinearPanel;
  each_vector(job.outputs_of(panel), [&](int64_t i, int64_t n) {
    const FinishedOutputs finished(job, output + i, n);
    for (int64_t m = 0; m < rows; ++m) {
      const int64_t row = first_row + m;
      store_part(job.y.data + row * job.y.stride + output + i,
                 finished.of(row, sums + m * kLinearPanel + i), n);
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
