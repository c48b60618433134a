// SPDX-License-Identifier: Apache-2.0
// Plain versions of append_kv, attention and dense_attention; the contracts are in fuseq/ops.h.
// Arguments are trusted.
#pragma once

#include "fuseq/ops.h"

namespace fuseq::inline v0::ref {

void append_kv(const AppendKvArgs& args);
void attention(const AttentionArgs& args);
void dense_attention(const DenseAttentionArgs& args);

}  // namespace fuseq::inline v0::ref
