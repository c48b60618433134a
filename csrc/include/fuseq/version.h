// SPDX-License-Identifier: Apache-2.0
// The version of the headers, and of the library that runs.
#pragma once

#include "fuseq/export.h"

#define FUSEQ_VERSION_MAJOR 0
#define FUSEQ_VERSION_MINOR 1
#define FUSEQ_VERSION_PATCH 0
#define FUSEQ_VERSION "0.1.0"

namespace fuseq::inline v0 {

/// "0.1.0", as built into the library.
FUSEQ_API const char* version() noexcept;

}  // namespace fuseq::inline v0
