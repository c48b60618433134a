// SPDX-License-Identifier: Apache-2.0
// Search: decoding without a model. The caller computes logits, the engine does the rest.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fuseq/export.h"
#include "fuseq/options.h"
#include "fuseq/session.h"
#include "fuseq/tensor.h"

namespace fuseq::inline v0 {

/// The choices of a Session for logits that come from anywhere: every sampler, beam search, rules,
/// stop tests and scores. Requests take rows and keep them until they are finished.
///
///   add(...);  while (!search.rows().empty()) search.step(logits of search.rows());
///
/// One thread uses a search at a time.
class FUSEQ_API Search {
 public:
  /// Ids are 0 ... vocab - 1. Throws Error(value).
  explicit Search(int vocab, const SessionOptions& options = {});
  ~Search();
  Search(Search&&) noexcept;
  Search& operator=(Search&&) noexcept;

  /// A row that wants logits for its next id.
  struct Row {
    RequestId request = 0;
    int index = 0;   ///< row within the request
    int parent = 0;  ///< row within the request whose past, but for the last id, this one has
    int32_t id = 0;  ///< the last id
    int length = 0;  ///< ids so far
  };

  /// Starts a request; contrastive search needs a model and is Error(unsupported). Throws
  /// Error(value) as Session::submit does, and where there are no rows left.
  RequestId add(std::span<const int32_t> prompt, const GenerationOptions& options,
                std::optional<uint64_t> seed = {}, int64_t sequence = 0);

  /// The rows of the next step, requests in the order in which they were added. Rows of a new
  /// request are alike: parent is 0.
  [[nodiscard]] std::vector<Row> rows() const;

  /// Adds one id to every row, given logits [rows().size(), V] float32 in that order.
  void step(ConstView logits);

  [[nodiscard]] std::vector<int32_t> ids(RequestId request, int row = 0) const;
  void cancel(RequestId request);
  [[nodiscard]] bool is_finished(RequestId request) const;
  /// As Session::take.
  [[nodiscard]] std::vector<Hypothesis> take(RequestId request);

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseq::inline v0
