// SPDX-License-Identifier: Apache-2.0
// Asks the CPU and the system which vector instructions may be used.
#include "base/cpu_features.h"

#include <cstdint>
#include <cstdlib>

#include "base/message.h"

#if defined(FUSEQ_HAVE_X86)
#include <cpuid.h>
#endif

namespace fuseq::inline v0 {

namespace {

#if defined(FUSEQ_HAVE_X86)

/// The registers that the system saves for each thread (XCR0); only where CPUID says OSXSAVE.
uint64_t saved_state() noexcept {
  uint32_t low = 0;
  uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

CpuFeatures detect() noexcept {
  CpuFeatures features;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return features;
  const auto bit = [](unsigned word, int index) { return ((word >> index) & 1u) != 0; };
  const bool fma = bit(ecx, 12);
  const bool f16c = bit(ecx, 29);
  const bool osxsave = bit(ecx, 27);
  if (!osxsave || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return features;

  constexpr uint64_t kYmm = 0x06;  // xmm and the upper halves of ymm
  constexpr uint64_t kZmm = 0xe6;  // those, mask registers and both kinds of zmm state
  const uint64_t state = saved_state();
  features.avx2 = (state & kYmm) == kYmm && bit(ebx, 5) && fma && f16c;
  features.avx512 = features.avx2 && (state & kZmm) == kZmm &&  //
                    bit(ebx, 16) && bit(ebx, 17) && bit(ebx, 30) && bit(ebx, 31);
  features.avx512_vnni = features.avx512 && bit(ecx, 11);
  if (!__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) return features;
  features.avx_vnni = features.avx2 && bit(eax, 4);
  features.avx512_bf16 = features.avx512 && bit(eax, 5);
  return features;
}

#else

CpuFeatures detect() noexcept {
  return {};
}

#endif

CpuIsa best() noexcept {
  if (cpu_features().avx512) return CpuIsa::avx512;
  return cpu_features().avx2 ? CpuIsa::avx2 : CpuIsa::portable;
}

bool has(CpuIsa isa) noexcept {
  switch (isa) {
    case CpuIsa::avx512: return cpu_features().avx512;
    case CpuIsa::avx2: return cpu_features().avx2;
    case CpuIsa::automatic:
    case CpuIsa::portable: return true;
  }
  return false;
}

CpuIsa isa_of(std::string_view text) {
  for (const CpuIsa isa : {CpuIsa::avx512, CpuIsa::avx2, CpuIsa::portable, CpuIsa::automatic}) {
    if (text == name(isa)) return isa;
  }
  fail(ErrorKind::value,
       "Context: FUSEQ_CPU_ISA must be avx512, avx2, portable or automatic, got \"", text, "\"");
}

}  // namespace

const CpuFeatures& cpu_features() noexcept {
  static const CpuFeatures features = detect();
  return features;
}

CpuIsa resolve_cpu_isa(CpuIsa wanted) {
  std::string_view source = "cpu_isa";
  if (wanted == CpuIsa::automatic) {
    if (const char* text = std::getenv("FUSEQ_CPU_ISA"); text != nullptr && *text != '\0') {
      wanted = isa_of(text);
      source = "FUSEQ_CPU_ISA";
    }
  }
  if (wanted == CpuIsa::automatic) return best();
  if (!has(wanted)) {
    fail(ErrorKind::unsupported, "Context: ", source,
         " must be one that this machine and build have, got ", name(wanted), ". The best here is ",
         name(best()));
  }
  return wanted;
}

std::string_view name(CpuIsa isa) noexcept {
  switch (isa) {
    case CpuIsa::automatic: return "automatic";
    case CpuIsa::portable: return "portable";
    case CpuIsa::avx2: return "avx2";
    case CpuIsa::avx512: return "avx512";
  }
  return "unknown";
}

}  // namespace fuseq::inline v0
