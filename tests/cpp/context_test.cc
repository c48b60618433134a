// SPDX-License-Identifier: Apache-2.0
// Context: devices, threads, instruction sets, and what the environment says about them.
#include "fuseq/context.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <fstream>
#include <string>

#include "base/context_impl.h"
#include "base/cpu_features.h"
#include "fuseq/error.h"
#include "fuseq/version.h"

namespace fuseq::inline v0 {
namespace {

class ContextTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* isa = getenv("FUSEQ_CPU_ISA");
    had_isa_ = isa != nullptr;
    isa_ = had_isa_ ? isa : "";
    unsetenv("FUSEQ_CPU_ISA");
  }
  void TearDown() override {
    had_isa_ ? setenv("FUSEQ_CPU_ISA", isa_.c_str(), 1) : unsetenv("FUSEQ_CPU_ISA");
  }

  static std::string message_of(ErrorKind kind, const ContextOptions& options) {
    try {
      const Context context(options);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind);
      return error.what();
    }
    return "no error";
  }

 private:
  bool had_isa_ = false;
  std::string isa_;
};

TEST_F(ContextTest, settings_are_resolved_once) {
  Context context({.num_threads = 3, .cpu_isa = CpuIsa::portable});
  EXPECT_EQ(context.device(), Device::cpu);
  EXPECT_EQ(context.num_threads(), 3);
  EXPECT_EQ(context.cpu_isa(), CpuIsa::portable);
  EXPECT_FALSE(context.impl().has_bf16_dot);
  EXPECT_NE(Context().cpu_isa(), CpuIsa::automatic);
  EXPECT_GE(Context().num_threads(), 1);
}

TEST_F(ContextTest, can_be_moved_and_used) {
  Context first({.num_threads = 2});
  (void)first.impl().arena.take<float>(100);
  Context second = std::move(first);
  std::atomic<int> calls{0};
  second.impl().team.run([&](int, int) { ++calls; });
  EXPECT_EQ(calls, 2);
  EXPECT_GT(second.impl().arena.num_bytes(), 0u);
  second.release_memory();
  EXPECT_EQ(second.impl().arena.num_bytes(), 0u);
}

TEST_F(ContextTest, an_unknown_device_is_an_error) {
  EXPECT_EQ(message_of(ErrorKind::unsupported, {.device = Device::cuda}),
            "Context: device must be cpu in this build, got cuda");
}

TEST_F(ContextTest, a_bad_number_of_threads_is_an_error) {
  EXPECT_EQ(message_of(ErrorKind::value, {.num_threads = -2}),
            "Context: num_threads must be in 0 ... 1024, got -2");
}

TEST_F(ContextTest, the_environment_names_the_instruction_set) {
  setenv("FUSEQ_CPU_ISA", "portable", 1);
  EXPECT_EQ(Context().cpu_isa(), CpuIsa::portable);
  setenv("FUSEQ_CPU_ISA", "automatic", 1);
  EXPECT_NE(Context().cpu_isa(), CpuIsa::automatic);
  setenv("FUSEQ_CPU_ISA", "", 1);
  EXPECT_NE(Context().cpu_isa(), CpuIsa::automatic);
  setenv("FUSEQ_CPU_ISA", "sse9", 1);
  EXPECT_EQ(message_of(ErrorKind::value, {}),
            "Context: FUSEQ_CPU_ISA must be avx512, avx2, portable or automatic, got \"sse9\"");
  EXPECT_EQ(Context({.cpu_isa = CpuIsa::portable}).cpu_isa(), CpuIsa::portable) << "an option wins";
}

TEST_F(ContextTest, an_instruction_set_is_there_or_an_error) {
  const auto expect = [](CpuIsa isa, bool there) {
    if (there) {
      EXPECT_EQ(resolve_cpu_isa(isa), isa);
      return;
    }
    EXPECT_EQ(message_of(ErrorKind::unsupported, {.cpu_isa = isa}),
              "Context: cpu_isa must be one that this machine and build have, got " +
                  std::string(name(isa)) + ". The best here is " +
                  std::string(name(resolve_cpu_isa(CpuIsa::automatic))));
  };
  expect(CpuIsa::portable, true);
  expect(CpuIsa::avx2, cpu_features().avx2);
  expect(CpuIsa::avx512, cpu_features().avx512);
}

#if defined(__linux__) && defined(__x86_64__)
TEST(CpuFeatures, agree_with_what_the_system_says) {
  std::ifstream file("/proc/cpuinfo");
  std::string flags;
  while (std::getline(file, flags) && !flags.starts_with("flags")) {
  }
  const auto has = [&](const std::string& flag) {
    return (flags + " ").find(" " + flag + " ") != std::string::npos;
  };
  const bool avx2 = has("avx2") && has("fma") && has("f16c");
  const bool avx512 =
      avx2 && has("avx512f") && has("avx512bw") && has("avx512vl") && has("avx512dq");
  EXPECT_EQ(cpu_features().avx2, avx2);
  EXPECT_EQ(cpu_features().avx512, avx512);
  EXPECT_EQ(cpu_features().avx_vnni, avx2 && has("avx_vnni"));
  EXPECT_EQ(cpu_features().avx512_bf16, avx512 && has("avx512_bf16"));
  EXPECT_EQ(cpu_features().avx512_vnni, avx512 && has("avx512_vnni"));
}
#endif

TEST(Version, of_library_and_headers_agree) {
  EXPECT_STREQ(version(), FUSEQ_VERSION);
}

}  // namespace
}  // namespace fuseq::inline v0
