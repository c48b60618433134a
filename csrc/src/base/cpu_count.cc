// SPDX-License-Identifier: Apache-2.0
// Reads the affinity mask, the topology files and the control groups of Linux.
#include "base/cpu_count.h"

#include <cmath>
#include <cstdint>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>

#if defined(__linux__)
#include <sched.h>
#endif

namespace fuseq::inline v0 {

namespace {

/// The smaller of two quotas, where 0 means none.
int tighter(int a, int b) {
  return a == 0 ? b : b == 0 ? a : std::min(a, b);
}

int whole_cpus(double quota, double period) {
  if (!(quota > 0) || !(period > 0)) return 0;
  return static_cast<int>(std::min(std::ceil(quota / period), 1e6));
}

/// cpu.max holds "<quota or max> <period>".
int quota_version_2(const std::filesystem::path& folder) {
  std::ifstream file(folder / "cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max") return 0;
  char* end = nullptr;
  const double value = std::strtod(quota.c_str(), &end);
  return *end == '\0' ? whole_cpus(value, period) : 0;
}

int quota_version_1(const std::filesystem::path& folder) {
  double quota = 0;  // -1: no limit
  double period = 0;
  std::ifstream(folder / "cpu.cfs_quota_us") >> quota;
  std::ifstream(folder / "cpu.cfs_period_us") >> period;
  return whole_cpus(quota, period);
}

/// The least quota of mount/group and every folder above it up to mount: a limit holds for all
/// below it. Inside a container the group's path may be missing; its limits are then those of the
/// mount itself.
template <typename Quota>
int least_quota(const std::filesystem::path& mount, const std::filesystem::path& group,
                Quota quota_of) {
  int least = quota_of(mount);
  std::filesystem::path folder = mount;
  for (const auto& part : group.relative_path()) {
    folder /= part;
    least = tighter(least, quota_of(folder));
  }
  return least;
}

bool lists_cpu(const std::string& controllers) {
  return ("," + controllers + ",").find(",cpu,") != std::string::npos;
}

}  // namespace

std::vector<int> affinity_cpus() {
  std::vector<int> cpus;
#if defined(__linux__)
  for (int capacity = 1024; capacity <= (1 << 20); capacity *= 2) {
    const auto free_set = [](cpu_set_t* some) { CPU_FREE(some); };
    const std::unique_ptr<cpu_set_t, decltype(free_set)> set(
        CPU_ALLOC(static_cast<size_t>(capacity)), free_set);
    if (set == nullptr) break;
    const size_t size = CPU_ALLOC_SIZE(static_cast<size_t>(capacity));
    const bool known = sched_getaffinity(0, size, set.get()) == 0;  // fails while it is too small
    for (int cpu = 0; known && cpu < capacity; ++cpu) {
      if (CPU_ISSET_S(static_cast<size_t>(cpu), size, set.get())) cpus.push_back(cpu);
    }
    if (known) break;
  }
#else
  for (unsigned cpu = 0; cpu < std::thread::hardware_concurrency(); ++cpu) {
    cpus.push_back(static_cast<int>(cpu));
  }
#endif
  return cpus;
}

int count_physical_cores(const std::vector<int>& cpus, const std::filesystem::path& root) {
  std::set<std::pair<int64_t, int64_t>> cores;
  int unknown = 0;
  for (const int cpu : cpus) {
    const auto folder = root / ("cpu" + std::to_string(cpu)) / "topology";
    int64_t core = -1;
    int64_t package = -1;
    std::ifstream core_file(folder / "core_id");
    std::ifstream package_file(folder / "physical_package_id");
    if (core_file >> core && package_file >> package && core >= 0) {
      cores.emplace(package, core);
    } else {
      ++unknown;
    }
  }
  return static_cast<int>(cores.size()) + unknown;
}

int cgroup_cpu_quota(const std::filesystem::path& membership, const std::filesystem::path& mount) {
  int least = 0;
  std::ifstream file(membership);
  for (std::string line; std::getline(file, line);) {  // <hierarchy>:<controllers>:<path>
    const size_t first = line.find(':');
    if (first == std::string::npos) continue;
    const size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::filesystem::path group = line.substr(second + 1);
    if (controllers.empty()) {
      least = tighter(least, least_quota(mount, group, quota_version_2));
      least = tighter(least, least_quota(mount / "unified", group, quota_version_2));
    } else if (lists_cpu(controllers)) {
      least = tighter(least, least_quota(mount / "cpu", group, quota_version_1));
      least = tighter(least, least_quota(mount / controllers, group, quota_version_1));
    }
  }
  return least;
}

}  // namespace fuseq::inline v0
