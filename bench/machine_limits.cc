// SPDX-License-Identifier: Apache-2.0
// Reads a buffer, and multiplies in registers, as fast as this machine can.
#include "machine_limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "fuseq/error.h"
#if defined(__x86_64__)
#include <cpuid.h>
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

#endif

struct ReadLoops {
  float (*read[4])(const float*, int64_t);  ///< with 1, 2, 4 and 8 streams
};

ReadLoops pick_read() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) {
    return {{read_avx512<1>, read_avx512<2>, read_avx512<4>, read_avx512<8>}};
  }
  if (__builtin_cpu_supports("avx2")) {
    return {{read_avx2<1>, read_avx2<2>, read_avx2<4>, read_avx2<8>}};
  }
#endif
  return {{read_plain<1>, read_plain<2>, read_plain<4>, read_plain<8>}};
}

// ---- the peaks: rounds of independent multiply-adds whose sums stay in registers ----------------

constexpr int64_t kRounds = 200000;
constexpr int kSums = 24;     ///< of 32 registers
constexpr int kFewSums = 12;  ///< of 16

template <typename Number>
float multiply_plain() {
  constexpr auto kFactor = static_cast<Number>(std::is_integral_v<Number> ? 3 : 0.5);
  Number sums[kSums] = {};
  for (int64_t i = 0; i < kRounds; ++i) {
    for (Number& sum : sums) sum = sum * kFactor + Number{1};
  }
  Number total = 0;
  for (const Number sum : sums) total += sum;
  return static_cast<float>(total);
}

#if defined(__x86_64__)
/// Both factors of all multiply-adds: an ordinary number as float32, two as bfloat16, four as int8.
constexpr int kFactors = 0x3e013f02;

// One multiply-add of vectors each. Assembly, so that nothing is known of the sums, which some
// compilers also copy around such intrinsics, and so that no option of the compiler is needed.

struct FmaAvx2 {
  static constexpr int kProducts = 8;
  [[gnu::target("avx2"), gnu::always_inline]] static __m256i run(__m256i sum, __m256i a,
                                                                 __m256i b) {
    __asm__ volatile("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
    return sum;
  }
};
struct VnniAvx2 {
  static constexpr int kProducts = 32;
  [[gnu::target("avx2"), gnu::always_inline]] static __m256i run(__m256i sum, __m256i a,
                                                                 __m256i b) {
    __asm__ volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
    return sum;
  }
};

struct FmaAvx512 {
  static constexpr int kProducts = 16;
  [[gnu::target("avx512f"), gnu::always_inline]] static __m512i run(__m512i sum, __m512i a,
                                                                    __m512i b) {
    __asm__ volatile("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
  }
};
struct Bf16Avx512 {
  static constexpr int kProducts = 32;
  [[gnu::target("avx512f"), gnu::always_inline]] static __m512i run(__m512i sum, __m512i a,
                                                                    __m512i b) {
    __asm__ volatile("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
  }
};
struct VnniAvx512 {
  static constexpr int kProducts = 64;
  [[gnu::target("avx512f"), gnu::always_inline]] static __m512i run(__m512i sum, __m512i a,
                                                                    __m512i b) {
    __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
  }
};

template <typename MultiplyAdd>
[[gnu::target("avx2")]] float multiply_avx2() {
  __m256i sums[kFewSums];
  const __m256i factors = _mm256_set1_epi32(kFactors);
  for (__m256i& sum : sums) sum = factors;
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 12
    for (__m256i& sum : sums) sum = MultiplyAdd::run(sum, factors, factors);
  }
  __m256i total = factors;
  for (const __m256i& sum : sums) total = _mm256_xor_si256(total, sum);
  return _mm256_cvtss_f32(_mm256_castsi256_ps(total));
}

/// Products of bytes, summed by twos in int16, then by twos in int32. In groups of six, which do
/// not wait for each other.
constexpr int kGroup = 6;
constexpr int kByteProducts = 32;

[[gnu::target("avx2"), gnu::always_inline]] inline __m256i multiply_bytes(__m256i a, __m256i b) {
  __m256i products;
  __asm__ volatile("vpmaddubsw %2, %1, %0" : "=x"(products) : "x"(a), "x"(b));
  return products;
}
[[gnu::target("avx2"), gnu::always_inline]] inline __m256i add_pairs(__m256i products,
                                                                     __m256i ones) {
  __asm__ volatile("vpmaddwd %1, %0, %0" : "+x"(products) : "x"(ones));
  return products;
}
[[gnu::target("avx2"), gnu::always_inline]] inline __m256i add_int32(__m256i sum, __m256i product) {
  __asm__ volatile("vpaddd %1, %0, %0" : "+x"(sum) : "x"(product));
  return sum;
}

[[gnu::target("avx2")]] float multiply_int8_avx2() {
  __m256i sums[kGroup];
  const __m256i factors = _mm256_set1_epi32(kFactors);
  const __m256i ones = _mm256_set1_epi16(1);
  for (__m256i& sum : sums) sum = factors;
  for (int64_t i = 0; i < kRounds; ++i) {
    __m256i products[kGroup];
#pragma GCC unroll 6
    for (__m256i& product : products) product = multiply_bytes(factors, factors);
#pragma GCC unroll 6
    for (__m256i& product : products) product = add_pairs(product, ones);
#pragma GCC unroll 6
    for (int k = 0; k < kGroup; ++k) sums[k] = add_int32(sums[k], products[k]);
  }
  __m256i total = factors;
  for (const __m256i& sum : sums) total = _mm256_xor_si256(total, sum);
  return _mm256_cvtss_f32(_mm256_castsi256_ps(total));
}

template <typename MultiplyAdd>
[[gnu::target("avx512f")]] float multiply_avx512() {
  __m512i sums[kSums];
  const __m512i factors = _mm512_set1_epi32(kFactors);
  for (__m512i& sum : sums) sum = factors;
  for (int64_t i = 0; i < kRounds; ++i) {
#pragma GCC unroll 24
    for (__m512i& sum : sums) sum = MultiplyAdd::run(sum, factors, factors);
  }
  __m512i total = factors;
  for (const __m512i& sum : sums) total = _mm512_xor_si512(total, sum);
  return _mm512_cvtss_f32(_mm512_castsi512_ps(total));
}

/// What __builtin_cpu_supports of older compilers does not know; the caller asks for the registers.
struct DotProducts {
  bool avx512_vnni = false;
  bool avx512_bf16 = false;
  bool avx_vnni = false;
};

DotProducts find_dot_products() {
  DotProducts found;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) found.avx512_vnni = (ecx >> 11 & 1) != 0;
  if (__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) {
    found.avx_vnni = (eax >> 4 & 1) != 0;
    found.avx512_bf16 = (eax >> 5 & 1) != 0;
  }
  return found;
}
#endif

struct Multiply {
  std::string_view instruction;
  float (*run)();
  double operations;  ///< of one call of run
};

#if defined(__x86_64__)
template <typename MultiplyAdd>
Multiply with_avx2(std::string_view instruction) {
  return {instruction, multiply_avx2<MultiplyAdd>,
          2.0 * MultiplyAdd::kProducts * kFewSums * kRounds};
}

template <typename MultiplyAdd>
Multiply with_avx512(std::string_view instruction) {
  return {instruction, multiply_avx512<MultiplyAdd>,
          2.0 * MultiplyAdd::kProducts * kSums * kRounds};
}
#endif

Multiply pick_multiply(DType dtype) {
#if defined(__x86_64__)
  const DotProducts dot = find_dot_products();
  if (__builtin_cpu_supports("avx512f")) {
    if (dtype == DType::i8 && dot.avx512_vnni) return with_avx512<VnniAvx512>("vpdpbusd zmm");
    if (dtype == DType::bf16 && dot.avx512_bf16) return with_avx512<Bf16Avx512>("vdpbf16ps zmm");
    if (dtype != DType::i8) return with_avx512<FmaAvx512>("vfmadd231ps zmm");
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    if (dtype != DType::i8) return with_avx2<FmaAvx2>("vfmadd231ps ymm");
    if (dot.avx_vnni) return with_avx2<VnniAvx2>("vpdpbusd ymm");
    return {"vpmaddubsw + vpmaddwd + vpaddd ymm", multiply_int8_avx2,
            2.0 * kByteProducts * kGroup * kRounds};
  }
#endif
  if (dtype == DType::i8) return {"plain int32", multiply_plain<uint32_t>, 2.0 * kSums * kRounds};
  return {"plain float32", multiply_plain<float>, 2.0 * kSums * kRounds};
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

}  // namespace

ReadBuffer::ReadBuffer(int64_t bytes)
    : buffer_(DType::f32, {std::max<int64_t>(1, (bytes + 3) / 4)}) {
  std::fill_n(buffer_.as<float>(), buffer_.shape().num_elements(), 1.0f);
}

double ReadBuffer::bandwidth(int64_t bytes, int threads, int passes) const {
  static const ReadLoops loops = pick_read();
  const int64_t line = 16 * 8 * int64_t{threads};  // floats, so that all streams are whole lines
  const int64_t count = std::min(bytes, this->bytes()) / 4 / line * line;
  if (count == 0) {
    throw Error(ErrorKind::value, "ReadBuffer: bytes must be at least " + std::to_string(line * 4) +
                                      " for " + std::to_string(threads) + " threads, got " +
                                      std::to_string(bytes));
  }
  const int64_t share = count / threads;
  // Few bytes are read several times in one pass, so that starting the pass does not count.
  const int64_t repeats = std::max<int64_t>(1, (int64_t{4} << 20) / (count * 4));
  double best = 0;
  int64_t streams = 1;
  for (const auto read : loops.read) {
    const double seconds = best_seconds(threads, passes, [&](int thread) {
      for (int64_t i = 0; i < repeats; ++i) {
        keep(read(buffer_.as<float>() + thread * share, share / streams));
      }
    });
    best = std::max(best, static_cast<double>(count * 4 * repeats) / seconds);
    streams *= 2;
  }
  return best;
}

double read_bandwidth(int64_t bytes, int threads) {
  static std::map<std::pair<int64_t, int>, double> known;
  double& result = known[{bytes, threads}];
  if (result == 0) {
    const int64_t enough = std::max(bytes, int64_t{512} * threads);
    result = ReadBuffer(enough).bandwidth(enough, threads, bytes > (int64_t{256} << 20) ? 3 : 8);
  }
  return result;
}

double multiply_add_peak(DType dtype, int threads) {
  const Multiply multiply = pick_multiply(dtype);
  return multiply.operations * threads /
         best_seconds(threads, 12, [&](int) { keep(multiply.run()); });
}

std::string_view multiply_add_instruction(DType dtype) {
  return pick_multiply(dtype).instruction;
}

double fma_peak(int threads) {
  static std::map<int, double> known;
  double& result = known[threads];
  if (result == 0) result = multiply_add_peak(DType::f32, threads);
  return result;
}

}  // namespace fuseq::bench
