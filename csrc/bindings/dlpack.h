// SPDX-License-Identifier: Apache-2.0
// The structs of DLPack's C ABI, by which array libraries hand each other memory.
// Source: https://dmlc.github.io/dlpack/latest/c_api.html
#pragma once

#include <cstdint>

namespace fuseq::dlpack {

inline constexpr int32_t kCpu = 1;  ///< kDLCPU

enum TypeCode : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kBool = 6 };

struct DeviceInfo {
  int32_t device_type;
  int32_t device_id;
};

struct DataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};

struct TensorInfo {
  void* data;
  DeviceInfo device;
  int32_t ndim;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;  ///< in elements; null: dense
  uint64_t byte_offset;
};

/// In a capsule named "dltensor", "used_dltensor" once taken.
struct Managed {
  TensorInfo tensor;
  void* manager;
  void (*deleter)(Managed* self);
};

/// In a capsule named "dltensor_versioned", "used_dltensor_versioned" once taken.
struct ManagedVersioned {
  struct {
    uint32_t major;
    uint32_t minor;
  } version;
  void* manager;
  void (*deleter)(ManagedVersioned* self);
  uint64_t flags;
  TensorInfo tensor;
};

inline constexpr uint64_t kReadOnly = 1;  ///< bit of `flags`

}  // namespace fuseq::dlpack
