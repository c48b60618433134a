// SPDX-License-Identifier: Apache-2.0
// Model: building, refusing, saving and loading.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "fuseq/error.h"
#include "fuseq/session.h"
#include "random_model.h"

namespace fuseq {
namespace {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "fuseq-model-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         std::memcmp(a.view().data, b.view().data, static_cast<size_t>(a.num_bytes())) == 0;
}

TEST(Model, gives_its_weights_back) {
  for (const auto& [name, spec] : test::all_specs()) {
    const test::Weights weights = test::random_weights(spec, 1);
    const auto model = test::build(spec, weights);
    int64_t parameters = 0;
    for (const auto& [weight_name, tensor] : weights) {
      EXPECT_TRUE(same_bytes(model->weight(weight_name), tensor)) << name << " " << weight_name;
      parameters += tensor.shape().num_elements();
    }
    EXPECT_EQ(model->num_parameters(), parameters) << name;
    EXPECT_GE(model->num_bytes(), parameters * 4) << name;
  }
}

TEST(Model, lists_every_misfit_in_one_error) {
  const TransformerSpec spec = test::gpt2_like();
  test::Weights weights = test::random_weights(spec, 1);
  weights.erase("decoder.1.ffn.up.weight");
  weights.erase("decoder.final_norm.bias");
  weights["decoder.0.attn.q.bias"] = Tensor(DType::f32, {7});
  weights["surplus"] = Tensor(DType::f32, {2});
  weights["decoder.positions"] = Tensor(DType::i32, weights["decoder.positions"].shape());
  try {
    (void)test::build(spec, weights);
    FAIL() << "no error";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(error.kind(), ErrorKind::value);
    for (const char* part :
         {"missing: \"decoder.1.ffn.up.weight\" [80, 48]", "missing: \"decoder.final_norm.bias\"",
          "misshapen: \"decoder.0.attn.q.bias\" must be [48], got [7]",
          "unexpected: \"surplus\" [2]", "dtype: \"decoder.positions\""}) {
      EXPECT_NE(message.find(part), std::string::npos) << part << "\n" << message;
    }
  }
}

TEST(Model, refuses_dtypes_it_cannot_compute_in) {
  const TransformerSpec spec = test::gpt2_like();
  const test::Weights weights = test::random_weights(spec, 1);
  for (const DType dtype : {DType::f16, DType::i16}) {
    EXPECT_THROW((void)test::build(spec, weights, {.dtype = dtype}), Error);
  }
}

TEST(Model, loads_what_it_saves_bit_for_bit) {
  const TemporaryFolder folder;
  for (const auto& [name, spec] : test::all_specs()) {
    for (const DType dtype : {DType::f32, DType::bf16, DType::i8}) {
      const auto model = test::build(spec, test::random_weights(spec, 2), {.dtype = dtype});
      const std::filesystem::path path = folder.path() / name;
      model->save(path);
      const auto again = Model::load(path);
      EXPECT_EQ(again->dtype(), dtype) << name;
      EXPECT_EQ(spec_to_json(again->spec()), spec_to_json(spec));
      for (const WeightInfo& info : weight_table(spec)) {
        EXPECT_TRUE(same_bytes(again->weight(info.name), model->weight(info.name)))
            << name << " " << info.name;
      }
    }
  }
}

TEST(Model, names_the_folder_whose_spec_or_weights_are_wrong) {
  const TemporaryFolder folder;
  const TransformerSpec spec = test::gpt2_like();
  const std::filesystem::path path = folder.path() / "model";
  test::build(spec, test::random_weights(spec, 2))->save(path);
  const auto message = [&](const std::string& text) -> std::string {
    std::ofstream(path / "spec.json") << text;
    try {
      (void)Model::load(path);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  TransformerSpec larger = spec;
  larger.vocab += 1;
  EXPECT_TRUE(message(spec_to_json(larger))
                  .starts_with("load \"" + path.string() + "\": weights: all must be there"));
  for (const char* wrong : {"{", R"({"vocabulary": 3})"}) {
    EXPECT_TRUE(
        message(wrong).starts_with("load \"" + (path / "spec.json").string() + "\": spec: "))
        << message(wrong);
  }
}

TEST(Model, says_what_a_folder_lacks) {
  const TemporaryFolder folder;
  try {
    (void)Model::load(folder.path() / "nowhere");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::not_found);
  }
  try {
    (void)Model::load(folder.path() / std::string(300, 'n'));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::io);
    EXPECT_NE(std::string(error.what()).find("File name too long"), std::string::npos);
  }
  const TransformerSpec spec = test::gpt2_like();
  test::build(spec, test::random_weights(spec, 3))->save(folder.path() / "cut");
  const std::filesystem::path file = folder.path() / "cut" / "model.safetensors";
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 10);
  EXPECT_THROW((void)Model::load(folder.path() / "cut"), Error);
  std::ofstream(folder.path() / "cut" / "spec.json") << "{\"vocab\": ";
  EXPECT_THROW((void)Model::load(folder.path() / "cut"), Error);
}

}  // namespace
}  // namespace fuseq
