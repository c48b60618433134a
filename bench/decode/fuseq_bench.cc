// SPDX-License-Identifier: Apache-2.0
// fuseq-bench: tokens per second of whole generations, in the manner of llama-bench.
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "decode/measure.h"
#include "decode/report.h"
#include "decode/settings.h"
#include "fuseq/context.h"
#include "fuseq/error.h"
#include "fuseq/model.h"
#include "machine_limits.h"
#include "random_weights.h"
#include "shapes.h"

namespace fuseq::bench {
namespace {

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::shared_ptr<const Model> open_model(const std::string& name, const ModelOptions& options) {
  if (const auto spec = find_shape(name)) return random_model(*spec, options);
  if (std::filesystem::is_directory(name)) return Model::load(name, options);
  std::string names;
  for (const NamedShape& shape : kShapes) names += std::string(shape.name) + ", ";
  throw Error(ErrorKind::value,
              "fuseq-bench: --models must be " + names + "or a folder, got \"" + name + "\"");
}

Record describe(const std::string& name, const Model& model, const Case& c, int threads,
                const Measurement& m) {
  std::vector<double> rates;         // tokens per second, everything included
  std::vector<double> step_seconds;  // of the steps after the first
  for (size_t i = 0; i < m.seconds.size(); ++i) {
    rates.push_back(c.batch * c.new_tokens / m.seconds[i]);
    step_seconds.push_back((m.seconds[i] - m.prefill_seconds[i]) / (c.new_tokens - 1));
  }
  const auto [lowest, highest] = std::minmax_element(rates.begin(), rates.end());
  const double step = median(step_seconds);
  const auto bytes = bytes_per_step(model, c);
  const double achieved = static_cast<double>(bytes) / step;
  const auto split = [&](double value, int digits) {
    return m.is_split ? fixed(value, digits) : "";
  };
  return {
      {"model", name, false},
      {"dtype", std::string(fuseq::name(model.dtype())), false},
      {"threads", std::to_string(threads)},
      {"batch", std::to_string(c.batch)},
      {"beams", std::to_string(c.beams)},
      {"source", std::to_string(c.source_length)},
      {"prompt", std::to_string(c.prompt_length)},
      {"new", std::to_string(c.new_tokens)},
      {"tokens/s", fixed(mean(rates), 1)},
      {"median", fixed(median(rates), 1)},
      {"spread %", fixed((*highest - *lowest) / median(rates) * 100, 1)},
      {"prefill ms", split(median(m.prefill_seconds) * 1e3, 2)},
      {"decode tokens/s", split(c.batch / step, 1)},
      {"step ms", split(step * 1e3, 3)},
      {"MB/step", fixed(static_cast<double>(bytes) / 1e6, 1)},
      {"GB/s", split(achieved / 1e9, 1)},
      {"% of read", split(achieved / read_bandwidth(bytes, threads) * 100, 1)},
  };
}

/// Every combination of lengths, batches and beams; lengths that the kind of model has not are
/// fixed.
std::vector<Case> cases_of(const Settings& settings, bool is_seq2seq) {
  const std::vector<int> sources = is_seq2seq ? settings.source_lengths : std::vector<int>{0};
  // A sequence-to-sequence row starts from its start id.
  const std::vector<int> prompts = is_seq2seq ? std::vector<int>{1} : settings.prompt_lengths;
  std::vector<Case> cases = {{}};
  const auto cross = [&cases](const std::vector<int>& values, int Case::* field) {
    std::vector<Case> product;
    for (const Case& c : cases) {
      for (const int value : values) {
        product.push_back(c);
        product.back().*field = value;
      }
    }
    cases = std::move(product);
  };
  cross(sources, &Case::source_length);
  cross(prompts, &Case::prompt_length);
  cross(settings.new_tokens, &Case::new_tokens);
  cross(settings.batches, &Case::batch);
  cross(settings.beams, &Case::beams);
  return cases;
}

void run(const Settings& settings) {
  const Header header = describe_machine(settings.isa);
  begin_report(std::cout, settings.output, header);
  bool is_first = true;
  for (const std::string& name : settings.models) {
    for (const DType dtype : settings.dtypes) {
      const auto model = open_model(name, {.dtype = dtype, .cpu_isa = settings.isa});
      for (const int wanted_threads : settings.threads) {
        const int threads = Context({.num_threads = wanted_threads}).num_threads();
        for (const Case& c : cases_of(settings, model->spec().is_seq2seq())) {
          const Measurement m = measure(model, c, threads, settings.warm_ups, settings.repetitions);
          print_record(std::cout, settings.output, header, describe(name, *model, c, threads, m),
                       is_first);
          is_first = false;
        }
      }
    }
  }
  end_report(std::cout, settings.output);
}

}  // namespace
}  // namespace fuseq::bench

int main(int argc, char** argv) {
  try {
    const auto settings = fuseq::bench::parse_settings({argv + 1, argv + argc});
    if (settings.help) {
      std::cout << fuseq::bench::usage();
    } else {
      fuseq::bench::run(settings);
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
  return 0;
}
