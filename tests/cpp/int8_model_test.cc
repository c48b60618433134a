// SPDX-License-Identifier: Apache-2.0
// Models in int8: what is stored, mapped, converted and refused.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <utility>

#include "fuseq/error.h"
#include "fuseq/ops.h"
#include "fuseq/session.h"
#include "io/safetensors.h"
#include "model/model_impl.h"
#include "random_model.h"
#include "test_files.h"

namespace fuseq {
namespace {

std::shared_ptr<const Model> int8_model(const TransformerSpec& spec) {
  return test::build(spec, test::random_weights(spec, 2), {.dtype = DType::i8, .num_threads = 2});
}

std::vector<float> logits(const std::shared_ptr<const Model>& model) {
  const std::vector<int32_t> source{5, 9, 2, 7}, target{3, 8, 1};
  const Prompt prompt{
      .encoder_ids = model->spec().is_seq2seq() ? std::span(source) : std::span<const int32_t>(),
      .decoder_ids = target};
  Session session(model, {.num_threads = 1});
  const Tensor out = session.forward(std::vector<Prompt>{prompt});
  return {out.as<float>(), out.as<float>() + out.shape().num_elements()};
}

/// Every matrix, once.
std::vector<const PackedMatrix*> matrices(const Model& model) {
  std::vector<const PackedMatrix*> found;
  auto& weights = const_cast<ModelWeights&>(model.impl().weights);
  for (const WeightSlot& slot : weight_slots(model.spec(), model.dtype(), weights)) {
    if (slot.matrix != nullptr && slot.first == 0) found.push_back(slot.matrix);
  }
  return found;
}

TEST(Int8Model, a_folder_is_used_where_it_is_mapped) {
  const TempFolder folder;
  for (const auto& [name, spec] : test::all_specs()) {
    const auto model = int8_model(spec);
    model->save(folder.path() / name);
    const auto loaded = Model::load(folder.path() / name);
    EXPECT_EQ(loaded->dtype(), DType::i8);
    EXPECT_EQ(loaded->num_bytes(), model->num_bytes());
    EXPECT_TRUE(logits(loaded) == logits(model)) << name;
    const auto packed = matrices(*model);
    const auto stored = matrices(*loaded);
    ASSERT_EQ(packed.size(), stored.size());
    for (size_t i = 0; i < packed.size(); ++i) {
      EXPECT_EQ(const_cast<PackedMatrix*>(stored[i])->mutable_data(), nullptr) << "not in the file";
      EXPECT_EQ(reinterpret_cast<uintptr_t>(stored[i]->data()) % 64, 0u);
      EXPECT_EQ(std::memcmp(packed[i]->data(), stored[i]->data(),
                            static_cast<size_t>(packed[i]->num_panels() * packed[i]->panel_size())),
                0);
    }
    // What was loaded can be saved again, onto the file that it is mapped from.
    loaded->save(folder.path() / name);
    EXPECT_TRUE(logits(Model::load(folder.path() / name)) == logits(model)) << name;
  }
}

TEST(Int8Model, becomes_floats_and_int8_again) {
  const TempFolder folder;
  for (const auto& [name, spec] : test::all_specs()) {
    const auto floats = test::build(spec, test::random_weights(spec, 2), {.num_threads = 2});
    const auto model = floats->to(DType::i8);
    EXPECT_TRUE(logits(model) == logits(int8_model(spec))) << name;
    model->save(folder.path() / name);
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const auto loaded = Model::load(folder.path() / name, {.dtype = dtype});
      EXPECT_EQ(loaded->dtype(), dtype);
      EXPECT_TRUE(logits(loaded) == logits(model->to(dtype))) << name;
    }
    const auto same = model->to(DType::i8);
    EXPECT_EQ(matrices(*same)[0]->data(), matrices(*model)[0]->data());
    EXPECT_TRUE(logits(same) == logits(model)) << name;
    const auto again = model->to(DType::f32)->to(DType::i8);
    const auto before = matrices(*model);
    const auto after = matrices(*again);
    for (size_t i = 0; i < before.size(); ++i) {
      EXPECT_EQ(std::memcmp(before[i]->data(), after[i]->data(),
                            static_cast<size_t>(before[i]->num_panels() * before[i]->panel_size())),
                0);
      for (int64_t o = 0; o < before[i]->outputs(); ++o) {
        ASSERT_FLOAT_EQ(after[i]->scales()[o], before[i]->scales()[o]);
      }
    }
  }
  EXPECT_THROW((void)int8_model(test::gpt2_like())->to(DType::f16), Error);
}

TEST(Int8Model, takes_a_quarter_of_the_memory) {
  TransformerSpec spec = test::gpt2_like();
  spec.decoder.dim = 256;
  spec.decoder.heads = spec.decoder.kv_heads = 4;
  spec.decoder.head_dim = 64;
  spec.decoder.ffn_dim = 1024;
  spec.vocab = 4096;
  const auto floats = test::build(spec, test::random_weights(spec, 2), {.num_threads = 2});
  EXPECT_LT(static_cast<double>(floats->to(DType::i8)->num_bytes()),
            0.29 * static_cast<double>(floats->num_bytes()));
}

/// Writes the file of a saved int8 model again, changed by `change`.
template <typename Change>
void rewrite(const std::filesystem::path& folder, Change change) {
  std::vector<TensorToWrite> tensors;
  const SafeTensors file(folder / "model.safetensors");
  std::map<std::string, std::string> metadata = file.metadata();
  for (const NamedView& tensor : file.tensors()) {
    tensors.push_back(
        {tensor.name, tensor.view.dtype, tensor.view.shape, [&tensor](std::span<std::byte> to) {
           std::memcpy(to.data(), tensor.view.data, to.size());
         }});
  }
  change(tensors, metadata);
  write_safetensors(folder / "model.safetensors", tensors, metadata);
}

std::string message_of_load(const std::filesystem::path& folder) {
  try {
    (void)Model::load(folder);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

TEST(Int8Model, lists_every_misfit_of_a_folder) {
  const TempFolder temp;
  const std::filesystem::path folder = temp.path() / "model";
  int8_model(test::bart_like())->save(folder);
  rewrite(folder, [](auto& tensors, auto&) {
    std::erase_if(tensors, [](const TensorToWrite& tensor) {
      return tensor.name == "encoder.0.attn.q+k+v.weight.scales" ||
             tensor.name == "decoder.0.ffn.up.bias";
    });
    for (TensorToWrite& tensor : tensors) {
      if (tensor.name == "decoder.1.ffn.up.weight") tensor.shape = Shape{2, 12, 64, 4};
      if (tensor.name == "decoder.1.ffn.down.weight.sums") tensor.dtype = DType::f32;
    }
    tensors.push_back({"surplus", DType::f32, {1}, [](std::span<std::byte> to) {
                         std::memset(to.data(), 0, to.size());
                       }});
  });
  const std::string message = message_of_load(folder);
  EXPECT_TRUE(message.starts_with("load \"" + folder.string() + "\": weights: all must be there"))
      << message;
  for (const char* part : {"missing: \"encoder.0.attn.q+k+v.weight.scales\" [160]",
                           "missing: \"decoder.0.ffn.up.bias\" [80]",
                           "misshapen: \"decoder.1.ffn.up.weight\" must be [3, 12, 32, 4]",
                           "dtype: \"decoder.1.ffn.down.weight.sums\" must be int32, got float32",
                           "unexpected: \"surplus\" [1]"}) {
    EXPECT_NE(message.find(part), std::string::npos) << part << "\n" << message;
  }
}

TEST(Int8Model, refuses_panels_that_are_not_aligned) {
  const TempFolder temp;
  const std::filesystem::path folder = temp.path() / "model";
  int8_model(test::gpt2_like())->save(folder);
  rewrite(folder, [](auto& tensors, auto&) {
    tensors.insert(tensors.begin(), {"a", DType::u8, {1}, [](std::span<std::byte> to) {
                                       std::memset(to.data(), 0, to.size());
                                     }});
  });
  EXPECT_NE(message_of_load(folder).find("misaligned: \"embed.tokens\""), std::string::npos);
}

TEST(Int8Model, options_are_checked_before_a_folder_is_mapped) {
  const TempFolder temp;
  int8_model(test::gpt2_like())->save(temp.path() / "model");
  EXPECT_THROW((void)Model::load(temp.path() / "model", {.device = Device::cuda}), Error);
  EXPECT_THROW((void)Model::load(temp.path() / "model", {.num_threads = 5000}), Error);
}

TEST(Int8Model, refuses_panels_of_another_layout) {
  const TempFolder temp;
  const std::filesystem::path folder = temp.path() / "model";
  int8_model(test::gpt2_like())->save(folder);
  rewrite(folder, [](auto&, auto& metadata) { metadata["int8_panels"] = "16 outputs"; });
  EXPECT_NE(message_of_load(folder).find("int8_panels in the metadata must be"), std::string::npos);
}

}  // namespace
}  // namespace fuseq
