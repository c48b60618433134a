// SPDX-License-Identifier: Apache-2.0
// What a Session holds, and the steps of its loop.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "decode/in_use.h"
#include "decode/request.h"
#include "decode/request_rows.h"
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
  bool step(const OnToken& on_token);
  void cancel(RequestId id);
  /// Forgets all requests, whatever their state.
  void drop_all() noexcept;
  [[nodiscard]] Request& find(const char* call, RequestId id);

  // Parts of a step.
  void admit();
  void prepare(Request& request);
  void encode_ahead();
  void gather_rows();
  void add_prompt(Request& request);
  void add_running(Request& request);
  void keep_hidden(ConstView hidden);
  void choose(ConstView hidden);
  void release(Request& request);

  /// Where one source comes from and where its keys and values go.
  struct Source {
    std::span<const int32_t> ids;
    ConstView states;  ///< instead of ids
    KvRegion cross;    ///< must be there
  };
  /// Encodes sources that are ids, and fills the cross caches of all.
  void fill_cross(std::span<const Source> sources);
  /// Runs `pass` through the decoder's layers: hidden rows [N, D] in the arena, without the final
  /// norm.
  [[nodiscard]] View run_layers_of_pass();
  /// Logits of all rows of `pass`, and their hidden rows where wanted.
  [[nodiscard]] Tensor run_whole_pass(Tensor* hidden);
  [[nodiscard]] std::vector<std::vector<float>> score(
      std::span<const Prompt> prompts, std::span<const std::span<const int32_t>> targets);
  /// log softmax(logits)[wanted] of each hidden row; of rows with -1, 0.
  [[nodiscard]] std::vector<float> score_rows(ConstView hidden, std::span<const int32_t> wanted);
  /// The decoder's final norm, if it has one. to may be from.
  void apply_final_norm(ConstView from, View to);
  [[nodiscard]] DType cache_dtype() const {
    return options.cache_dtype.value_or(model.cache_dtype());
  }
  [[nodiscard]] KvRegion acquire_self(int64_t max_length, int64_t prefix_length, int64_t lanes);
  [[nodiscard]] KvRegion acquire_cross(int64_t source_length);

  std::atomic<bool> in_use = false;  ///< a public call runs

  std::shared_ptr<const Model> owner;
  const Model& model;
  SessionOptions options;
  Context ctx;
  KvPool pool;
  RequestRows rows;
  RequestId next_id = 1;
  std::unordered_map<RequestId, Request> requests;
  std::deque<RequestId> queue;
  DecoderRows pass;
  std::vector<int32_t> logit_rows;  ///< rows of `pass` whose logits a step wants
  std::vector<Source> sources;      ///< of the requests that are encoded together
  std::vector<Request*> encoded;    ///< these requests

  struct OpenSequence {
    KvRegion self, cross;
    int32_t source_length = 0;
    int32_t length = 0;
    int32_t max_length = 0;
  };
  std::unordered_map<RequestId, OpenSequence> sequences;
  [[nodiscard]] OpenSequence& find_sequence(const char* call, RequestId id);
};

}  // namespace fuseq::inline v0
