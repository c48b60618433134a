// SPDX-License-Identifier: Apache-2.0
// A persistent team of threads that runs one function at a time, with spinning hand-over.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace fuseq::inline v0 {

/// num_threads if it is positive, else FUSEQ_NUM_THREADS, else OMP_NUM_THREADS, else the least of
/// the affinity mask, the cgroup quota and the physical cores. At least 1. Throws Error(value) for
/// a number outside 0 ... 1024.
[[nodiscard]] int resolve_num_threads(int num_threads);

/// `run(f)` calls f(thread, size) once on each thread and returns when all are done. The caller is
/// thread 0, so a team of one starts no thread. Workers start at the first run, spin at most 100 us
/// for work, then sleep; they block signals. After a fork the child's team starts workers of its
/// own. No allocation and no lock in `run` once workers are there.
class ThreadTeam {
 public:
  explicit ThreadTeam(int num_threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  [[nodiscard]] int size() const noexcept { return size_; }

  /// f must not throw. One caller at a time; f must not call run.
  template <typename F>
  void run(F&& f) {
    if (size_ == 1) {
      f(0, 1);
      return;
    }
    using Function = std::remove_reference_t<F>;
    run_raw([](void* data, int thread, int size) { (*static_cast<Function*>(data))(thread, size); },
            const_cast<void*>(static_cast<const void*>(&f)));
  }

  /// Splits [0, count) into one contiguous slice per thread, each a multiple of `grain` (the last
  /// may be shorter), and calls f(begin, end) for every non-empty slice; inline when one slice is
  /// enough.
  template <typename F>
  void parallel_for(int64_t count, int64_t grain, F&& f) {
    parallel_slices(count, grain, [&](int, int64_t begin, int64_t end) { f(begin, end); });
  }

  /// The same with the thread that does it: f(thread, begin, end).
  template <typename F>
  void parallel_slices(int64_t count, int64_t grain, F&& f) {
    const int64_t pieces = (count + grain - 1) / grain;
    if (size_ == 1 || pieces <= 1) {
      if (count > 0) f(0, int64_t{0}, count);
      return;
    }
    run([&](int thread, int size) {
      const int64_t begin = pieces * thread / size * grain;
      const int64_t end = pieces * (thread + 1) / size * grain;
      if (begin < end) f(thread, begin, end < count ? end : count);
    });
  }

  /// parallel_slices for work that ends at unequal times, as reading memory does: the last quarter
  /// of each slice is cut into pieces, which go to its own thread until another one has nothing
  /// left. So f is called several times on a thread, with slices in any order.
  template <typename F>
  void parallel_balanced(int64_t count, int64_t grain, F&& f) {
    const int64_t pieces = (count + grain - 1) / grain;
    if (size_ > kMaxBalanced || pieces < kLeastBalanced * size_) {
      return parallel_slices(count, grain, f);
    }
    if (size_ == 1) return f(0, int64_t{0}, count);
    Rest rests[kMaxBalanced];
    const auto slice_begin = [=, this](int thread) { return pieces * thread / size_; };
    const auto rest_begin = [=](int thread) {
      const int64_t end = slice_begin(thread + 1);
      return end - (end - slice_begin(thread)) / 4;
    };
    for (int thread = 0; thread < size_; ++thread) {
      rests[thread].next.store(rest_begin(thread), std::memory_order_relaxed);
    }
    run([&](int thread, int size) {
      const auto call = [&](int64_t begin, int64_t end) {
        f(thread, begin * grain, end * grain < count ? end * grain : count);
      };
      call(slice_begin(thread), rest_begin(thread));
      for (int i = 0; i < size; ++i) {
        const int other = (thread + i) % size;
        const int64_t end = slice_begin(other + 1);
        const int64_t length = (end - rest_begin(other) + kRestPieces - 1) / kRestPieces;
        for (;;) {
          const int64_t begin = rests[other].next.fetch_add(length, std::memory_order_relaxed);
          if (begin >= end) break;
          call(begin, begin + length < end ? begin + length : end);
        }
      }
    });
  }

 private:
  static constexpr int kMaxBalanced = 32;       ///< threads
  static constexpr int64_t kLeastBalanced = 4;  ///< pieces per thread
  static constexpr int64_t kRestPieces = 8;

  /// Where the rest of a slice begins that nobody has taken yet.
  struct alignas(64) Rest {
    std::atomic<int64_t> next{0};
  };

  using Raw = void (*)(void* data, int thread, int size);
  void run_raw(Raw function, void* data);

  struct Workers;
  int size_;
  std::unique_ptr<Workers> workers_;
};

}  // namespace fuseq::inline v0
