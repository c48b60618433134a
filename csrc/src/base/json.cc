// SPDX-License-Identifier: Apache-2.0
// Builds Json values from text.
#include "base/json.h"

#include <algorithm>
#include <string>

#include "base/json_reader.h"
#include "base/message.h"

namespace fuseq::inline v0 {

namespace {

/// A key that comes twice in `members`; null if there is none.
const std::string* find_duplicate(const Json::Object& members) {
  constexpr size_t kFew = 16;  // so few are compared pair by pair, without memory
  if (members.size() <= kFew) {
    for (size_t i = 1; i < members.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (members[i].first == members[j].first) return &members[i].first;
      }
    }
    return nullptr;
  }
  std::vector<const std::string*> keys;
  keys.reserve(members.size());
  for (const auto& member : members) keys.push_back(&member.first);
  std::ranges::sort(keys, {}, [](const std::string* key) -> const std::string& { return *key; });
  const auto same = std::ranges::adjacent_find(
      keys, [](const std::string* a, const std::string* b) { return *a == *b; });
  return same == keys.end() ? nullptr : *same;
}

Json read_value(JsonReader& reader, std::string_view what) {
  switch (reader.peek()) {
    case JsonReader::Kind::null: reader.read_null(); return nullptr;
    case JsonReader::Kind::boolean: return reader.read_bool();
    case JsonReader::Kind::number:
      return std::visit([](auto number) { return Json(number); }, reader.read_number());
    case JsonReader::Kind::string: {
      std::string text;
      reader.read_string(text);
      return text;
    }
    case JsonReader::Kind::array: {
      Json::Array elements;
      if (reader.enter_array()) {
        do elements.push_back(read_value(reader, what));
        while (reader.more_elements());
      }
      return elements;
    }
    case JsonReader::Kind::object: {
      Json::Object members;
      if (reader.enter_object()) {
        do {
          std::string key;
          reader.read_key(key);
          members.emplace_back(std::move(key), read_value(reader, what));
        } while (reader.more_members());
      }
      if (const std::string* key = find_duplicate(members)) {
        fail(ErrorKind::format, what, ": the keys of an object must differ, got \"",
             key->substr(0, 200), "\" twice in the one that ends at byte ", reader.offset());
      }
      return members;
    }
  }
  return nullptr;
}

}  // namespace

const Json* Json::find(std::string_view key) const noexcept {
  const Object* members = if_object();
  if (members == nullptr) return nullptr;
  for (const auto& [name, value] : *members) {
    if (name == key) return &value;
  }
  return nullptr;
}

Json parse_json(std::string_view text, std::string_view what, size_t max_bytes) {
  if (text.size() > max_bytes) {
    fail(ErrorKind::format, what, ": JSON text must have at most ", max_bytes, " bytes, got ",
         text.size());
  }
  JsonReader check(text, what);  // the whole text first, so that bad text costs no memory
  check.skip_value();
  check.finish();
  JsonReader reader(text, what);
  return read_value(reader, what);
}

}  // namespace fuseq::inline v0
