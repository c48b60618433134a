// SPDX-License-Identifier: Apache-2.0
// fuseq-products: how near the matrix products of models, and whole steps of them, come to what the
// machine can do.
#include <algorithm>
#include <iostream>
#include <string>
#include <vector>

#include "decode/report.h"
#include "fuseq/context.h"
#include "fuseq/error.h"
#include "machine_limits.h"
#include "products/matrices.h"
#include "products/prompt.h"
#include "products/settings.h"
#include "products/step.h"
#include "products/whole_step.h"
#include "random_weights.h"
#include "shapes.h"

namespace fuseq::bench {
namespace {

TransformerSpec spec_of(const std::string& name) {
  if (const auto spec = find_shape(name)) return *spec;
  std::string names;
  for (const NamedShape& shape : kShapes) {
    names += (names.empty() ? "" : ", ") + std::string(shape.name);
  }
  throw Error(ErrorKind::value,
              "fuseq-products: --models must be among " + names + ", got \"" + name + "\"");
}

/// Prints tables one after the other: in markdown under titles, in json as one list of runs.
class Tables {
 public:
  Tables(Output output, const Header& header) : output_(output), header_(header) {
    begin_report(std::cout, output, header);
  }
  Tables(const Tables&) = delete;
  Tables& operator=(const Tables&) = delete;
  ~Tables() { end_report(std::cout, output_); }

  void print(const std::string& title, const Record& record) {
    const bool begins = title != title_;
    if (output_ == Output::json) {
      Record named = {{"table", title, false}};
      named.insert(named.end(), record.begin(), record.end());
      print_record(std::cout, output_, header_, named, title_.empty());
    } else {
      if (begins) std::cout << (title_.empty() ? "" : "\n") << title << "\n\n";
      print_record(std::cout, output_, header_, record, begins);
    }
    title_ = title;
  }

 private:
  Output output_;
  Header header_;
  std::string title_;
};

void run_steps(const ProductSettings& settings, Tables& tables) {
  std::vector<Record> eight_rows;
  for (const std::string& model : settings.models) {
    const std::vector<LinearShape> products = step_products(spec_of(model));
    for (const DType dtype : settings.dtypes) {
      Matrices matrices(products, dtype, kBatchRows);
      const ReadBuffer buffer(std::max(kDramBytes, matrices.num_bytes()));
      for (const int threads : settings.threads) {
        Context ctx({.num_threads = threads});
        const StepRecords records =
            measure_step(model, dtype, matrices, buffer, ctx, settings.rounds);
        tables.print("The products of a decode step, 1 row", records.one_row);
        eight_rows.push_back(records.eight_rows);
      }
    }
  }
  for (const Record& record : eight_rows) {
    tables.print("The same with 8 rows, over the time of 1 row", record);
  }
}

void run_whole_steps(const ProductSettings& settings, Tables& tables) {
  for (const std::string& name : settings.models) {
    for (const DType dtype : settings.dtypes) {
      const auto model = random_model(spec_of(name), {.dtype = dtype});
      const ReadBuffer buffer(step_bytes(*model));
      for (const int wanted : settings.threads) {
        const int threads = Context({.num_threads = wanted}).num_threads();
        tables.print("The whole of a decode step, 1 row",
                     measure_whole_step(name, model, buffer, threads, settings.rounds));
      }
    }
  }
}

/// The layers of all models, equal ones once.
std::vector<std::vector<LinearShape>> prompt_layers(const ProductSettings& settings) {
  std::vector<std::vector<LinearShape>> layers;
  const auto is_same = [](const LinearShape& a, const LinearShape& b) {
    return a.inputs == b.inputs && a.outputs == b.outputs;
  };
  for (const std::string& model : settings.models) {
    const std::vector<LinearShape> products = prompt_products(spec_of(model));
    const bool is_known = std::any_of(layers.begin(), layers.end(), [&](const auto& layer) {
      return std::equal(layer.begin(), layer.end(), products.begin(), products.end(), is_same);
    });
    if (!is_known) layers.push_back(products);
  }
  return layers;
}

void run_prompts(const ProductSettings& settings, Tables& tables) {
  for (const std::vector<LinearShape>& products : prompt_layers(settings)) {
    for (const DType dtype : settings.dtypes) {
      for (const int threads : settings.threads) {
        Context ctx({.num_threads = threads});
        for (const int rows : settings.rows) {
          for (const Record& record : measure_prompt(products, dtype, rows, ctx, settings.rounds)) {
            tables.print("The products of an encoder's or a prompt's layer", record);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace fuseq::bench

int main(int argc, char** argv) {
  using namespace fuseq::bench;
  try {
    const ProductSettings settings = parse_product_settings({argv + 1, argv + argc});
    if (settings.help) {
      std::cout << product_usage();
      return 0;
    }
    for (const std::string& model : settings.models) static_cast<void>(spec_of(model));
    Tables tables(settings.output, describe_machine(fuseq::CpuIsa::automatic));
    run_steps(settings, tables);
    run_whole_steps(settings, tables);
    run_prompts(settings, tables);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
  return 0;
}
