// SPDX-License-Identifier: Apache-2.0
// Prints the results of fuseq-bench.
#include "decode/report.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <ostream>
#include <thread>

#include "fuseq/context.h"
#include "fuseq/version.h"

namespace fuseq::bench {
namespace {

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + "\"";
}

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown CPU";
}

const char* isa_name(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::avx512: return "avx512";
    case CpuIsa::avx2: return "avx2";
    case CpuIsa::portable: return "portable";
    case CpuIsa::automatic: break;
  }
  return "automatic";
}

/// The record with the header's fields in front, for csv: every line can stand alone.
Record with_header(const Header& header, const Record& record) {
  Record all = {
      {"version", header.version, false}, {"cpu", header.cpu, false}, {"isa", header.isa, false}};
  all.insert(all.end(), record.begin(), record.end());
  return all;
}

}  // namespace

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 != 0 ? values[half] : (values[half - 1] + values[half]) / 2;
}

Header describe_machine(CpuIsa isa) {
  const Context context({.num_threads = 1, .cpu_isa = isa});
  return {version(),
          cpu_name() + ", " + std::to_string(std::thread::hardware_concurrency()) + " CPUs",
          isa_name(context.cpu_isa())};
}

void begin_report(std::ostream& out, Output output, const Header& header) {
  if (output == Output::markdown) {
    out << "fuseq " << header.version << "; " << header.cpu << "; " << header.isa << "\n\n";
  } else if (output == Output::json) {
    out << "{\"version\": " << quoted(header.version) << ", \"cpu\": " << quoted(header.cpu)
        << ", \"isa\": " << quoted(header.isa) << ", \"runs\": [";
  }
}

void print_record(std::ostream& out, Output output, const Header& header, const Record& record,
                  bool is_first) {
  if (output == Output::json) {
    out << (is_first ? "\n" : ",\n") << "  {";
    for (size_t i = 0; i < record.size(); ++i) {
      const Field& field = record[i];
      out << (i > 0 ? ", " : "") << quoted(field.name) << ": "
          << (!field.is_number      ? quoted(field.value)
              : field.value.empty() ? "null"
                                    : field.value);
    }
    out << "}" << std::flush;
    return;
  }
  const bool is_csv = output == Output::csv;
  const Record fields = is_csv ? with_header(header, record) : record;
  const auto line = [&](const auto& cell) {
    for (size_t i = 0; i < fields.size(); ++i) {
      if (is_csv) {
        out << (i > 0 ? "," : "") << cell(fields[i]);
      } else {
        out << "| " << cell(fields[i]) << " ";
      }
    }
    out << (is_csv ? "\n" : "|\n");
  };
  if (is_first) {
    line([](const Field& field) { return field.name; });
    if (!is_csv) line([](const Field& field) { return field.is_number ? "---:" : "---"; });
  }
  line([&](const Field& field) {
    if (is_csv) return field.is_number ? field.value : quoted(field.value);
    return field.value.empty() ? std::string("–") : field.value;
  });
  out << std::flush;
}

void end_report(std::ostream& out, Output output) {
  if (output == Output::json) out << "\n]}\n";
}

}  // namespace fuseq::bench
