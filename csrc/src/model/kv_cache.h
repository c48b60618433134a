// SPDX-License-Identifier: Apache-2.0
// Caches of keys and values: one region per request, from a pool that keeps what is given back.
#pragma once

#include <cstdint>
#include <vector>

#include "fuseq/ops.h"
#include "fuseq/spec.h"
#include "fuseq/tensor.h"

namespace fuseq::inline v0 {

/// The geometry of a region: all layers of one request. A lane is a place for one hypothesis, see
/// KvView.
struct KvGeometry {
  int64_t layers = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t capacity = 0;    ///< positions, rounded up to whole key blocks
  int64_t tail_begin = 0;  ///< lanes past the first begin here, rounded down to a whole key block
  int64_t lanes = 1;
  DType dtype = DType::f32;

  KvGeometry() = default;
  /// max_length positions, of which the first prefix_length are shared by all lanes.
  KvGeometry(const StackSpec& stack, int64_t num_layers, int64_t max_length, int64_t prefix_length,
             int64_t num_lanes, DType cache_dtype);

  [[nodiscard]] int64_t layer_bytes() const noexcept;
  [[nodiscard]] int64_t num_bytes() const noexcept { return layers * layer_bytes(); }
};

/// A region's memory and geometry; borrowed.
struct KvRegion {
  KvGeometry geometry;
  void* data = nullptr;

  [[nodiscard]] KvView view(int64_t layer) const noexcept;
};

/// Zeros everywhere.
void clear(const KvRegion& region) noexcept;
/// Keys and values of lane 0, positions 0 ... S - 1, as float32 [L, 2, S, G, E]; any strides.
void read_region(const KvRegion& region, View cache);
/// The reverse; rounds to the region's dtype.
void write_region(ConstView cache, const KvRegion& region);

/// Regions for requests. Memory of regions given back is used again; its pages become resident as
/// they are written.
class KvPool {
 public:
  KvPool() = default;
  ~KvPool();
  KvPool(const KvPool&) = delete;
  KvPool& operator=(const KvPool&) = delete;

  [[nodiscard]] KvRegion acquire(const KvGeometry& geometry);
  void give_back(KvRegion& region) noexcept;
  /// Frees the memory of all regions that are not in use.
  void release_idle() noexcept;
  /// Bytes of address space held, in use or idle.
  [[nodiscard]] int64_t num_bytes() const noexcept { return num_bytes_; }

 private:
  struct Block {
    void* data;
    int64_t bytes;
  };
  std::vector<Block> idle_;
  std::vector<Block> used_;
  int64_t num_bytes_ = 0;
};

}  // namespace fuseq::inline v0
