// SPDX-License-Identifier: Apache-2.0
#include "model/int8_panels.h"

#include <cstring>
#include <set>
#include <span>
#include <utility>

#include "base/message.h"
#include "fuseq/copy.h"

namespace fuseq::inline v0 {
namespace {

constexpr const char* kMark = "int8_panels";
constexpr const char* kLayout = "32 outputs x 4 inputs";

std::string scales_name(const WeightSlot& slot) {
  return slot.storage_name + ".scales";
}
std::string sums_name(const WeightSlot& slot) {
  return slot.storage_name + ".sums";
}

/// The matrix's outputs with those that fill up the last panel.
int64_t padded_outputs(const WeightSlot& slot) {
  return (slot.storage.dim(0) + PackedMatrix::kPanel - 1) / PackedMatrix::kPanel *
         PackedMatrix::kPanel;
}

Shape panels_shape(const WeightSlot& slot) {
  return {padded_outputs(slot) / PackedMatrix::kPanel, (slot.storage.dim(1) + 3) / 4,
          PackedMatrix::kPanel, 4};
}

Shape natural_shape(const WeightSlot& slot) {
  return Shape(std::span<const int64_t>(slot.info.shape));
}

/// Finds tensors by name, notes what does not fit, and which were used.
class Finder {
 public:
  explicit Finder(const SafeTensors& file) : file_(file) {}

  /// An empty view if the tensor is not there or is not what it must be.
  ConstView find(const std::string& tensor, DType dtype, const Shape& shape) {
    used_.insert(tensor);
    const NamedView* const found = file_.find(tensor);
    if (found == nullptr) {
      faults_ += concat("\n  missing: \"", tensor, "\" ", shape.to_string());
      return {};
    }
    if (!(found->view.shape == shape)) {
      faults_ += concat("\n  misshapen: \"", tensor, "\" must be ", shape.to_string(), ", got ",
                        found->view.shape.to_string());
      return {};
    }
    if (found->view.dtype != dtype) {
      faults_ += concat("\n  dtype: \"", tensor, "\" must be ", name(dtype), ", got ",
                        name(found->view.dtype));
      return {};
    }
    // Panels are read as words of four bytes.
    if (reinterpret_cast<uintptr_t>(found->view.data) % sizeof(uint32_t) != 0) {
      faults_ += concat("\n  misaligned: \"", tensor, "\" must begin at a multiple of 4");
      return {};
    }
    return found->view;
  }

  void finish() {
    for (const NamedView& tensor : file_.tensors()) {
      if (!used_.contains(tensor.name)) {
        faults_ += concat("\n  unexpected: \"", tensor.name, "\" ", tensor.view.shape.to_string());
      }
    }
    for (const std::string& tensor : file_.unsupported()) {
      faults_ += concat("\n  unexpected: \"", tensor, "\"");
    }
    if (!faults_.empty()) {
      fail(ErrorKind::value, "weights: all must be there, in shape, and no others, got", faults_);
    }
  }

 private:
  const SafeTensors& file_;
  std::set<std::string, std::less<>> used_;
  std::string faults_;
};

TensorToWrite bytes_to_write(std::string name, DType dtype, Shape shape, const void* data) {
  return {.name = std::move(name),
          .dtype = dtype,
          .shape = shape,
          .fill = [data](std::span<std::byte> to) { std::memcpy(to.data(), data, to.size()); }};
}

}  // namespace

bool holds_int8_panels(const SafeTensors& file) {
  const auto mark = file.metadata().find(kMark);
  if (mark == file.metadata().end()) return false;
  if (mark->second != kLayout) {
    fail(ErrorKind::format, "load \"", file.path().string(), "\": ", kMark,
         " in the metadata must be \"", kLayout, "\", got \"", mark->second, "\"");
  }
  return true;
}

void map_int8_weights(const std::shared_ptr<const SafeTensors>& file,
                      const std::vector<WeightSlot>& slots) {
  Finder finder(*file);
  for (const WeightSlot& slot : slots) {
    if (slot.matrix != nullptr) {
      if (slot.first != 0) continue;
      const Shape beside = {padded_outputs(slot)};
      const ConstView panels = finder.find(slot.storage_name, DType::i8, panels_shape(slot));
      const ConstView scales = finder.find(scales_name(slot), DType::f32, beside);
      const ConstView sums = finder.find(sums_name(slot), DType::i32, beside);
      if (!panels || !scales || !sums) continue;
      *slot.matrix = PackedMatrix(file, panels.as<int8_t>(), scales.as<float>(), sums.as<int32_t>(),
                                  slot.storage.dim(0), slot.storage.dim(1));
      continue;
    }
    const ConstView stored = finder.find(slot.info.name, DType::f32, natural_shape(slot));
    if (!stored) continue;
    if (slot.tensor->view().data == nullptr) *slot.tensor = Tensor(DType::f32, slot.storage);
    copy(stored, View(slot.tensor->as<float>() + slot.first, DType::f32, natural_shape(slot)));
  }
  finder.finish();
}

std::vector<TensorToWrite> int8_panels_to_write(const std::vector<WeightSlot>& slots,
                                                std::map<std::string, std::string>& metadata) {
  metadata.emplace(kMark, kLayout);
  std::vector<TensorToWrite> tensors;
  const auto each_matrix = [&](auto add) {
    for (const WeightSlot& slot : slots) {
      if (slot.matrix != nullptr && slot.first == 0) add(slot, std::as_const(*slot.matrix));
    }
  };
  each_matrix([&](const WeightSlot& slot, const PackedMatrix& matrix) {
    tensors.push_back(
        bytes_to_write(slot.storage_name, DType::i8, panels_shape(slot), matrix.data()));
  });
  each_matrix([&](const WeightSlot& slot, const PackedMatrix& matrix) {
    const Shape beside = {padded_outputs(slot)};
    tensors.push_back(bytes_to_write(scales_name(slot), DType::f32, beside, matrix.scales()));
    tensors.push_back(bytes_to_write(sums_name(slot), DType::i32, beside, matrix.sums()));
  });
  return tensors;
}

}  // namespace fuseq::inline v0
