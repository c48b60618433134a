// SPDX-License-Identifier: Apache-2.0
// Reads the command line of fuseq-products.
#include "products/settings.h"

#include "decode/arguments.h"

namespace fuseq::bench {

ProductSettings parse_product_settings(const std::vector<std::string>& arguments) {
  ProductSettings settings;
  for (const Argument& argument : read_arguments("fuseq-products", arguments)) {
    const std::string& option = argument.option;
    if (option == "--help") {
      settings.help = true;
      return settings;
    }
    if (option == "--models") {
      settings.models = argument.words();
    } else if (option == "--dtypes") {
      settings.dtypes = argument.dtypes();
    } else if (option == "--threads") {
      settings.threads = argument.numbers(0);
    } else if (option == "--rows") {
      settings.rows = argument.numbers(1);
    } else if (option == "--rounds") {
      settings.rounds = argument.number(1);
    } else if (option == "--output") {
      settings.output =
          argument.choose<Output>({{"markdown", Output::markdown}, {"json", Output::json}});
    } else {
      Argument{argument.program, "an option", option}.refuse("one of those that --help lists");
    }
  }
  return settings;
}

const char* product_usage() noexcept {
  return R"(fuseq-products: the matrix products and steps of models beside what the machine can do, in the same rounds

  --models LIST   tiny, tiny-causal, bart-base, bart-large, marian-base, gpt2, gpt2-medium,
                  gpt2-large                                    [bart-base,gpt2]
  --dtypes LIST   float32, bfloat16, int8                       [float32,bfloat16,int8]
  --threads LIST  0: the library's choice                       [0]
  --rows LIST     rows of encoders and prompts                  [256,512,1024]
  --rounds N      limit, product, limit, product, ...           [8]
  --output NAME   markdown, json                                [markdown]
)";
}

}  // namespace fuseq::bench
