// SPDX-License-Identifier: Apache-2.0
// f32x16: sixteen float lanes, the unit in which every CPU kernel is written.
//
// AVX-512 has them in one register, AVX2 in two, portable code in an array. The arithmetic is the
// same operation by operation, so AVX-512 and AVX2 give equal bits; portable code rounds products
// and sums apart and differs in the last digits. Horizontal sums have one order: lane i + lane i +
// 8, then + 4, + 2, + 1.
#pragma once

#include <cstdint>

#if !defined(FUSEQ_ISA_NAMESPACE)
#error "compile files of kernels/cpu once per instruction set, see per_isa.h"
#endif

#if defined(__AVX512F__)
#include "kernels/cpu/simd/avx512.h"
#elif defined(__AVX2__)
#include "kernels/cpu/simd/avx2.h"
#else
#include "kernels/cpu/simd/portable.h"
#endif
#include "kernels/cpu/simd/math.h"
