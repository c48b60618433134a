// SPDX-License-Identifier: Apache-2.0
// Hand-over of work to waiting threads by two atomic words: an epoch that counts up and a number of
// unfinished threads.
#include "base/thread_team.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include "base/cpu_count.h"
#include "base/message.h"

namespace fuseq::inline v0 {

namespace {

constexpr int kMaxThreads = 1024;
constexpr std::chrono::nanoseconds kSpinTime = std::chrono::microseconds(100);
constexpr int kPausesPerClock = 16;  // a pause takes 10 to 40 ns, a look at the clock 20 ns
constexpr size_t kCacheLine = 64;

void pause() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/// Spins until done() or for `limit`; says whether done() held.
template <typename Done>
bool spin_until(std::chrono::nanoseconds limit, Done done) noexcept {
  if (done()) return true;
  if (limit.count() == 0) return false;
  const auto start = std::chrono::steady_clock::now();
  do {
    for (int i = 0; i < kPausesPerClock; ++i) {
      pause();
      if (done()) return true;
    }
  } while (std::chrono::steady_clock::now() - start < limit);
  return false;
}

/// Counts the forks that lead to this process, so that a team can tell that its workers stayed
/// behind in the parent. A counter kept by pthread_atfork costs a load where getpid() costs a
/// system call per run.
std::atomic<uint32_t>& fork_count() noexcept {
  static std::atomic<uint32_t> count{0};
  [[maybe_unused]] static const int registered =
      pthread_atfork(nullptr, nullptr, [] { count.fetch_add(1, std::memory_order_relaxed); });
  return count;
}

/// Blocks all signals of this thread, and so of the threads it starts, while it lives: signals
/// belong to the application.
class SignalBlock {
 public:
  SignalBlock() noexcept {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalBlock() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalBlock(const SignalBlock&) = delete;
  SignalBlock& operator=(const SignalBlock&) = delete;

 private:
  sigset_t before_;
};

/// The number in an environment variable, 0 if it is unset or empty. OpenMP allows a list, one
/// number per level of nesting; the first is ours.
int threads_from_environment(const char* variable) {
  const char* value = std::getenv(variable);
  if (value == nullptr || *value == '\0') return 0;
  const std::string_view text = value;
  std::string_view number = text.substr(0, text.find(','));
  while (!number.empty() && number.front() == ' ') number.remove_prefix(1);
  while (!number.empty() && number.back() == ' ') number.remove_suffix(1);
  int threads = -1;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), threads);
  const bool whole = error == std::errc() && end == number.data() + number.size();
  require(whole && threads >= 0 && threads <= kMaxThreads, "Context: ", variable,
          " must be a number in 0 ... ", kMaxThreads, ", got \"", text, "\"");
  return threads;
}

}  // namespace

int resolve_num_threads(int num_threads) {
  require(num_threads >= 0 && num_threads <= kMaxThreads, "Context: num_threads must be in 0 ... ",
          kMaxThreads, ", got ", num_threads);
  if (num_threads > 0) return num_threads;
  for (const char* variable : {"FUSEQ_NUM_THREADS", "OMP_NUM_THREADS"}) {
    if (const int threads = threads_from_environment(variable); threads > 0) return threads;
  }
  int threads = std::max(count_physical_cores(affinity_cpus()), 1);
  if (const int quota = cgroup_cpu_quota(); quota > 0) threads = std::min(threads, quota);
  return std::min(threads, kMaxThreads);
}

struct ThreadTeam::Workers {
  explicit Workers(int size_) : size(size_) {
    threads.reserve(static_cast<size_t>(size - 1));
    const SignalBlock block;
    try {
      for (int thread = 1; thread < size; ++thread) {
        threads.emplace_back([this, thread] { work(thread); });
      }
    } catch (const std::system_error& error) {
      stop();
      fail(ErrorKind::runtime, "ThreadTeam: ", size - 1, " worker threads must start, got ",
           threads.size(), " (", error.what(), ")");
    } catch (...) {  // no memory: a thread that is not joined would end the program
      stop();
      throw;
    }
  }
  ~Workers() { stop(); }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  void run(Raw function_, void* data_) noexcept {
    function = function_;
    data = data_;
    unfinished.store(size - 1, std::memory_order_relaxed);
    advance();
    function(data, 0, size);
    if (spin_until(spin_time, [this] { return unfinished.load(std::memory_order_acquire) == 0; }))
      return;
    // Either the last worker sees caller_sleeps, or we see its zero: these accesses have one order.
    caller_sleeps.store(true);
    for (int left = unfinished.load(); left != 0; left = unfinished.load()) unfinished.wait(left);
    caller_sleeps.store(false, std::memory_order_relaxed);
  }

  void work(int thread) noexcept {
    for (uint32_t seen = 0;; ++seen) {  // each worker takes part in every epoch
      wait_for_next(seen);
      if (function == nullptr) return;
      function(data, thread, size);
      if (unfinished.fetch_sub(1) == 1 && caller_sleeps.load()) unfinished.notify_one();
    }
  }

  void wait_for_next(uint32_t seen) noexcept {
    if (spin_until(spin_time, [&] { return epoch.load(std::memory_order_acquire) != seen; }))
      return;
    sleepers.fetch_add(1);
    while (epoch.load() == seen) epoch.wait(seen);
    sleepers.fetch_sub(1);
  }

  /// Publishes `function` and `data`. A worker counts itself as a sleeper before its last look at
  /// the epoch: it sees the new one, or we see the sleeper.
  void advance() noexcept {
    epoch.fetch_add(1);
    if (sleepers.load() != 0) epoch.notify_all();
  }

  void stop() noexcept {
    function = nullptr;
    advance();
    for (std::thread& thread : threads) thread.join();
  }

  bool left_in_parent() const noexcept {
    return fork != fork_count().load(std::memory_order_relaxed);
  }

  const int size;
  const uint32_t fork = fork_count().load(std::memory_order_relaxed);
  /// Threads that share a CPU would only keep each other from it.
  const std::chrono::nanoseconds spin_time =
      static_cast<size_t>(size) <= affinity_cpus().size() ? kSpinTime : std::chrono::nanoseconds(0);
  std::vector<std::thread> threads;
  alignas(kCacheLine) std::atomic<uint32_t> epoch{0};
  Raw function =
      nullptr;  // null: leave. Written by the caller while no worker runs, published by the epoch
  void* data = nullptr;
  alignas(kCacheLine) std::atomic<uint32_t> sleepers{0};
  alignas(kCacheLine) std::atomic<int> unfinished{0};
  std::atomic<bool> caller_sleeps{false};
};

ThreadTeam::ThreadTeam(int num_threads) : size_(num_threads) {
  require(num_threads >= 1 && num_threads <= kMaxThreads,
          "ThreadTeam: num_threads must be in 1 ... ", kMaxThreads, ", got ", num_threads);
}

ThreadTeam::~ThreadTeam() {
  if (workers_ != nullptr && workers_->left_in_parent()) (void)workers_.release();
}

void ThreadTeam::run_raw(Raw function, void* data) {
  // What a fork left behind is leaked: its threads cannot be joined here, nor its words be trusted.
  if (workers_ != nullptr && workers_->left_in_parent()) (void)workers_.release();
  if (workers_ == nullptr) workers_ = std::make_unique<Workers>(size_);
  workers_->run(function, data);
}

}  // namespace fuseq::inline v0
