// SPDX-License-Identifier: Apache-2.0
// TransformerSpec to JSON and back, both made from the one list of fields.
#include <array>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/json_values.h"
#include "base/message.h"
#include "fuseq/spec.h"

namespace fuseq::inline v0 {
namespace {

// The words of each enum, in the order of its values.
template <typename E>
struct Words;
template <>
struct Words<Norm> {
  static constexpr std::array<std::string_view, 3> list{"layer", "rms", "rms_plus_one"};
};
template <>
struct Words<NormPlace> {
  static constexpr std::array<std::string_view, 3> list{"pre", "post", "both"};
};
template <>
struct Words<Activation> {
  static constexpr std::array<std::string_view, 6> list{"none",      "relu", "gelu",
                                                        "gelu_tanh", "silu", "tanh"};
};
template <>
struct Words<Positions> {
  static constexpr std::array<std::string_view, 4> list{"none", "table", "rope", "relative"};
};

template <typename S, typename V>
void visit_any(S& s, V&& v) {
  using Struct = std::remove_const_t<S>;
  if constexpr (std::is_same_v<Struct, TransformerSpec>) {
    visit_fields(s, v);
  } else if constexpr (std::is_same_v<Struct, StackSpec>) {
    visit_stack_fields(s, v);
  } else if constexpr (std::is_same_v<Struct, HeadSpec>) {
    visit_head_fields(s, v);
  } else {
    visit_relative_fields(s, v);
  }
}

template <typename T>
Json to_json(const T& value) {
  if constexpr (std::is_enum_v<T>) {
    return Json(std::string(Words<T>::list[static_cast<size_t>(value)]));
  } else if constexpr (std::is_same_v<T, float> || std::is_same_v<T, std::string> ||
                       std::is_same_v<T, bool> || std::is_same_v<T, int>) {
    return json_of(value);
  } else if constexpr (requires { value.begin(); }) {
    Json::Array array;
    for (const auto& item : value) array.push_back(to_json(item));
    return Json(std::move(array));
  } else {
    Json::Object object;
    visit_any(value, [&](const char* name, const auto& field) {
      object.emplace_back(name, to_json(field));
    });
    return Json(std::move(object));
  }
}

template <typename T>
void from_json(const Json& json, const std::string& path, T& value) {
  if constexpr (std::is_enum_v<T>) {
    const std::string* text = json.if_string();
    std::string words;
    for (size_t i = 0; i < Words<T>::list.size(); ++i) {
      if (text != nullptr && *text == Words<T>::list[i]) {
        value = static_cast<T>(i);
        return;
      }
      words += concat(i ? ", " : "", "\"", Words<T>::list[i], "\"");
    }
    fail(ErrorKind::format, "spec: ", path, " must be one of ", words, ", got ", write_json(json));
  } else if constexpr (std::is_same_v<T, float> || std::is_same_v<T, std::string> ||
                       std::is_same_v<T, bool> || std::is_same_v<T, int>) {
    read_json(json, "spec", path, value);
  } else if constexpr (requires { value.push_back({}); }) {
    if (json.if_array() == nullptr) fail_kind("spec", path, "a list", json);
    value.clear();
    for (const Json& item : *json.if_array()) {
      from_json(item, concat(path, "[", value.size(), "]"), value.emplace_back());
    }
  } else {
    const Json::Object* object = json.if_object();
    if (object == nullptr) fail_kind("spec", path, "an object", json);
    size_t known = 0;
    visit_any(value, [&](const char* name, auto& field) {
      if (const Json* member = json.find(name)) {
        ++known;
        from_json(*member, path.empty() ? std::string(name) : concat(path, ".", name), field);
      }
    });
    if (known == object->size()) return;
    for (const auto& [name, member] : *object) {
      bool found = false;
      visit_any(value, [&](const char* field, const auto&) { found = found || name == field; });
      if (!found) {
        fail(ErrorKind::format, "spec: every field must be known, got \"",
             path.empty() ? "" : path + ".", name, "\"");
      }
    }
  }
}

}  // namespace

TransformerSpec spec_from_json(std::string_view json) {
  TransformerSpec spec;
  from_json(parse_json(json, "spec"), "", spec);
  validate(spec);
  return spec;
}

std::string spec_to_json(const TransformerSpec& spec) {
  return write_json(to_json(spec), 2) + "\n";
}

}  // namespace fuseq::inline v0
