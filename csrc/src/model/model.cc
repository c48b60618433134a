// SPDX-License-Identifier: Apache-2.0
// Builds a model from named weights, and reads and writes folders of our own.
#include "fuseq/model.h"

#include <algorithm>
#include <map>
#include <string>
#include <system_error>
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
#include "model/int8_panels.h"
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
void check_weights(const std::vector<WeightInfo>& table,
                   const std::unordered_map<std::string_view, const NamedView*>& given,
                   std::span<const NamedView> weights) {
  std::string faults;
  std::unordered_set<std::string_view> wanted;
  for (const WeightInfo& info : table) {
    wanted.insert(info.name);
    const Shape shape(std::span<const int64_t>(info.shape));
    const auto found = given.find(info.name);
    if (found == given.end()) {
      faults += concat("\n  missing: \"", info.name, "\" ", shape.to_string());
    } else if (!(found->second->view.shape == shape)) {
      faults += concat("\n  misshapen: \"", info.name, "\" must be ", shape.to_string(), ", got ",
                       found->second->view.shape.to_string());
    } else if (!is_float(found->second->view.dtype)) {
      faults += concat("\n  dtype: \"", info.name, "\" must be float32, float16 or bfloat16, got ",
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

void check_dtype(DType dtype) {
  if (dtype == DType::f16) {
    fail(ErrorKind::value,
         "dtype: must be float32, bfloat16 or int8 on a CPU, got float16. Use bfloat16");
  }
  require(dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::i8,
          "dtype: must be float32, bfloat16 or int8, got ", name(dtype));
}

[[nodiscard]] DType choose_dtype(
    const ModelOptions& options, const std::vector<WeightInfo>& table,
    const std::unordered_map<std::string_view, const NamedView*>& given) {
  if (options.dtype) {
    check_dtype(*options.dtype);
    return *options.dtype;
  }
  const bool stored_bf16 = std::ranges::all_of(table, [&](const WeightInfo& info) {
    return !info.is_matrix || given.at(info.name)->view.dtype == DType::bf16;
  });
  return stored_bf16 ? DType::bf16 : DType::f32;
}

/// Packs or copies one weight into its place, which is made for the first part of it.
void place_weight(Context& ctx, const WeightSlot& slot, DType dtype, ConstView source) {
  if (slot.matrix != nullptr) {
    if (slot.matrix->empty()) {
      *slot.matrix = PackedMatrix(dtype, slot.storage.dim(0), slot.storage.dim(1));
    }
    pack(ctx, source, *slot.matrix, slot.first);
    return;
  }
  if (slot.tensor->view().data == nullptr) {
    *slot.tensor = Tensor(natural_dtype(slot, dtype), slot.storage);
  }
  copy(source, part_of(*slot.tensor, slot));
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

[[nodiscard]] ContextOptions context_options(const ModelOptions& options) {
  return {.device = options.device, .num_threads = options.num_threads, .cpu_isa = options.cpu_isa};
}

[[nodiscard]] std::unique_ptr<Model::Impl> map_int8(const TransformerSpec& spec,
                                                    const std::shared_ptr<const SafeTensors>& file,
                                                    const ModelOptions& options) {
  validate(spec);
  check_supported(spec);
  const Context checks_options(context_options(options));
  auto impl = std::make_unique<Model::Impl>();
  impl->spec = spec;
  impl->options = options;
  impl->dtype = DType::i8;
  map_int8_weights(file, weight_slots(spec, DType::i8, impl->weights));
  expand_relative_bias(spec.encoder, impl->weights.encoder);
  expand_relative_bias(spec.decoder, impl->weights.decoder);
  return impl;
}

/// What is wrong with a spec or with weights then names the file or folder that holds them.
template <typename Work>
[[nodiscard]] auto naming(const std::filesystem::path& path, const Work& work) {
  try {
    return work();
  } catch (const Error& error) {
    const std::string_view text = error.what();
    for (const std::string_view of_contents : {"spec:", "model:", "weights:"}) {
      if (text.starts_with(of_contents)) {
        fail(error.kind(), "load \"", path.string(), "\": ", text);
      }
    }
    throw;
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
  Context ctx(context_options(options));

  std::unordered_map<std::string_view, const NamedView*> given;
  for (const NamedView& weight : weights) given.emplace(weight.name, &weight);
  const std::vector<WeightInfo> wanted = weight_table(spec);
  check_weights(wanted, given, weights);
  impl->dtype = choose_dtype(options, wanted, given);

  for (const WeightSlot& slot : weight_slots(spec, impl->dtype, impl->weights)) {
    const NamedView& source = *given.at(slot.info.name);
    place_weight(ctx, slot, impl->dtype, source.view);
    if (done) done(source);
  }
  expand_relative_bias(spec.encoder, impl->weights.encoder);
  expand_relative_bias(spec.decoder, impl->weights.decoder);
  return std::shared_ptr<const Model>(new Model(std::move(impl)));
}

std::shared_ptr<const Model> Model::load(const std::filesystem::path& folder,
                                         const ModelOptions& options) {
  const std::filesystem::path spec_path = folder / "spec.json";
  std::error_code refused;  // what the system refuses is an error of reading the file
  if (!std::filesystem::exists(spec_path, refused) && !refused) {
    fail(ErrorKind::not_found, "load: ", folder.string(),
         " must hold spec.json and model.safetensors, got no spec.json");
  }
  if (options.dtype) check_dtype(*options.dtype);
  const TransformerSpec spec =
      naming(spec_path, [&] { return spec_from_json(read_text_file(spec_path, kMaxJsonBytes)); });
  const auto file = std::make_shared<const SafeTensors>(folder / "model.safetensors");
  return naming(folder, [&] {
    if (holds_int8_panels(*file)) {
      const std::shared_ptr<const Model> model(new Model(map_int8(spec, file, options)));
      return options.dtype.value_or(DType::i8) == DType::i8 ? model : model->to(*options.dtype);
    }
    return build(spec, file->tensors(), options,
                 [&](const NamedView& tensor) { file->release(tensor); });
  });
}

std::shared_ptr<const Model> Model::to(DType dtype) const {
  check_dtype(dtype);
  auto impl = std::make_unique<Impl>();
  impl->spec = impl_->spec;
  impl->options = impl_->options;
  impl->options.dtype = dtype;
  impl->dtype = dtype;
  Context ctx(context_options(impl_->options));
  const std::vector<WeightSlot> from = weight_slots(spec(), impl_->dtype, impl_->weights);
  const std::vector<WeightSlot> into = weight_slots(spec(), dtype, impl->weights);
  for (size_t i = 0; i < from.size(); ++i) {
    if (from[i].matrix != nullptr && dtype == impl_->dtype) {
      *into[i].matrix = *from[i].matrix;
      continue;
    }
    Tensor weight(natural_dtype(from[i], impl_->dtype), shape_of(from[i]));
    copy_weight(ctx, from[i], weight.view());
    place_weight(ctx, into[i], dtype, weight.view());
  }
  expand_relative_bias(spec().encoder, impl->weights.encoder);
  expand_relative_bias(spec().decoder, impl->weights.decoder);
  return std::shared_ptr<const Model>(new Model(std::move(impl)));
}

const TransformerSpec& Model::spec() const noexcept {
  return impl_->spec;
}
DType Model::dtype() const noexcept {
  return impl_->dtype;
}
DType Model::cache_dtype() const noexcept {
  return impl_->dtype == DType::f32 ? DType::f32 : DType::bf16;
}
const ModelOptions& Model::options() const noexcept {
  return impl_->options;
}

int64_t Model::num_bytes() const noexcept {
  // Fused parts share one storage: count each storage at its first part.
  int64_t bytes = 0;
  for (const WeightSlot& slot : weight_slots(impl_->spec, impl_->dtype, impl_->weights)) {
    if (slot.first == 0)
      bytes += slot.matrix != nullptr ? slot.matrix->num_bytes() : slot.tensor->num_bytes();
  }
  return bytes;
}

int64_t Model::num_parameters() const noexcept {
  int64_t count = 0;
  for (const WeightSlot& slot : weight_slots(impl_->spec, impl_->dtype, impl_->weights)) {
    count += shape_of(slot).num_elements();
  }
  return count;
}

Tensor Model::weight(std::string_view name) const {
  for (const WeightSlot& slot : weight_slots(impl_->spec, impl_->dtype, impl_->weights)) {
    if (slot.info.name != name) continue;
    Context ctx({.num_threads = 1, .cpu_isa = impl_->options.cpu_isa});
    Tensor weight(natural_dtype(slot, impl_->dtype), shape_of(slot));
    copy_weight(ctx, slot, weight.view());
    return weight;
  }
  fail(ErrorKind::value, "weight: name must be in the model's weight table, got \"", name, "\"");
}

void Model::save(const std::filesystem::path& folder) const {
  Context ctx({.num_threads = impl_->options.num_threads, .cpu_isa = impl_->options.cpu_isa});
  const std::vector<WeightSlot> slots = weight_slots(impl_->spec, impl_->dtype, impl_->weights);
  std::map<std::string, std::string> metadata = {{"format", "fuseq"}};
  std::vector<TensorToWrite> tensors;
  if (impl_->dtype == DType::i8) tensors = int8_panels_to_write(slots, metadata);
  for (const WeightSlot& slot : slots) {
    if (slot.matrix != nullptr && impl_->dtype == DType::i8) continue;
    const DType dtype = natural_dtype(slot, impl_->dtype);
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
    write_safetensors(unfinished / "model.safetensors", tensors, metadata);
  };
  // Weights of an older model in other files.
  write_folder_atomically(folder, fill,
                          {"model.safetensors.index.json", "model-*-of-*.safetensors",
                           "pytorch_model.bin*", "pytorch_model-*-of-*.bin"});
}

}  // namespace fuseq::inline v0
