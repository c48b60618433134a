// SPDX-License-Identifier: Apache-2.0
// Prints the results of fuseq-bench as markdown, csv or json.
#pragma once

#include <iosfwd>
#include <string>
#include <utility>
#include <vector>

#include "decode/settings.h"

namespace fuseq::bench {

struct Field {
  std::string name;
  std::string value;
  bool is_number = true;
};
using Record = std::vector<Field>;

/// A number with so many digits after the point.
[[nodiscard]] std::string fixed(double value, int digits);
[[nodiscard]] double median(std::vector<double> values);

/// What is the same for all records: version, CPU, instruction set.
struct Header {
  std::string version;
  std::string cpu;
  std::string isa;
};

[[nodiscard]] Header describe_machine(CpuIsa isa);
/// The first lines.
void begin_report(std::ostream& out, Output output, const Header& header);
/// One result, printed as soon as it is there.
void print_record(std::ostream& out, Output output, const Header& header, const Record& record,
                  bool is_first);
void end_report(std::ostream& out, Output output);

}  // namespace fuseq::bench
