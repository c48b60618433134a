// SPDX-License-Identifier: Apache-2.0
// Runs one combination of settings.
#include "decode/measure.h"

#include <algorithm>
#include <chrono>
#include <string>

#include "fuseq/error.h"
#include "fuseq/kernels.h"
#include "fuseq/session.h"

namespace fuseq::bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<int32_t> some_ids(int vocab, int count, int seed) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  uint64_t state = static_cast<uint64_t>(seed) * 2654435761u + 12345;
  for (int32_t& id : ids) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    id = static_cast<int32_t>((state >> 33) % static_cast<uint64_t>(vocab));
  }
  return ids;
}

/// Bytes of the matrices that a step of the decoder reads: those of panels of the dtype, in int8
/// with what belongs to their outputs.
int64_t step_matrix_bytes(const TransformerSpec& spec, DType dtype) {
  int64_t bytes = 0;
  for (const WeightInfo& info : weight_table(spec)) {
    const bool in_layer = info.name.starts_with("decoder.") &&
                          !info.name.ends_with("cross_attn.k.weight") &&
                          !info.name.ends_with("cross_attn.v.weight");
    const bool in_head =
        info.name.starts_with("head.") || (spec.head.tied && info.name == "embed.tokens");
    if (!info.is_matrix || !(in_layer || in_head)) continue;
    const PackedMatrix panel(dtype, PackedMatrix::kPanel, info.shape[1]);
    bytes +=
        panel.num_bytes() * ((info.shape[0] + PackedMatrix::kPanel - 1) / PackedMatrix::kPanel);
  }
  return bytes;
}

}  // namespace

Measurement measure(const std::shared_ptr<const Model>& model, const Case& c, int threads,
                    int warm_ups, int repetitions) {
  const TransformerSpec& spec = model->spec();
  GenerationOptions options;
  options.num_beams = c.beams;
  options.max_new_tokens = c.new_tokens;
  options.min_new_tokens = c.new_tokens;  // stop ids are banned until then
  std::vector<std::vector<int32_t>> ids;
  for (int row = 0; row < c.batch; ++row) {
    ids.push_back(some_ids(spec.vocab, std::max(c.source_length, c.prompt_length), row));
  }
  Session session(model, {.num_threads = threads, .max_rows = c.batch * c.beams});

  Measurement result;
  for (int repetition = -warm_ups; repetition < repetitions; ++repetition) {
    std::vector<RequestId> requests;
    const auto start = Clock::now();
    for (const std::vector<int32_t>& row : ids) {
      requests.push_back(session.submit(spec.is_seq2seq()
                                            ? Prompt{.encoder_ids = row, .decoder_ids = {}}
                                            : Prompt{.encoder_ids = {}, .decoder_ids = row},
                                        options));
    }
    bool goes_on = session.step();
    const double prefill = seconds_since(start);
    int steps = 1;
    for (; goes_on; ++steps) goes_on = session.step();
    const double total = seconds_since(start);
    for (const RequestId request : requests) {
      const size_t length = session.take(request).front().ids.size();
      const auto expected = static_cast<size_t>(c.prompt_length + c.new_tokens);
      if (length != expected) {
        throw Error(ErrorKind::runtime, "fuseq-bench: every row must have " +
                                            std::to_string(expected) + " tokens, got " +
                                            std::to_string(length));
      }
    }
    if (repetition < 0) continue;
    result.seconds.push_back(total);
    result.prefill_seconds.push_back(prefill);
    result.is_split = result.is_split && steps == c.new_tokens;
  }
  return result;
}

int64_t bytes_per_step(const Model& model, const Case& c) {
  const TransformerSpec& spec = model.spec();
  const StackSpec& decoder = spec.decoder;
  // A position has a key and a value in every layer. Beams share the prompt and the source.
  const int64_t position = int64_t{2} * decoder.layers * decoder.kv_heads * decoder.head_dim *
                           static_cast<int64_t>(size_of(model.cache_dtype()));
  const int64_t shared = int64_t{c.source_length} + c.prompt_length;
  const int64_t positions = c.batch * (shared + int64_t{c.beams} * c.new_tokens / 2);
  return step_matrix_bytes(spec, model.dtype()) + positions * position;
}

}  // namespace fuseq::bench
