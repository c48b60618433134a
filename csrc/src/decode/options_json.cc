// SPDX-License-Identifier: Apache-2.0
// GenerationOptions to JSON and back, both made from the one list of fields.
#include <cmath>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/json_values.h"
#include "base/utf8.h"
#include "fuseq/options.h"

namespace fuseq::inline v0 {
namespace {

constexpr const char* kWhat = "generation options";

Json to_json(bool value) {
  return json_of(value);
}
Json to_json(int value) {
  return json_of(value);
}
Json to_json(float value) {
  return json_of(value);
}
Json to_json(EarlyStopping value) {
  return value == EarlyStopping::never ? Json("never") : Json(value == EarlyStopping::yes);
}
/// A seed above 2^63 - 1 is written as the negative number of the same bits.
Json to_json(const std::optional<uint64_t>& value) {
  return value ? Json(static_cast<int64_t>(*value)) : Json();
}
Json to_json(const std::string& text) {
  for (std::string_view rest = text; !rest.empty();) {
    const size_t length = utf8_length(rest);
    require(length > 0, "stop_strings: must be UTF-8 to be written as JSON, got other bytes");
    rest.remove_prefix(length);
  }
  return Json(text);
}
template <typename T>
Json to_json(const std::vector<T>& values) {
  Json::Array array;
  for (const T& value : values) array.push_back(to_json(value));
  return Json(std::move(array));
}
/// [[id, bias], ...]
Json to_json(const std::vector<std::pair<int, float>>& biases) {
  Json::Array array;
  for (const auto& [id, bias] : biases) {
    require(std::isfinite(bias), "logit_bias: must be finite to be written as JSON, got ", bias,
            " for id ", id);
    array.push_back(Json(Json::Array{json_of(id), json_of(bias)}));
  }
  return Json(std::move(array));
}

void read(const Json& json, const std::string& path, auto& value) {
  read_json(json, kWhat, path, value);
}
void read(const Json& json, const std::string& path, EarlyStopping& value) {
  if (json.if_bool() != nullptr) {
    value = *json.if_bool() ? EarlyStopping::yes : EarlyStopping::no;
  } else if (json.if_string() != nullptr && *json.if_string() == "never") {
    value = EarlyStopping::never;
  } else {
    fail_kind(kWhat, path, "true, false or \"never\"", json);
  }
}
void read(const Json& json, const std::string& path, std::optional<uint64_t>& value) {
  value.reset();
  if (json.is_null()) return;
  if (json.if_integer() == nullptr) fail_kind(kWhat, path, "a whole number or null", json);
  value = static_cast<uint64_t>(*json.if_integer());
}
const Json::Array& array_of(const Json& json, const std::string& path) {
  if (json.if_array() == nullptr) fail_kind(kWhat, path, "a list", json);
  return *json.if_array();
}
template <typename T>
void read(const Json& json, const std::string& path, std::vector<T>& values) {
  values.clear();
  for (const Json& item : array_of(json, path)) {
    const std::string place = concat(path, "[", values.size(), "]");
    read(item, place, values.emplace_back());
  }
}
void read(const Json& json, const std::string& path, std::vector<std::pair<int, float>>& biases) {
  biases.clear();
  for (const Json& item : array_of(json, path)) {
    const std::string place = concat(path, "[", biases.size(), "]");
    const Json::Array& pair = array_of(item, place);
    if (pair.size() != 2) fail_kind(kWhat, place, "a list of an id and a number", item);
    auto& [id, bias] = biases.emplace_back();
    read(pair[0], place, id);
    read(pair[1], place, bias);
  }
}

}  // namespace

GenerationOptions generation_options_from_json(std::string_view text) {
  const Json json = parse_json(text, kWhat);
  if (json.if_object() == nullptr) fail_kind(kWhat, "the document", "an object", json);
  GenerationOptions options;
  size_t known = 0;
  visit_option_fields(options, [&](const char* name, auto& field, const char*) {
    if (const Json* member = json.find(name)) {
      ++known;
      read(*member, name, field);
    }
  });
  if (known == json.if_object()->size()) return options;
  for (const auto& [name, member] : *json.if_object()) {
    bool found = false;
    visit_option_fields(options, [&](const char* field, const auto&, const char*) {
      found = found || name == field;
    });
    if (!found) fail(ErrorKind::format, kWhat, ": every field must be known, got \"", name, "\"");
  }
  return options;
}

std::string generation_options_to_json(const GenerationOptions& options) {
  const GenerationOptions defaults;
  std::vector<Json> usual;
  visit_option_fields(defaults, [&](const char*, const auto& field, const char*) {
    usual.push_back(to_json(field));
  });
  Json::Object object;
  size_t index = 0;
  visit_option_fields(options, [&](const char* name, const auto& field, const char*) {
    Json json = to_json(field);
    if (write_json(json) != write_json(usual[index++])) object.emplace_back(name, std::move(json));
  });
  return write_json(Json(std::move(object)), 2) + "\n";
}

GenerationOptions load_generation_options(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "generation.json";
  std::error_code refused;  // what the system refuses is an error of reading the file
  if (!std::filesystem::exists(path, refused) && !refused) {
    fail(ErrorKind::not_found, "load_generation_options: ", folder.string(),
         " must hold generation.json, got none");
  }
  return generation_options_from_json(read_text_file(path, kMaxJsonBytes));
}

}  // namespace fuseq::inline v0
