// SPDX-License-Identifier: Apache-2.0
// GenerationOptions, made from its one list of fields; TokenBytes and samplers that it holds.
#include "fuseq/options.h"

#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "convert.h"
#include "python_sampler.h"

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

void read(py::handle object, const std::string& argument, std::optional<uint64_t>& field) {
  const bool is_bool = PyBool_Check(object.ptr()) != 0;
  if (is_bool || PyIndex_Check(object.ptr()) == 0) {
    throw py::type_error(argument + ": must be a whole number or None, got " +
                         describe_type(object));
  }
  const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(object.ptr()));
  if (!number) throw py::error_already_set();
  field = PyLong_AsUnsignedLongLong(number.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw py::value_error(argument + ": must be in 0 ... 2**64 - 1, got " +
                          py::str(number).cast<std::string>());
  }
}

/// str as UTF-8, or bytes.
void read(py::handle object, const std::string& argument, std::vector<std::string>& field) {
  const auto is_text = [](py::handle h) {
    return py::isinstance<py::str>(h) || py::isinstance<py::bytes>(h);
  };
  if (is_text(object) || !py::isinstance<py::iterable>(object)) {
    throw py::type_error(argument + ": must be a list of str or bytes, got " +
                         describe_type(object));
  }
  field.clear();
  for (const py::handle item : py::iter(object)) {
    if (!is_text(item)) {
      throw py::type_error(argument + "[" + std::to_string(field.size()) +
                           "]: must be str or bytes, got " + describe_type(item));
    }
    field.push_back(item.cast<std::string>());
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

py::object show(const std::optional<uint64_t>& field) {
  return field ? py::object(py::int_(*field)) : py::none();
}
/// str where the bytes are UTF-8.
py::object show(const std::vector<std::string>& field) {
  py::list list;
  for (const std::string& bytes : field) {
    PyObject* text =
        PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), nullptr);
    if (text == nullptr) PyErr_Clear();
    list.append(text != nullptr ? py::reinterpret_steal<py::object>(text) : py::bytes(bytes));
  }
  return list;
}

template <typename T>
const char* kind_of() {
  if constexpr (std::is_same_v<T, int>) return "int";
  if constexpr (std::is_same_v<T, bool>) return "bool";
  if constexpr (std::is_same_v<T, float>) return "float";
  if constexpr (std::is_same_v<T, EarlyStopping>) return "early_stopping";
  if constexpr (std::is_same_v<T, std::vector<int>>) return "list[int]";
  if constexpr (std::is_same_v<T, std::optional<uint64_t>>) return "int";
  if constexpr (std::is_same_v<T, std::vector<std::string>>) return "list[str]";
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

// What GenerationOptions holds beside its list of fields.

void set_token_bytes(GenerationOptions& options, const py::object& value) {
  if (!value.is_none() && !py::isinstance<TokenBytes>(value)) {
    throw py::type_error("token_bytes: must be TokenBytes or None, got " + describe_type(value));
  }
  options.token_bytes = value.is_none() ? nullptr : value.cast<std::shared_ptr<TokenBytes>>();
}

void set_sampler(GenerationOptions& options, const py::object& value) {
  if (!value.is_none() && PyCallable_Check(value.ptr()) == 0) {
    throw py::type_error("sampler: must be a function of probabilities or None, got " +
                         describe_type(value));
  }
  options.sampler = value.is_none() ? nullptr : std::make_shared<PythonSampler>(value);
}

py::object get_sampler(const GenerationOptions& options) {
  const auto* ours = dynamic_cast<const PythonSampler*>(options.sampler.get());
  return ours == nullptr ? py::none() : ours->function();
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
  const auto take = [&](const char* name, auto set) {
    if (!fields.contains(name)) return;
    ++known;
    set(options, fields[name]);
  };
  take("token_bytes", &set_token_bytes);
  take("sampler", &set_sampler);
  if (known == fields.size()) return options;
  for (const auto& [key, value] : fields) {
    const auto text = key.cast<std::string>();
    bool found = text == "token_bytes" || text == "sampler";
    visit_option_fields(options, [&](const char* name, const auto&, const char*) {
      found = found || text == name;
    });
    if (!found) {
      throw py::type_error("GenerationOptions: every name must be a field, got \"" + text + "\"");
    }
  }
  return options;
}

std::shared_ptr<TokenBytes> make_token_bytes(const py::iterable& tokens) {
  std::vector<std::string> owned;
  for (const py::handle token : tokens) {
    if (!py::isinstance<py::bytes>(token)) {
      throw py::type_error("tokens[" + std::to_string(owned.size()) + "]: must be bytes, got " +
                           describe_type(token));
    }
    owned.push_back(token.cast<std::string>());
  }
  const std::vector<std::string_view> views(owned.begin(), owned.end());
  return std::make_shared<TokenBytes>(views);
}

void bind_token_bytes(py::module_& module) {
  py::class_<TokenBytes, std::shared_ptr<TokenBytes>>(
      module, "TokenBytes", "What every id stands for, as bytes; handed over once.")
      .def(py::init(&make_token_bytes), py::arg("tokens"))
      .def("__len__", &TokenBytes::size)
      .def("__getitem__", [](const TokenBytes& self, int64_t id) {
        if (id < 0 || id >= self.size()) throw py::index_error("id out of range");
        return py::bytes(std::string(self[static_cast<int32_t>(id)]));
      });
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
  bind_token_bytes(module);
  const GenerationOptions defaults;
  py::class_<GenerationOptions> options(
      module, "GenerationOptions",
      "What a caller asks of one generation; None stands for a field's default.");
  options.def(py::init(&from_kwargs))
      .def("__repr__", &describe)
      .def("__copy__", [](const GenerationOptions& self) { return GenerationOptions(self); })
      .def_property(
          "token_bytes",
          [](const GenerationOptions& self) {
            return std::const_pointer_cast<TokenBytes>(self.token_bytes);
          },
          &set_token_bytes, "The bytes of every id, for stop_strings and streamed text, or None.")
      .def_property("sampler", &get_sampler, &set_sampler,
                    "A function from probabilities [B, V] to B ids, or None.")
      .def_static("from_json", &generation_options_from_json, py::arg("json"),
                  "Reads the JSON of a folder's generation.json.")
      .def("to_json", &generation_options_to_json,
           "The fields that differ from their defaults, as JSON.");
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
