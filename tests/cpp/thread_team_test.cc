// SPDX-License-Identifier: Apache-2.0
// The team of threads: hand-over, slices, forks, numbers of threads.
#include "base/thread_team.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/cpu_count.h"
#include "fuseq/error.h"
#include "test_files.h"

#if defined(__SANITIZE_THREAD__)
// The thread sanitizer would end a forked process that starts threads.
extern "C" const char* __tsan_default_options();
extern "C" const char* __tsan_default_options() {
  return "die_after_fork=0";
}
#endif

namespace fuseq::inline v0 {
namespace {

/// Runs `rounds` sums over `team` whose result is wrong if a thread is left out, comes twice or is
/// too early.
bool counts_right(ThreadTeam& team, int rounds) {
  std::vector<int64_t> seen(static_cast<size_t>(team.size()),
                            0);  // plain memory: the team orders all access
  for (int round = 1; round <= rounds; ++round) {
    team.run([&](int thread, int size) { seen[static_cast<size_t>(thread)] += size; });
    for (const int64_t value : seen) {
      if (value != int64_t{round} * team.size()) return false;
    }
  }
  return true;
}

/// The exit code of a child process that does `work`; -1 if it did not exit within 20 s.
template <typename Work>
int exit_code_of_child(Work work) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    _exit(work());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

class TeamOf : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Sizes, TeamOf, testing::Values(1, 2, 3, 7, 16));

TEST_P(TeamOf, calls_each_thread_once_per_run) {
  ThreadTeam team(GetParam());
  EXPECT_EQ(team.size(), GetParam());
  EXPECT_TRUE(counts_right(team, 2000));
}

TEST_P(TeamOf, wakes_workers_that_sleep) {
  ThreadTeam team(GetParam());
  for (int round = 0; round < 20; ++round) {
    EXPECT_TRUE(counts_right(team, 3));
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // beyond the time that workers spin
  }
}

TEST_P(TeamOf, waits_for_a_slow_thread) {
  ThreadTeam team(GetParam());
  const int slow = GetParam() - 1;
  for (int round = 0; round < 10; ++round) {
    int done = 0;
    team.run([&](int thread, int) {
      if (thread != slow) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      done = 1;
    });
    EXPECT_EQ(done, 1);
  }
}

TEST_P(TeamOf, parallel_for_covers_every_index_once) {
  ThreadTeam team(GetParam());
  for (const int64_t count : {0, 1, 5, 31, 32, 33, 1000}) {
    for (const int64_t grain : {1, 8, 32, 2000}) {
      std::vector<int> hits(static_cast<size_t>(count), 0);
      std::atomic<int> ragged{0};
      team.parallel_for(count, grain, [&](int64_t begin, int64_t end) {
        if (begin % grain != 0 || (end % grain != 0 && end != count)) ++ragged;
        for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
      });
      EXPECT_EQ(ragged, 0);
      EXPECT_TRUE(std::ranges::all_of(hits, [](int hit) { return hit == 1; }))
          << count << " by " << grain;
    }
  }
}

TEST_P(TeamOf, parallel_balanced_covers_every_index_once) {
  ThreadTeam team(GetParam());
  for (const int64_t count : {0, 1, 5, 31, 32, 33, 1000, 5001}) {
    for (const int64_t grain : {1, 3, 8, 32, 2000}) {
      std::vector<std::atomic<int>> hits(static_cast<size_t>(count));
      std::atomic<int> ragged{0};
      team.parallel_balanced(count, grain, [&](int thread, int64_t begin, int64_t end) {
        if (thread < 0 || thread >= team.size() || begin >= end) ++ragged;
        if (begin % grain != 0 || (end % grain != 0 && end != count)) ++ragged;
        for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
      });
      EXPECT_EQ(ragged, 0);
      EXPECT_TRUE(std::ranges::all_of(hits, [](const auto& hit) { return hit == 1; }))
          << count << " by " << grain;
    }
  }
}

TEST(ThreadTeam, threads_that_are_done_take_the_rest_of_a_slow_one) {
  ThreadTeam team(2);
  std::atomic<bool> slow_is_inside = false, rest_is_taken = false;
  std::array<std::atomic<int64_t>, 2> shares{};
  team.parallel_balanced(64, 1, [&](int thread, int64_t begin, int64_t end) {
    shares[static_cast<size_t>(thread)] += end - begin;
    if (thread == 1) {  // stays in its first piece until the other one has done all the rest
      slow_is_inside = true;
      while (!rest_is_taken) std::this_thread::yield();
    } else {
      while (!slow_is_inside) std::this_thread::yield();
      if (shares[0] == 40) rest_is_taken = true;
    }
  });
  EXPECT_EQ(shares[0], 40);  // its own half and a quarter of the other
  EXPECT_EQ(shares[1], 24);
}

TEST_P(TeamOf, works_in_a_child_after_a_fork) {
  ThreadTeam team(GetParam());
  ASSERT_TRUE(counts_right(team, 100));
  EXPECT_EQ(exit_code_of_child([&] { return counts_right(team, 100) ? 7 : 1; }), 7);
  EXPECT_TRUE(counts_right(team, 100));
}

TEST(ThreadTeam, works_in_a_grandchild_after_two_forks) {
  ThreadTeam team(3);
  ASSERT_TRUE(counts_right(team, 10));
  const auto grandchild = [&] { return counts_right(team, 100) ? 7 : 1; };
  EXPECT_EQ(exit_code_of_child([&] {
              if (!counts_right(team, 10)) return 1;
              return exit_code_of_child(grandchild);
            }),
            7);
}

TEST(ThreadTeam, is_destroyed_in_a_child_that_never_ran_it) {
  auto team = std::make_unique<ThreadTeam>(3);
  ASSERT_TRUE(counts_right(*team, 10));
  EXPECT_EQ(exit_code_of_child([&] {
              team.reset();
              return 7;
            }),
            7);
}

TEST(ThreadTeam, is_first_used_in_a_child) {
  ThreadTeam team(3);
  EXPECT_EQ(exit_code_of_child([&] { return counts_right(team, 100) ? 7 : 1; }), 7);
  EXPECT_TRUE(counts_right(team, 100));
}

TEST(ThreadTeam, starts_no_thread_before_the_first_run) {
  const auto tasks = [] {
    std::set<std::string> ids;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task"))
      ids.insert(task.path().filename().string());
    return ids;
  };
  std::thread([] {}).join();  // a thread sanitizer starts one of its own beside the first
  const std::set<std::string> before = tasks();  // maybe with joined threads that are still leaving
  const auto num_new_tasks = [&] {
    const std::set<std::string> now = tasks();
    return std::ranges::count_if(now, [&](const auto& id) { return !before.contains(id); });
  };
  ThreadTeam team(4);
  ThreadTeam alone(1);
  EXPECT_TRUE(counts_right(alone, 10));
  EXPECT_EQ(num_new_tasks(), 0);
  EXPECT_TRUE(counts_right(team, 10));
  EXPECT_EQ(num_new_tasks(), 3);
}

TEST(ThreadTeam, workers_block_signals_and_the_caller_keeps_its_mask) {
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  ThreadTeam team(3);
  std::mutex mutex;
  int blocked = 0;
  team.run([&](int thread, int) {
    if (thread == 0) return;
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    const std::lock_guard lock(mutex);
    blocked += sigismember(&mask, SIGINT) == 1 && sigismember(&mask, SIGTERM) == 1 &&
               sigismember(&mask, SIGUSR1) == 1;
  });
  EXPECT_EQ(blocked, 2);
  sigset_t after;
  pthread_sigmask(SIG_SETMASK, nullptr, &after);
  for (int signal = 1; signal < 32; ++signal) {
    EXPECT_EQ(sigismember(&before, signal), sigismember(&after, signal)) << signal;
  }
}

TEST(ThreadTeam, two_teams_work_side_by_side) {
  std::atomic<int> right{0};
  const auto use = [&] {
    ThreadTeam team(2);
    right += counts_right(team, 2000);
  };
  std::thread other(use);
  use();
  other.join();
  EXPECT_EQ(right, 2);
}

TEST(ThreadTeam, may_be_used_by_one_thread_after_another) {
  ThreadTeam team(3);
  for (int round = 0; round < 5; ++round) {
    bool right = false;
    std::thread([&] { right = counts_right(team, 50); }).join();
    EXPECT_TRUE(right);
  }
}

// ---- how many threads ---------------------------------------------------------------------------

class NumThreads : public testing::Test {
 protected:
  void SetUp() override {
    unsetenv("FUSEQ_NUM_THREADS");
    unsetenv("OMP_NUM_THREADS");
  }
  void TearDown() override { SetUp(); }

  static std::string message_of(int num_threads) {
    try {
      (void)resolve_num_threads(num_threads);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::value);
      return error.what();
    }
    return "no error";
  }
};

TEST_F(NumThreads, an_argument_beats_the_environment) {
  setenv("FUSEQ_NUM_THREADS", "5", 1);
  EXPECT_EQ(resolve_num_threads(3), 3);
  EXPECT_EQ(resolve_num_threads(0), 5);
}

TEST_F(NumThreads, fuseq_variable_beats_the_openmp_one) {
  setenv("OMP_NUM_THREADS", "6", 1);
  EXPECT_EQ(resolve_num_threads(0), 6);
  setenv("FUSEQ_NUM_THREADS", "5", 1);
  EXPECT_EQ(resolve_num_threads(0), 5);
  setenv("FUSEQ_NUM_THREADS", "0", 1);
  EXPECT_EQ(resolve_num_threads(0), 6);
  setenv("FUSEQ_NUM_THREADS", "", 1);
  EXPECT_EQ(resolve_num_threads(0), 6);
}

TEST_F(NumThreads, takes_the_first_level_of_an_openmp_list) {
  setenv("OMP_NUM_THREADS", " 4 , 2", 1);
  EXPECT_EQ(resolve_num_threads(0), 4);
}

TEST_F(NumThreads, is_between_one_and_the_affinity_mask_by_default) {
  const int threads = resolve_num_threads(0);
  EXPECT_GE(threads, 1);
  EXPECT_LE(threads, static_cast<int>(affinity_cpus().size()));
}

TEST_F(NumThreads, a_bad_number_is_an_error_that_names_it) {
  EXPECT_EQ(message_of(-1), "Context: num_threads must be in 0 ... 1024, got -1");
  EXPECT_EQ(message_of(1025), "Context: num_threads must be in 0 ... 1024, got 1025");
  for (const char* text : {"two", "-1", "1025", "99999999999999999999", "2x", "1.5", " ", ","}) {
    setenv("FUSEQ_NUM_THREADS", text, 1);
    EXPECT_EQ(message_of(0),
              std::string("Context: FUSEQ_NUM_THREADS must be a number in 0 ... 1024, got \"") +
                  text + "\"");
  }
  unsetenv("FUSEQ_NUM_THREADS");
  setenv("OMP_NUM_THREADS", "many", 1);
  EXPECT_EQ(message_of(0), "Context: OMP_NUM_THREADS must be a number in 0 ... 1024, got \"many\"");
}

TEST(CpuCount, counts_threads_of_one_core_once) {
  const TempFolder folder;
  const auto add = [&](int cpu, int package, int core) {
    const auto name = "cpu" + std::to_string(cpu) + "/topology/";
    folder.write(name + "core_id", std::to_string(core) + "\n");
    folder.write(name + "physical_package_id", std::to_string(package) + "\n");
  };
  add(0, 0, 0), add(1, 0, 1), add(2, 0, 0), add(3, 0, 1), add(4, 1, 0);
  EXPECT_EQ(count_physical_cores({0, 1, 2, 3, 4}, folder.path()), 3);
  EXPECT_EQ(count_physical_cores({0, 2}, folder.path()), 1);
  EXPECT_EQ(count_physical_cores({0, 2, 90, 91}, folder.path()), 3) << "unknown ones count";
  EXPECT_EQ(count_physical_cores({}, folder.path()), 0);
}

TEST(CpuCount, reads_the_quota_of_control_groups_version_2) {
  const TempFolder folder;
  folder.write("membership", "0::/app/worker\n");
  const auto quota = [&] { return cgroup_cpu_quota(folder.path() / "membership", folder.path()); };
  EXPECT_EQ(quota(), 0);
  folder.write("app/worker/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), 0);
  folder.write("app/cpu.max", "350000 100000\n");
  EXPECT_EQ(quota(), 4) << "a limit of a group above, rounded up";
  folder.write("app/worker/cpu.max", "50000 100000\n");
  EXPECT_EQ(quota(), 1);
  folder.write("app/worker/cpu.max", "garbage");
  EXPECT_EQ(quota(), 4);
}

TEST(CpuCount, reads_the_quota_of_control_groups_version_1) {
  const TempFolder folder;
  folder.write("membership", "12:memory:/x\n4:cpu,cpuacct:/pod\n0::/\n");
  const auto quota = [&] { return cgroup_cpu_quota(folder.path() / "membership", folder.path()); };
  folder.write("cpu,cpuacct/pod/cpu.cfs_quota_us", "-1\n");
  folder.write("cpu,cpuacct/pod/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), 0);
  folder.write("cpu,cpuacct/pod/cpu.cfs_quota_us", "200000\n");
  EXPECT_EQ(quota(), 2);
  folder.write("cpu/cpu.cfs_quota_us", "100000\n");  // the container's own limit at the mount
  folder.write("cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), 1);
  EXPECT_EQ(cgroup_cpu_quota(folder.path() / "nothing", folder.path()), 0);
}

}  // namespace
}  // namespace fuseq::inline v0
