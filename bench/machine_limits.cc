// SPDX-License-Identifier: Apache-2.0
// Reads a buffer, and multiplies in registers, as fast as this machine can.
#include "machine_limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "fuseq/tensor.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fuseq::bench {
namespace {

using Clock = std::chrono::steady_clock;

/// Keeps a result alive without storing it anywhere that matters.
void keep(float value) {
  volatile float sink = value;
  static_cast<void>(sink);
}

// ---- the loops: S streams of `length` floats each, every one of them read once ------------------

template <int S>
float read_plain(const float* x, int64_t length) {
  float sums[S][16] = {};
  for (int64_t i = 0; i + 16 <= length; i += 16) {
    for (int s = 0; s < S; ++s) {
      for (int lane = 0; lane < 16; ++lane) sums[s][lane] += x[s * length + i + lane];
    }
  }
  float total = 0;
  for (const auto& sum : sums) {
    for (const float value : sum) total += value;
  }
  return total;
}

/// Rounds of 24 independent multiply-adds.
constexpr int64_t kRounds = 200000;
constexpr int kChains = 24;

float multiply_plain() {
  float chains[kChains] = {};
  for (int64_t i = 0; i < kRounds; ++i) {
    for (float& chain : chains) chain = chain * 0.5f + 1.0f;
  }
  float total = 0;
  for (const float chain : chains) total += chain;
  return total;
}

#if defined(__x86_64__)
template <int S>
[[gnu::target("avx2,fma")]] float read_avx2(const float* x, int64_t length) {
  __m256 sums[S][2];
  for (auto& sum : sums) sum[0] = sum[1] = _mm256_setzero_ps();
  for (int64_t i = 0; i + 16 <= length; i += 16) {
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
      const float* line = x + s * length + i;
      sums[s][0] = _mm256_add_ps(sums[s][0], _mm256_loadu_ps(line));
      sums[s][1] = _mm256_add_ps(sums[s][1], _mm256_loadu_ps(line + 8));
    }
  }
  __m256 total = _mm256_setzero_ps();
  for (const auto& sum : sums) total = _mm256_add_ps(total, _mm256_add_ps(sum[0], sum[1]));
  return _mm256_cvtss_f32(total);
}

template <int S>
[[gnu::target("avx512f")]] float read_avx512(const float* x, int64_t length) {
  __m512 sums[S];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  for (int64_t i = 0; i + 16 <= length; i += 16) {
#pragma GCC unroll 8
    for (int s = 0; s < S; ++s) {
      sums[s] = _mm512_add_ps(sums[s], _mm512_loadu_ps(x + s * length + i));
    }
  }
  __m512 total = _mm512_setzero_ps();
  for (const __m512& sum : sums) total = _mm512_add_ps(total, sum);
  return _mm512_cvtss_f32(total);
}

[[gnu::target("avx2,fma")]] float multiply_avx2() {
  // 12 chains: 16 registers less the two factors.
  __m256 chains[kChains / 2];
  const __m256 half = _mm256_set1_ps(0.5f);
  const __m256 one = _mm256_set1_ps(1.0f);
  for (__m256& chain : chains) chain = one;
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 24
    for (__m256& chain : chains) chain = _mm256_fmadd_ps(chain, half, one);
  }
  __m256 total = one;
  for (const __m256& chain : chains) total = _mm256_add_ps(total, chain);
  return _mm256_cvtss_f32(total);
}

[[gnu::target("avx512f")]] float multiply_avx512() {
  __m512 chains[kChains];
  const __m512 half = _mm512_set1_ps(0.5f);
  const __m512 one = _mm512_set1_ps(1.0f);
  for (__m512& chain : chains) chain = one;
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 24
    for (__m512& chain : chains) chain = _mm512_fmadd_ps(chain, half, one);
  }
  __m512 total = one;
  for (const __m512& chain : chains) total = _mm512_add_ps(total, chain);
  return _mm512_cvtss_f32(total);
}
#endif

struct Loops {
  float (*read[4])(const float*, int64_t);  ///< with 1, 2, 4 and 8 streams
  float (*multiply)();
  double operations;  ///< of one call of multiply
};

Loops pick_loops() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) {
    return {{read_avx512<1>, read_avx512<2>, read_avx512<4>, read_avx512<8>},
            multiply_avx512,
            2.0 * 16 * kChains * kRounds};
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return {{read_avx2<1>, read_avx2<2>, read_avx2<4>, read_avx2<8>},
            multiply_avx2,
            2.0 * 8 * (kChains / 2) * kRounds};
  }
#endif
  return {{read_plain<1>, read_plain<2>, read_plain<4>, read_plain<8>},
          multiply_plain,
          2.0 * kChains * kRounds};
}

/// The shortest seconds of `passes` calls of work(thread) on all threads at once.
template <typename Work>
double best_seconds(int threads, int passes, const Work& work) {
  std::atomic<int> arrived{0};
  std::vector<double> seconds(static_cast<size_t>(passes));
  const auto meet = [&](int count) {
    arrived.fetch_add(1);
    while (arrived.load() < count) {
    }
  };
  const auto run = [&](int thread) {
    for (int pass = 0; pass < passes; ++pass) {
      meet((2 * pass + 1) * threads);
      const auto start = Clock::now();
      work(thread);
      meet((2 * pass + 2) * threads);
      if (thread == 0) {
        seconds[static_cast<size_t>(pass)] =
            std::chrono::duration<double>(Clock::now() - start).count();
      }
    }
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(run, thread);
  run(0);
  for (std::thread& other : others) other.join();
  return *std::min_element(seconds.begin(), seconds.end());
}

double measure_read(int64_t bytes, int threads) {
  static const Loops loops = pick_loops();
  const int64_t line = 16 * 8 * int64_t{threads};  // floats, so that all streams are whole lines
  const int64_t count = std::max(bytes / 4 / line, int64_t{1}) * line;
  Tensor buffer(DType::f32, {count});
  std::fill_n(buffer.as<float>(), count, 1.0f);
  const int64_t share = count / threads;
  // Small buffers are read several times in one pass, so that starting the pass does not count.
  const int64_t repeats = std::max<int64_t>(1, (int64_t{4} << 20) / (count * 4));
  const int passes = count * 4 > (int64_t{256} << 20) ? 3 : 8;
  double best = 0;
  int64_t streams = 1;
  for (const auto read : loops.read) {
    const double seconds = best_seconds(threads, passes, [&](int thread) {
      for (int64_t i = 0; i < repeats; ++i) {
        keep(read(buffer.as<float>() + thread * share, share / streams));
      }
    });
    best = std::max(best, static_cast<double>(count * 4 * repeats) / seconds);
    streams *= 2;
  }
  return best;
}

}  // namespace

double read_bandwidth(int64_t bytes, int threads) {
  static std::map<std::pair<int64_t, int>, double> known;
  double& result = known[{bytes, threads}];
  if (result == 0) result = measure_read(bytes, threads);
  return result;
}

double fma_peak(int threads) {
  static std::map<int, double> known;
  double& result = known[threads];
  if (result == 0) {
    const Loops loops = pick_loops();
    result =
        loops.operations * threads / best_seconds(threads, 5, [&](int) { keep(loops.multiply()); });
  }
  return result;
}

}  // namespace fuseq::bench
