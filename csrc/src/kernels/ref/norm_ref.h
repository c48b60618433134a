// SPDX-License-Identifier: Apache-2.0
// Plain norm.
#pragma once

#include "fuseq/ops.h"

namespace fuseq::inline v0::ref {

/// As fuseq::norm, in double, without checks.
void norm(const NormArgs& args);

}  // namespace fuseq::inline v0::ref
