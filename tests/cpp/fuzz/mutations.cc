// SPDX-License-Identifier: Apache-2.0
// Valid files to begin with, and random damage to them.
#include "fuzz/mutations.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

namespace fuseq::inline v0 {

namespace {

constexpr size_t kLengthBytes = 8;

/// Pieces that matter to the two formats.
constexpr std::array<std::string_view, 40> kTokens = {"{",
                                                      "}",
                                                      "[",
                                                      "]",
                                                      ",",
                                                      ":",
                                                      "\"",
                                                      "\\",
                                                      "\\u",
                                                      "\\ud800",
                                                      "\\udc00",
                                                      "\\u0000",
                                                      "null",
                                                      "true",
                                                      "false",
                                                      "NaN",
                                                      "-",
                                                      "0",
                                                      "-0",
                                                      "1e999",
                                                      "1e-999",
                                                      "9223372036854775807",
                                                      "9223372036854775808",
                                                      "18446744073709551615",
                                                      "\"dtype\":",
                                                      "\"shape\":",
                                                      "\"data_offsets\":",
                                                      "\"F32\"",
                                                      "\"F4\"",
                                                      "\"F8_E4M3\"",
                                                      "\"BOOL\"",
                                                      "\"__metadata__\":",
                                                      "[0,0]",
                                                      "[[[[[[[[[[[[[[[[",
                                                      "\xc0\x80",
                                                      "\xed\xa0\x80",
                                                      "\xf4\x90\x80\x80",
                                                      "\xff",
                                                      " ",
                                                      "0.5"};

std::string with_length(std::string header, size_t data_bytes) {
  std::string file;
  for (size_t i = 0; i < kLengthBytes; ++i)
    file.push_back(static_cast<char>(header.size() >> (8 * i)));
  return file + header + std::string(data_bytes, '\x3f');
}

}  // namespace

std::vector<std::string> json_seeds() {
  std::string wide = "{";
  for (int i = 0; i < 300; ++i)
    wide += "\"key" + std::to_string(i) + "\": [" + std::to_string(i) + ", 1.25e-3, null],\n";
  std::string numbers = "[";
  for (int i = 0; i < 2000; ++i) numbers += std::to_string(i * 7919 % 10007) + ",";
  return {
      R"({"family": "bart", "vocab": 50265, "embed_scale": 1.0, "eos_ids": [2], "encoder": {"layers": 6, "dim": 768,
  "norm_eps": 1e-05, "windows": [0], "rope": [], "gated_ffn": false}, "decoder": {"layers": 6, "act": "gelu"}})",
      R"({"metadata":{"total_size":1},"weight_map":{"a\u00e9\ud83d\ude00":"model-00001-of-00002.safetensors"}})",
      "[[[[[[[[1,-2.5,3e7,\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]]]]]]]]",
      wide + "\"last\": {}}",
      numbers + "0]",
      std::string(64, '[') + std::string(64, ']'),
      "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"",
      "null"};
}

std::vector<std::string> safetensors_seeds() {
  std::string many = R"({"__metadata__":{"format":"pt"})";
  for (int i = 0; i < 100; ++i) {
    many += ",\"decoder." + std::to_string(i) +
            ".weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[" +
            std::to_string(24 * i) + "," + std::to_string(24 * i + 24) + "]}";
  }
  std::string empties = "{";
  for (int i = 0; i < 400; ++i) {
    empties += (i > 0 ? ",\"" : "\"") + std::to_string(i) +
               R"(":{"dtype":"I8","shape":[0],"data_offsets":[0,0]})";
  }
  return {
      with_length("{}", 0),
      with_length(R"({"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}      )", 16),
      with_length(
          R"({"b":{"dtype":"BF16","shape":[3],"data_offsets":[4,10]},"a":{"dtype":"U8","shape":[4],)"
          R"("data_offsets":[0,4]},"\u00e9":{"shape":[],"data_offsets":[10,18],"dtype":"F64"}})",
          18),
      with_length(R"({"q":{"dtype":"F8_E4M3","shape":[1,2,1,2,1,2],"data_offsets":[0,8]}})", 8),
      with_length(R"({"z":{"dtype":"F32","shape":[0,4611686018427387904,1],"data_offsets":[0,0]}})",
                  0),
      with_length(many + "}", 2400),
      with_length(empties + "}", 0)};
}

std::vector<std::string> large_bad_safetensors() {
  constexpr int kMany = 60'000;
  std::string empties = "{";
  std::string pairs = R"({"__metadata__":{)";
  std::string escapes;
  std::string spaces;
  for (int i = 0; i < kMany; ++i) {
    empties += "\"" + std::to_string(i) + R"(":{"dtype":"I8","shape":[],"data_offsets":[0,0]},)";
    pairs += "\"" + std::to_string(i) + R"(":"",)";
    escapes += "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn\\n";
    spaces += "\t\n                              ";
  }
  std::vector<std::string> headers = {empties,
                                      pairs,
                                      "{\"" + escapes + "x\":{",
                                      "{\"" + escapes,
                                      R"({"a":{"dtype":")" + escapes + "\"}}",
                                      R"({"__metadata__":{"a":")" + escapes + "\"}},",
                                      R"({"a":{"shape":[)" + std::string(kMany, '1') + "]}}",
                                      "{" + spaces,
                                      R"({"a":{"more":)" + std::string(64, '[') + empties};
  // Well formed to the end, but all of one name.
  std::string same = "{";
  for (int i = 0; i < kMany; ++i) same += R"("a":{"dtype":"I8","shape":[0],"data_offsets":[0,0]},)";
  same.back() = '}';
  headers.push_back(same);
  for (std::string& header : headers) header = with_length(std::move(header), 0);
  return headers;
}

void Mutator::change_number(std::string& file) {
  std::vector<size_t> digits;
  for (size_t i = 0; i < file.size(); ++i) {
    if (file[i] >= '0' && file[i] <= '9') digits.push_back(i);
  }
  if (digits.empty()) return;
  const size_t at = digits[below(digits.size())];
  file[at] = static_cast<char>('0' + below(10));
  if (below(4) == 0) file.insert(at, std::to_string(random_() >> below(64)));
}

void Mutator::change_length_field(std::string& file) {
  if (file.size() < kLengthBytes) return;
  constexpr std::array<uint64_t, 6> kLengths = {
      0, 1, 100'000'000, 100'000'001, ~uint64_t{0}, uint64_t{1} << 63};
  uint64_t length = kLengths[below(kLengths.size())];
  if (below(2) == 0) length = file.size() - kLengthBytes + below(3) - 1;
  for (size_t i = 0; i < kLengthBytes; ++i) file[i] = static_cast<char>(length >> (8 * i));
}

void Mutator::change(std::string& file, const std::vector<std::string>& seeds) {
  const size_t at = below(file.size() + 1);
  const size_t length = std::min(below(30), file.size() - at);
  switch (below(10)) {
    case 0:
      if (at < file.size()) file[at] = static_cast<char>(file[at] ^ (1 << below(8)));
      break;
    case 1:
      if (at < file.size()) file[at] = static_cast<char>(below(256));
      break;
    case 2: file.erase(at, length); break;
    case 3: file.insert(at, kTokens[below(kTokens.size())]); break;
    case 4: file.replace(at, length, kTokens[below(kTokens.size())]); break;
    case 5: file.insert(at, file.substr(below(file.size()), below(200))); break;
    case 6: {  // a piece of another file
      const std::string& other = seeds[below(seeds.size())];
      file.insert(at, other.substr(below(other.size()), below(200)));
      break;
    }
    case 7: change_number(file); break;
    case 8: change_length_field(file); break;
    case 9:
      if (below(4) == 0) file.resize(at);
      break;
    default: break;
  }
}

std::string Mutator::mutate(const std::vector<std::string>& seeds) {
  std::string file = seeds[below(seeds.size())];
  const size_t header_end = file.find_last_of('}');
  const bool mend = below(2) == 0;
  const size_t before = file.size();
  for (size_t changes = below(2) == 0 ? 1 : below(8) + 1; changes > 0; --changes)
    change(file, seeds);
  // A length field that counts what the changes added or took away; only safetensors files begin
  // with one.
  const bool has_length = before >= kLengthBytes && seeds.front().front() == '\2';
  if (mend && has_length && file.size() >= kLengthBytes && header_end != std::string::npos) {
    const size_t moved =
        header_end + 1 + file.size() > before ? header_end + 1 + file.size() - before : 0;
    const size_t end = file.find_last_of('}', std::max(moved, kLengthBytes));
    const uint64_t length =
        end != std::string::npos && end >= kLengthBytes ? end + 1 - kLengthBytes : 0;
    for (size_t i = 0; i < kLengthBytes; ++i) file[i] = static_cast<char>(length >> (8 * i));
  }
  return file;
}

}  // namespace fuseq::inline v0
