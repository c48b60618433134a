// SPDX-License-Identifier: Apache-2.0
// What a Session holds, and the steps of its loop.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "decode/decode_arrays.h"
#include "decode/request.h"
#include "fuseq/context.h"
#include "fuseq/session.h"
#include "model/forward.h"
#include "model/kv_cache.h"

namespace fuseq::inline v0 {

/// The rows of one decoder pass, as they are gathered. Its vectors keep their capacity from step to
/// step.
struct DecoderRows {
  std::vector<int32_t> ids, positions, key_counts, append_lanes, cross_key_counts;
  std::vector<PassSequence> sequences;

  void clear();
  [[nodiscard]] int64_t size() const noexcept { return static_cast<int64_t>(ids.size()); }
  /// Begins the rows of one request.
  void begin_sequence(const KvRegion& self, const KvRegion& cross, const int32_t* lanes,
                      int64_t lane_stride);
  /// A row that sees everything up to its own position, and source_length encoder positions.
  void add(int32_t id, int32_t position, int32_t lane, int32_t source_length);
};

struct Session::Impl {
  /// `owner` keeps the model alive; the session that a model keeps for `generate` has none.
  Impl(const Model& model, const SessionOptions& options,
       std::shared_ptr<const Model> owner = nullptr);

  RequestId enqueue(Request request);
  bool step();
  void cancel(RequestId id);
  [[nodiscard]] Request& find(const char* call, RequestId id);

  // Parts of a step.
  void admit();
  void place(Request& request, int32_t first_row);
  [[nodiscard]] int32_t find_free_rows(int32_t count) const;
  void forward_running();
  void prefill(int64_t first_logit_row);
  void finish(Request& request, bool canceled);

  /// Encodes sources and fills their cross caches; the regions must be there.
  void encode_sources(std::span<const std::span<const int32_t>> sources,
                      std::span<const KvRegion> cross);
  /// Runs rows_ and writes the logits of the listed rows.
  void run_rows(std::span<const int32_t> logit_rows, View logits);
  [[nodiscard]] KvRegion acquire_self(int64_t max_length, int64_t prefix_length, int64_t lanes);
  [[nodiscard]] KvRegion acquire_cross(int64_t source_length);

  std::shared_ptr<const Model> owner;
  const Model& model;
  SessionOptions options;
  Context ctx;
  KvPool pool;
  DecodeArrays arrays;
  RequestId next_id = 1;
  std::unordered_map<RequestId, Request> requests;
  std::deque<RequestId> queue;
  std::vector<int32_t> active;       ///< slots of running requests
  std::vector<Request*> slot_owner;  ///< [num_rows] the request in a slot, or null
  std::vector<uint8_t> row_used;     ///< [num_rows]
  std::vector<Request*> admitted;    ///< requests that enter at this step
  std::vector<int32_t> logit_rows;   ///< rows of rows_ that a prefill wants logits of
  DecoderRows rows;

  struct OpenSequence {
    KvRegion self, cross;
    int32_t source_length = 0;
    int32_t length = 0;
    int32_t max_length = 0;
  };
  std::unordered_map<RequestId, OpenSequence> sequences;
};

}  // namespace fuseq::inline v0
