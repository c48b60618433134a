// SPDX-License-Identifier: Apache-2.0
// InUse: one call at a time on an object that is no place for two.
#pragma once

#include <atomic>

#include "base/message.h"

namespace fuseq::inline v0 {

/// Holds `flag` while a public call runs. A second call, from a callback or from another thread, is
/// Error(runtime) that names it.
class InUse {
 public:
  InUse(std::atomic<bool>& flag, const char* call) : flag_(flag) {
    if (flag.exchange(true)) {
      fail(ErrorKind::runtime, call,
           ": must not be called while another call of the same object runs, from a callback or "
           "from another thread");
    }
  }
  ~InUse() { flag_ = false; }
  InUse(const InUse&) = delete;
  InUse& operator=(const InUse&) = delete;

 private:
  std::atomic<bool>& flag_;
};

}  // namespace fuseq::inline v0
