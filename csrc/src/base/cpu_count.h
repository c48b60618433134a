// SPDX-License-Identifier: Apache-2.0
// How many CPUs this process may use.
#pragma once

#include <filesystem>
#include <vector>

namespace fuseq::inline v0 {

/// The numbers of the CPUs in the affinity mask of the calling thread; empty where the system
/// cannot say.
[[nodiscard]] std::vector<int> affinity_cpus();

/// Distinct cores (package, core) among `cpus`, read from <root>/cpu<n>/topology. A CPU without
/// readable topology counts as a core of its own.
[[nodiscard]] int count_physical_cores(
    const std::vector<int>& cpus, const std::filesystem::path& root = "/sys/devices/system/cpu");

/// The least CPU quota of the control groups that this process is in, rounded up to whole CPUs; 0
/// if there is none. Both versions of control groups are understood. `membership` has the form of
/// /proc/self/cgroup.
[[nodiscard]] int cgroup_cpu_quota(const std::filesystem::path& membership = "/proc/self/cgroup",
                                   const std::filesystem::path& mount = "/sys/fs/cgroup");

}  // namespace fuseq::inline v0
