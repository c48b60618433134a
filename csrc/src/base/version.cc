// SPDX-License-Identifier: Apache-2.0
// The version that was built into the library.
#include "fuseq/version.h"

namespace fuseq::inline v0 {

const char* version() noexcept {
  return FUSEQ_VERSION;
}

}  // namespace fuseq::inline v0
