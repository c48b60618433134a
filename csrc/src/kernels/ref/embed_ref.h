// SPDX-License-Identifier: Apache-2.0
// Plain embed.
#pragma once

#include "fuseq/ops.h"

namespace fuseq::inline v0::ref {

/// As fuseq::embed, in float32, without checks.
void embed(const EmbedArgs& args);

}  // namespace fuseq::inline v0::ref
