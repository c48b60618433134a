// SPDX-License-Identifier: Apache-2.0
// The fused ops and what they need. May change in any minor version.
#pragma once

#include "fuseq/context.h"
#include "fuseq/ops.h"
#include "fuseq/tensor.h"
