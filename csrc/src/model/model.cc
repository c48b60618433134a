// SPDX-License-Identifier: Apache-2.0
// Builds a model from named weights, and reads and writes folders of our own.
#include "fuseq/model.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/cpu_features.h"
#include "base/file.h"
#include "base/json.h"
#include "base/message.h"
#include "fuseq/context.h"
#include "fuseq/copy.h"
#include "io/safetensors.h"
#include "model/model_impl.h"

namespace fuseq::inline v0 {
namespace {

[[nodiscard]] bool is_float(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
}

[[nodiscard]] Shape shape_of(const WeightSlot& slot) {
  return Shape(std::span<const int64_t>(slot.info.shape));
}

/// The elements of a slot's tensor that are this weight's.
[[nodiscard]] View part_of(Tensor& tensor, const WeightSlot& slot) {
  char* const data = static_cast<char*>(tensor.view().data);
  return {data + slot.first * static_cast<int64_t>(size_of(tensor.dtype())), tensor.dtype(),
          shape_of(slot)};
}

/// Writes one weight in its natural layout, dense.
void copy_weight(Context& ctx, const WeightSlot& slot, View to) {
  if (slot.matrix != nullptr) {
    unpack(ctx, *slot.matrix, to, slot.first);
  } else {
    copy(part_of(*slot.tensor, slot), to);
  }
}

/// One message for everything that does not fit: missing, unexpected, misshapen.
void check_weights(const std::vector<WeightSlot>& slots,
                   const std::unordered_map<std::string_view, const NamedView*>& given,
                   std::span<const NamedView> weights) {
  std::string faults;
  std::unordered_set<std::string_view> wanted;
  for (const WeightSlot& slot : slots) {
    wanted.insert(slot.info.name);
    const Shape shape = shape_of(slot);
    const auto found = given.find(slot.info.name);
    if (found == given.end()) {
      faults += concat("\n  missing: \"", slot.info.name, "\" ", shape.to_string());
    } else if (!(found->second->view.shape == shape)) {
      faults += concat("\n  misshapen: \"", slot.info.name, "\" must be ", shape.to_string(),
                       ", got ", found->second->view.shape.to_string());
    } else if (!is_float(found->second->view.dtype)) {
      faults +=
          concat("\n  dtype: \"", slot.info.name, "\" must be float32, float16 or bfloat16, got ",
                 name(found->second->view.dtype));
    }
  }
  for (const NamedView& weight : weights) {
    if (!wanted.contains(weight.name)) {
      faults += concat("\n  unexpected: \"", weight.name, "\" ", weight.view.shape.to_string());
    }
  }
  if (given.size() != weights.size()) faults += "\n  a name comes twice";
  if (!faults.empty())
    fail(ErrorKind::value, "weights: all must be there, in shape, and no others, got", faults);
}

[[nodiscard]] DType choose_dtype(
    const ModelOptions& options, const std::vector<WeightSlot>& slots,
    const std::unordered_map<std::string_view, const NamedView*>& given) {
  if (options.dtype) {
    if (*options.dtype == DType::f16) {
      fail(ErrorKind::value,
           "dtype: must be float32 or bfloat16 on a CPU, got float16. Use bfloat16");
    }
    require(*options.dtype == DType::f32 || *options.dtype == DType::bf16,
            "dtype: must be float32 or bfloat16, got ", name(*options.dtype));
    return *options.dtype;
  }
  const bool stored_bf16 = std::ranges::all_of(slots, [&](const WeightSlot& slot) {
    return !slot.info.is_matrix || given.at(slot.info.name)->view.dtype == DType::bf16;
  });
  return stored_bf16 ? DType::bf16 : DType::f32;
}

/// What the engine cannot run yet although a spec can say it.
void check_supported(const TransformerSpec& spec) {
  const StackSpec& first = spec.encoder.layers > 0 ? spec.encoder : spec.decoder;
  const auto unsupported = [](const auto&... parts) {
    fail(ErrorKind::unsupported, "model: ", parts...);
  };
  if (spec.embed_dim != 0 && spec.embed_dim != first.dim) {
    unsupported("embed_dim must equal dim ", first.dim, ", got ", spec.embed_dim,
                ". Projected embeddings are not there yet");
  }
  if (spec.pooler) unsupported("pooler must be off, got on. Pooled states are not there yet");
  if (spec.is_seq2seq() && spec.encoder.dim != spec.decoder.dim) {
    unsupported("encoder.dim must equal decoder.dim ", spec.decoder.dim, ", got ", spec.encoder.dim,
                ". Stacks with embeddings of their own are not there yet");
  }
}

}  // namespace

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::~Model() = default;

std::shared_ptr<const Model> Model::build(const TransformerSpec& spec,
                                          std::span<const NamedView> weights,
                                          const ModelOptions& options,
                                          const std::function<void(const NamedView&)>& done) {
  validate(spec);
  check_supported(spec);
  auto impl = std::make_unique<Impl>();
  impl->spec = spec;
  impl->options = options;
  Context ctx(
      {.device = options.device, .num_threads = options.num_threads, .cpu_isa = options.cpu_isa});

  std::vector<WeightSlot> slots = weight_slots(spec, impl->weights);
  std::unordered_map<std::string_view, const NamedView*> given;
  for (const NamedView& weight : weights) given.emplace(weight.name, &weight);
  check_weights(slots, given, weights);
  impl->dtype = choose_dtype(options, slots, given);

  for (const WeightSlot& slot : slots) {
    const NamedView& source = *given.at(slot.info.name);
    if (slot.matrix != nullptr) {
      if (slot.matrix->empty())
        *slot.matrix = PackedMatrix(impl->dtype, slot.storage.dim(0), slot.storage.dim(1));
      pack(ctx, source.view, *slot.matrix, slot.first);
    } else {
      const DType dtype = slot.info.is_matrix ? impl->dtype : DType::f32;
      if (slot.tensor->view().data == nullptr) *slot.tensor = Tensor(dtype, slot.storage);
      copy(source.view, part_of(*slot.tensor, slot));
    }
    if (done) done(source);
  }
  expand_relative_bias(spec.encoder, impl->weights.encoder);
  expand_relative_bias(spec.decoder, impl->weights.decoder);
  return std::shared_ptr<const Model>(new Model(std::move(impl)));
}

std::shared_ptr<const Model> Model::load(const std::filesystem::path& folder,
                                         const ModelOptions& options) {
  const std::filesystem::path spec_path = folder / "spec.json";
  if (!std::filesystem::exists(spec_path)) {
    fail(ErrorKind::not_found, "load: ", folder.string(),
         " must hold spec.json and model.safetensors, got no spec.json");
  }
  const TransformerSpec spec = spec_from_json(read_text_file(spec_path, kMaxJsonBytes));
  const SafeTensors file(folder / "model.safetensors");
  return build(spec, file.tensors(), options,
               [&](const NamedView& tensor) { file.release(tensor); });
}

const TransformerSpec& Model::spec() const noexcept {
  return impl_->spec;
}
DType Model::dtype() const noexcept {
  return impl_->dtype;
}
const ModelOptions& Model::options() const noexcept {
  return impl_->options;
}

int64_t Model::num_bytes() const noexcept {
  // Fused parts share one storage: count each storage at its first part.
  int64_t bytes = 0;
  for (const WeightSlot& slot : weight_slots(impl_->spec, impl_->weights)) {
    if (slot.first == 0)
      bytes += slot.matrix != nullptr ? slot.matrix->num_bytes() : slot.tensor->num_bytes();
  }
  return bytes;
}

int64_t Model::num_parameters() const noexcept {
  int64_t count = 0;
  for (const WeightSlot& slot : weight_slots(impl_->spec, impl_->weights)) {
    count += shape_of(slot).num_elements();
  }
  return count;
}

Tensor Model::weight(std::string_view name) const {
  for (const WeightSlot& slot : weight_slots(impl_->spec, impl_->weights)) {
    if (slot.info.name != name) continue;
    Context ctx({.num_threads = 1, .cpu_isa = impl_->options.cpu_isa});
    Tensor weight(slot.info.is_matrix ? impl_->dtype : DType::f32, shape_of(slot));
    copy_weight(ctx, slot, weight.view());
    return weight;
  }
  fail(ErrorKind::value, "weight: name must be in the model's weight table, got \"", name, "\"");
}

void Model::save(const std::filesystem::path& folder) const {
  Context ctx({.num_threads = impl_->options.num_threads, .cpu_isa = impl_->options.cpu_isa});
  std::vector<TensorToWrite> tensors;
  for (const WeightSlot& slot : weight_slots(impl_->spec, impl_->weights)) {
    const DType dtype = slot.info.is_matrix ? impl_->dtype : DType::f32;
    tensors.push_back({.name = slot.info.name,
                       .dtype = dtype,
                       .shape = shape_of(slot),
                       .fill = [&ctx, slot, dtype](std::span<std::byte> destination) {
                         copy_weight(ctx, slot, {destination.data(), dtype, shape_of(slot)});
                       }});
  }
  const auto fill = [&](const std::filesystem::path& unfinished) {
    write_file_atomically(unfinished / "spec.json",
                          [this](FileWriter& file) { file.write(spec_to_json(spec())); });
    write_safetensors(unfinished / "model.safetensors", tensors, {{"format", "fuseq"}});
  };
  // Weights of an older model in other files.
  write_folder_atomically(folder, fill,
                          {"model.safetensors.index.json", "model-*-of-*.safetensors",
                           "pytorch_model.bin*", "pytorch_model-*-of-*.bin"});
}

}  // namespace fuseq::inline v0
