// SPDX-License-Identifier: Apache-2.0
// int8 matrices in a safetensors file, as they are packed: the file is marked in its metadata, and
// holds for each matrix
//   name          I8 [panels, steps, 32, 4]
//   name.scales   F32 [panels * 32]
//   name.sums     I32 [panels * 32]
// under the matrix's storage name ("encoder.0.attn.q+k+v.weight"). Numbers lie in [-127, 127],
// those past the last input or output are zeros, and sums are 128 times the sums of an output's
// numbers: `load` takes the file's word for it, since a look at each number would read the whole
// file.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "model/model_impl.h"

namespace fuseq::inline v0 {

/// Throws Error(format) for a mark of another layout.
[[nodiscard]] bool holds_int8_panels(const SafeTensors& file);

/// Points the matrices of `slots` at the file, which they keep open, and copies all else. Throws
/// one Error(value) for everything that does not fit.
void map_int8_weights(const std::shared_ptr<const SafeTensors>& file,
                      const std::vector<WeightSlot>& slots);

/// The matrices of `slots`, and the mark. Panels come first: each then begins at a cache line.
[[nodiscard]] std::vector<TensorToWrite> int8_panels_to_write(
    const std::vector<WeightSlot>& slots, std::map<std::string, std::string>& metadata);

}  // namespace fuseq::inline v0
