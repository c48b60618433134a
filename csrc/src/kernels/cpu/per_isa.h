// SPDX-License-Identifier: Apache-2.0
// Files in kernels/cpu are compiled once per instruction set, each time into a namespace of that
// set's name, so that no function compiled for a newer CPU can be linked into code for an older
// one. This header declares and picks them.
//
// A kernel header (kernels/cpu/norm.h) says
//     FUSEQ_DECLARE_PER_ISA(void norm_rows(const NormRows& args, int64_t begin, int64_t end))
// its source (kernels/cpu/norm.cc) defines it inside `namespace fuseq::inline
// v0::cpu::FUSEQ_ISA_NAMESPACE`, and the door (kernels/norm.cc) calls FUSEQ_PICK(isa,
// norm_rows)(args, begin, end).
#pragma once

#include "fuseq/device.h"

#if defined(FUSEQ_HAVE_X86)
#define FUSEQ_DECLARE_PER_ISA(...) \
  namespace portable {             \
  __VA_ARGS__;                     \
  }                                \
  namespace avx2 {                 \
  __VA_ARGS__;                     \
  }                                \
  namespace avx512 {               \
  __VA_ARGS__;                     \
  }
#define FUSEQ_PICK(isa, function)                                    \
  ((isa) == ::fuseq::CpuIsa::avx512 ? ::fuseq::cpu::avx512::function \
   : (isa) == ::fuseq::CpuIsa::avx2 ? ::fuseq::cpu::avx2::function   \
                                    : ::fuseq::cpu::portable::function)
#else
#define FUSEQ_DECLARE_PER_ISA(...) \
  namespace portable {             \
  __VA_ARGS__;                     \
  }
#define FUSEQ_PICK(isa, function) (::fuseq::cpu::portable::function)
#endif
