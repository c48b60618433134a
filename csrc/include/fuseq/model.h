// SPDX-License-Identifier: Apache-2.0
// Model: a spec and its packed weights, immutable, shared by any number of sessions.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fuseq/device.h"
#include "fuseq/dtype.h"
#include "fuseq/export.h"
#include "fuseq/spec.h"
#include "fuseq/tensor.h"

namespace fuseq::inline v0 {

struct ModelOptions {
  Device device = Device::cpu;
  /// float32, bfloat16 or int8; nothing: bfloat16 or int8 if the matrices are stored so, else
  /// float32. Weights stored as int8 become floats again where those are asked for.
  std::optional<DType> dtype;
  /// For packing and for `generate` on this model; as ContextOptions::num_threads.
  int num_threads = 0;
  CpuIsa cpu_isa = CpuIsa::automatic;
};

/// A weight under our own name. The view may be strided (a transposed or sliced matrix of a
/// checkpoint).
struct NamedView {
  std::string name;
  ConstView view;
};

class FUSEQ_API Model {
 public:
  /// Loads a folder of our own: spec.json and model.safetensors, which are mapped and packed tensor
  /// by tensor; int8 is used where it is mapped, without a copy: replace such a file by a rename,
  /// as `save` does, never in place. Throws Error(not_found), Error(format), or one Error(value)
  /// that lists every missing, unexpected and misshapen weight; all name the folder or a file of
  /// it.
  static std::shared_ptr<const Model> load(const std::filesystem::path& folder,
                                           const ModelOptions& options = {});

  /// Packs weights that the caller holds; `done`, if given, is called with each view once it is no
  /// longer needed. Throws as `load` does.
  static std::shared_ptr<const Model> build(const TransformerSpec& spec,
                                            std::span<const NamedView> weights,
                                            const ModelOptions& options = {},
                                            const std::function<void(const NamedView&)>& done = {});

  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  [[nodiscard]] const TransformerSpec& spec() const noexcept;
  [[nodiscard]] DType dtype() const noexcept;
  /// Of the keys and values that sessions keep: float32 for a float32 model, else bfloat16.
  [[nodiscard]] DType cache_dtype() const noexcept;
  [[nodiscard]] const ModelOptions& options() const noexcept;
  /// Bytes of packed weights in memory.
  [[nodiscard]] int64_t num_bytes() const noexcept;
  /// Elements of the weights in the checkpoint's shapes.
  [[nodiscard]] int64_t num_parameters() const noexcept;

  /// A copy of one weight in its natural layout: matrices of a bfloat16 model in bfloat16, all else
  /// in float32, numbers of int8 times their scales. Throws Error(value) for a name that is not in
  /// `weight_table(spec())`.
  [[nodiscard]] Tensor weight(std::string_view name) const;

  /// The same model in another dtype, packed matrix by matrix from this one; in its own it shares
  /// the matrices. Throws Error(value) for a dtype that ModelOptions does not take.
  [[nodiscard]] std::shared_ptr<const Model> to(DType dtype) const;

  /// Writes spec.json and model.safetensors, int8 matrices as they are packed. The folder is
  /// written beside its place and renamed, so that a failure leaves an old one whole; weights in
  /// other files of it go, all else stays. Throws Error(io), or Error(value) where the folder is
  /// the current one or holds it.
  void save(const std::filesystem::path& folder) const;

  struct Impl;  // model/model_impl.h
  [[nodiscard]] const Impl& impl() const noexcept { return *impl_; }

 private:
  explicit Model(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace fuseq::inline v0
