// SPDX-License-Identifier: Apache-2.0
// The one exception type of the library.
#pragma once

#include <stdexcept>
#include <string>

#include "fuseq/export.h"

namespace fuseq::inline v0 {

/// What went wrong, so that callers and bindings can react without reading the message.
enum class ErrorKind {
  value,        ///< an argument is out of range, contradictory or misshapen (ValueError)
  type,         ///< an argument has the wrong dtype or kind (TypeError)
  not_found,    ///< a file or folder is not there (FileNotFoundError)
  format,       ///< a file is there but is not what it should be (ValueError)
  io,           ///< the system refused to read or write (OSError)
  unsupported,  ///< well formed, but this build or device cannot do it (RuntimeError)
  runtime,      ///< all else, our own faults included (RuntimeError)
};

/// Thrown by every function of the library that can fail. The message reads
/// `<call>: <what must hold>, got <what came>. <what to do, if known>`.
class FUSEQ_API Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  [[nodiscard]] ErrorKind kind() const noexcept { return kind_; }

 private:
  ErrorKind kind_;
};

}  // namespace fuseq::inline v0
