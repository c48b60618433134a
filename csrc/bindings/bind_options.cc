// SPDX-License-Identifier: Apache-2.0
// GenerationOptions, made from its one list of fields.
#include "fuseq/options.h"

#include <limits>
#include <string>
#include <type_traits>

#include "convert.h"

namespace fuseq::bindings {
namespace {

void read(py::handle object, const std::string& argument, int& field) {
  field = static_cast<int>(to_integer(object, argument, std::numeric_limits<int>::min(),
                                      std::numeric_limits<int>::max()));
}

void read(py::handle object, const std::string& argument, float& field) {
  if (PyBool_Check(object.ptr()) != 0 || PyNumber_Check(object.ptr()) == 0) {
    throw py::type_error(argument + ": must be a number, got " + describe_type(object));
  }
  field = static_cast<float>(py::float_(py::reinterpret_borrow<py::object>(object)));
}

void read(py::handle object, const std::string& argument, bool& field) {
  if (PyBool_Check(object.ptr()) == 0) {
    throw py::type_error(argument + ": must be True or False, got " + describe_type(object));
  }
  field = object.cast<bool>();
}

void read(py::handle object, const std::string& argument, EarlyStopping& field) {
  if (PyBool_Check(object.ptr()) != 0) {
    field = object.cast<bool>() ? EarlyStopping::yes : EarlyStopping::no;
  } else if (py::isinstance<py::str>(object) && object.cast<std::string>() == "never") {
    field = EarlyStopping::never;
  } else {
    throw py::value_error(argument + ": must be True, False or \"never\", got " +
                          py::repr(object).cast<std::string>());
  }
}

void read(py::handle object, const std::string& argument, std::vector<int>& field) {
  const std::vector<int32_t> ids = to_ids(object, argument);
  field.assign(ids.begin(), ids.end());
}

void read(py::handle object, const std::string& argument,
          std::vector<std::pair<int, float>>& field) {
  if (!py::isinstance<py::dict>(object)) {
    throw py::type_error(argument + ": must be a dict of ids and numbers, got " +
                         describe_type(object));
  }
  field.clear();
  for (const auto& [id, bias] : py::reinterpret_borrow<py::dict>(object)) {
    auto& entry = field.emplace_back();
    read(id, argument, entry.first);
    read(bias, argument, entry.second);
  }
}

py::object show(int field) {
  return py::int_(field);
}
py::object show(bool field) {
  return py::bool_(field);
}
py::object show(float field) {
  return py::float_(field);
}
py::object show(EarlyStopping field) {
  if (field == EarlyStopping::never) return py::str("never");
  return py::bool_(field == EarlyStopping::yes);
}
py::object show(const std::vector<int>& field) {
  py::list list;
  for (const int id : field) list.append(id);
  return list;
}
py::object show(const std::vector<std::pair<int, float>>& field) {
  py::dict dict;
  for (const auto& [id, bias] : field) dict[py::int_(id)] = bias;
  return dict;
}

template <typename T>
const char* kind_of() {
  if constexpr (std::is_same_v<T, int>) return "int";
  if constexpr (std::is_same_v<T, bool>) return "bool";
  if constexpr (std::is_same_v<T, float>) return "float";
  if constexpr (std::is_same_v<T, EarlyStopping>) return "early_stopping";
  if constexpr (std::is_same_v<T, std::vector<int>>) return "list[int]";
  return "dict[int, float]";
}

/// None stands for the field's default.
template <typename T>
void assign(py::handle object, const char* name, T& field, const T& standard) {
  if (object.is_none()) {
    field = standard;
  } else {
    read(object, name, field);
  }
}

GenerationOptions from_kwargs(const py::kwargs& fields) {
  GenerationOptions options;
  size_t known = 0;
  visit_option_fields(options, [&](const char* name, auto& field, const char*) {
    if (!fields.contains(name)) return;
    ++known;
    const auto standard = field;
    assign(fields[name], name, field, standard);
  });
  if (known == fields.size()) return options;
  for (const auto& [key, value] : fields) {
    const auto text = key.cast<std::string>();
    bool found = false;
    visit_option_fields(options, [&](const char* name, const auto&, const char*) {
      found = found || text == name;
    });
    if (!found) {
      throw py::type_error("GenerationOptions: every name must be a field, got \"" + text + "\"");
    }
  }
  return options;
}

std::string describe(const GenerationOptions& options) {
  const GenerationOptions defaults;
  std::string text;
  visit_option_fields(options, [&](const char* name, const auto& field, const char*) {
    visit_option_fields(defaults, [&](const char* other, const auto& usual, const char*) {
      if (std::string_view(name) != other) return;
      if (show(field).equal(show(usual))) return;
      text += (text.empty() ? "" : ", ") + std::string(name) + "=" +
              py::repr(show(field)).template cast<std::string>();
    });
  });
  return "GenerationOptions(" + text + ")";
}

py::list list_fields() {
  const GenerationOptions defaults;
  py::list fields;
  visit_option_fields(defaults,
                      [&]<typename T>(const char* name, const T& field, const char* meaning) {
                        fields.append(py::make_tuple(name, kind_of<T>(), show(field), meaning));
                      });
  return fields;
}

}  // namespace

void bind_options(py::module_& module) {
  const GenerationOptions defaults;
  py::class_<GenerationOptions> options(
      module, "GenerationOptions",
      "What a caller asks of one generation; None stands for a field's default.");
  options.def(py::init(&from_kwargs)).def("__repr__", &describe);
  visit_option_fields(
      defaults, [&]<typename T>(const char* name, const T& standard, const char* meaning) {
        const std::string key = name;
        const auto find = [key](auto& self, auto&& use) {
          visit_option_fields(self, [&](const char* other, auto& field, const char*) {
            if constexpr (std::is_same_v<std::remove_cvref_t<decltype(field)>, T>) {
              if (key == other) use(field);
            }
          });
        };
        options.def_property(
            name,
            [find](const GenerationOptions& self) {
              py::object value;
              find(self, [&](const T& field) { value = show(field); });
              return value;
            },
            [find, key, standard](GenerationOptions& self, const py::object& value) {
              find(self, [&](T& field) { assign(value, key.c_str(), field, standard); });
            },
            meaning);
      });
  module.def("option_fields", &list_fields,
             "(name, kind, default, meaning) of every field of GenerationOptions.");
}

}  // namespace fuseq::bindings
