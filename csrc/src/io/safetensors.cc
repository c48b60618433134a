// SPDX-License-Identifier: Apache-2.0
// Reads the header of safetensors files, which strangers may have made, without trusting it.
#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <numeric>
#include <optional>

#include "base/checked_size.h"
#include "base/json_reader.h"
#include "base/memory.h"
#include "base/message.h"
#include "io/safetensors_types.h"

namespace fuseq::inline v0 {

namespace {

constexpr size_t kLengthBytes = 8;  // the header's length, little-endian, comes first

/// One tensor as the header describes it.
struct Entry {
  const StoredType* type = nullptr;
  std::array<int64_t, Shape::kMaxRank> dims{};
  size_t rank = 0;
  int64_t begin = 0;  // of the data
  int64_t end = 0;

  [[nodiscard]] std::span<const int64_t> shape() const noexcept { return {dims.data(), rank}; }
};

/// What is kept of each tensor while the header is checked. A tensor takes at least 49 bytes of
/// header.
struct Place {
  int64_t begin;
  int64_t end;
  uint64_t name_hash;
  uint32_t key;  // where in the header its name begins
};
constexpr size_t kLeastEntryBytes = 49;
static_assert(sizeof(Place) < kLeastEntryBytes);

/// Text of the file in quotes, cut to a length that suits a message.
std::string in_quotes(std::string_view text) {
  constexpr size_t kLongest = 200;
  return concat("\"", text.substr(0, kLongest), text.size() > kLongest ? "...\"" : "\"");
}

class HeaderParser {
 public:
  HeaderParser(std::span<const std::byte> file, std::string_view what);

  SafeTensorsHeader parse() {
    SafeTensorsHeader header;
    std::vector<Place> places = check();
    check_names_differ(places);
    check_data_is_covered(places);
    build(places, header);
    return header;
  }

 private:
  std::vector<Place> check();
  void check_names_differ(std::vector<Place>& places) const;
  void check_data_is_covered(std::vector<Place>& places) const;
  void build(const std::vector<Place>& places, SafeTensorsHeader& header) const;

  void check_metadata(JsonReader& reader);
  std::map<std::string, std::string> read_metadata() const;
  Entry read_entry(JsonReader& reader, const std::string& name) const;
  void read_shape(JsonReader& reader, const std::string& name, Entry& entry) const;
  void read_offsets(JsonReader& reader, const std::string& name, Entry& entry) const;
  void check_size(const std::string& name, const Entry& entry) const;

  [[nodiscard]] std::string name_at(const Place& place) const {
    JsonReader reader(header_.substr(place.key), what_);
    std::string name;
    reader.read_string(name);
    return name;
  }

  /// Throws: load "<file>": "<tensor>" <parts...>
  template <typename... Parts>
  [[noreturn]] void fail_tensor(const std::string& name, const Parts&... parts) const {
    fail(ErrorKind::format, what_, ": ", in_quotes(name), " ", parts...);
  }

  std::span<const std::byte> file_;
  std::string what_;
  std::string_view header_;
  std::span<const std::byte> data_;
  std::optional<size_t> metadata_at_;  // where in the header its value begins
};

HeaderParser::HeaderParser(std::span<const std::byte> file, std::string_view what)
    : file_(file), what_(concat("load \"", what, "\"")) {
  const auto text = std::string_view(reinterpret_cast<const char*>(file.data()), file.size());
  if (text.starts_with("version https://git-lfs")) {
    fail(
        ErrorKind::format, what_,
        ": must be a safetensors file, got a Git LFS pointer. Fetch the file itself: git lfs pull");
  }
  if (file.size() < kLengthBytes) {
    fail(ErrorKind::format, what_, ": a safetensors file must have at least 8 bytes, got ",
         file.size(), ". Cut download?");
  }
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) {
    length |= static_cast<uint64_t>(file[i]) << (8 * i);
  }
  if (length > static_cast<uint64_t>(SafeTensors::kMaxHeaderBytes)) {
    fail(ErrorKind::format, what_, ": the header must have at most ", SafeTensors::kMaxHeaderBytes,
         " bytes, got ", length, ". Is this a safetensors file?");
  }
  if (length > file.size() - kLengthBytes) {
    fail(ErrorKind::format, what_, ": the header must end inside the file, got byte ",
         length + kLengthBytes, " of ", file.size(), ". Cut download?");
  }
  header_ = text.substr(kLengthBytes, length);
  data_ = file.subspan(kLengthBytes + length);
  if (!header_.starts_with('{')) {
    fail(ErrorKind::format, what_, ": the header must begin with '{', got ",
         header_.empty() ? "an empty header" : "another character",
         ". Is this a safetensors file?");
  }
}

std::vector<Place> HeaderParser::check() {
  std::vector<Place> places;
  places.reserve(header_.size() / kLeastEntryBytes + 1);
  std::string name;
  JsonReader reader(header_, what_);
  if (reader.enter_object()) {
    do {
      const size_t key = reader.offset_of_next();
      reader.read_key(name);
      if (name == "__metadata__") {
        check_metadata(reader);
        continue;
      }
      const Entry entry = read_entry(reader, name);
      places.push_back({.begin = entry.begin,
                        .end = entry.end,
                        .name_hash = std::hash<std::string>{}(name),
                        .key = static_cast<uint32_t>(key)});
    } while (reader.more_members());
  }
  reader.finish();
  return places;
}

void HeaderParser::check_metadata(JsonReader& reader) {
  if (metadata_at_) fail_tensor("__metadata__", "must come once, got two");
  metadata_at_ = reader.offset();
  std::string text;
  if (!reader.enter_object()) return;
  do {
    reader.read_key(text);
    reader.read_string(text);
  } while (reader.more_members());
}

std::map<std::string, std::string> HeaderParser::read_metadata() const {
  std::map<std::string, std::string> metadata;
  if (!metadata_at_) return metadata;
  JsonReader reader(header_.substr(*metadata_at_), what_);
  std::string key;
  std::string value;
  if (reader.enter_object()) {
    do {
      reader.read_key(key);
      reader.read_string(value);
      if (!metadata.emplace(key, value).second) {
        fail_tensor("__metadata__", "must have different keys, got ", in_quotes(key), " twice");
      }
    } while (reader.more_members());
  }
  return metadata;
}

Entry HeaderParser::read_entry(JsonReader& reader, const std::string& name) const {
  Entry entry;
  bool has_dtype = false;
  bool has_shape = false;
  bool has_offsets = false;
  const auto once = [&](bool& seen, std::string_view key) {
    if (seen) fail_tensor(name, "must have ", key, " once, got two");
    seen = true;
  };
  std::string text;
  if (reader.enter_object()) {
    do {
      reader.read_key(text);
      if (text == "dtype") {
        once(has_dtype, "dtype");
        reader.read_string(text);
        entry.type = find_stored_type(text);
        if (entry.type == nullptr)
          fail_tensor(name, "must have a known dtype, got ", in_quotes(text));
      } else if (text == "shape") {
        once(has_shape, "shape");
        read_shape(reader, name, entry);
      } else if (text == "data_offsets") {
        once(has_offsets, "data_offsets");
        read_offsets(reader, name, entry);
      } else {
        reader.skip_value();
      }
    } while (reader.more_members());
  }
  if (!has_dtype || !has_shape || !has_offsets) {
    fail_tensor(name, "must have dtype, shape and data_offsets, got no ",
                !has_dtype   ? "dtype"
                : !has_shape ? "shape"
                             : "data_offsets");
  }
  check_size(name, entry);
  return entry;
}

void HeaderParser::read_shape(JsonReader& reader, const std::string& name, Entry& entry) const {
  if (!reader.enter_array()) return;
  do {
    if (entry.rank == entry.dims.size()) {
      fail_tensor(name, "must have a shape of at most ", Shape::kMaxRank, " dims, got more");
    }
    entry.dims[entry.rank++] = reader.read_size("an extent of a shape");
  } while (reader.more_elements());
}

void HeaderParser::read_offsets(JsonReader& reader, const std::string& name, Entry& entry) const {
  std::array<int64_t, 2> offsets{};
  size_t count = 0;
  if (reader.enter_array()) {
    do {
      if (count == offsets.size()) fail_tensor(name, "must have two data_offsets, got more");
      offsets[count++] = reader.read_size("a data offset");
    } while (reader.more_elements());
  }
  if (count != offsets.size()) fail_tensor(name, "must have two data_offsets, got ", count);
  entry.begin = offsets[0];
  entry.end = offsets[1];
}

void HeaderParser::check_size(const std::string& name, const Entry& entry) const {
  if (entry.begin > entry.end) {
    fail_tensor(name, "must begin before it ends, got data bytes ", entry.begin, " to ", entry.end);
  }
  if (static_cast<uint64_t>(entry.end) > data_.size()) {
    const uint64_t before = file_.size() - data_.size();
    fail_tensor(name, "must end inside the file, got byte ",
                before + static_cast<uint64_t>(entry.end), " of ", file_.size(), ". Cut download?");
  }
  const auto bits = checked_num_bytes(entry.shape(), entry.type->bits);
  if (!bits || *bits % 8 != 0 || *bits / 8 != entry.end - entry.begin) {
    const auto bytes = [&] { return std::to_string(*bits / 8 + (*bits % 8 != 0)); };
    fail_tensor(name, "must have the bytes of its shape ", Shape::to_string(entry.shape()), " in ",
                entry.type->name, ", ", bits ? bytes() : "too many for int64", ", got ",
                entry.end - entry.begin);
  }
  if (!Shape::fit(entry.shape())) {
    fail_tensor(name, "must have extents whose product, zeros left out, fits int64, got ",
                Shape::to_string(entry.shape()));
  }
}

void HeaderParser::check_names_differ(std::vector<Place>& places) const {
  std::ranges::sort(places, {}, &Place::name_hash);
  for (auto first = places.begin(); first != places.end();) {
    const auto last = std::find_if(first, places.end(), [&](const Place& place) {
      return place.name_hash != first->name_hash;
    });
    if (last - first > 1) {  // equal names, or a rare collision
      std::vector<std::string> names;
      for (; first != last; ++first) names.push_back(name_at(*first));
      std::ranges::sort(names);
      const auto same = std::ranges::adjacent_find(names);
      if (same != names.end()) fail_tensor(*same, "must come once, got two");
    }
    first = last;
  }
}

void HeaderParser::check_data_is_covered(std::vector<Place>& places) const {
  std::ranges::sort(places, [](const Place& a, const Place& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  int64_t covered = 0;
  for (const Place& place : places) {
    if (place.begin != covered) {
      fail_tensor(name_at(place), "must begin where the tensor before it ends, at data byte ",
                  covered, ", got ", place.begin);
    }
    covered = place.end;
  }
  if (static_cast<uint64_t>(covered) != data_.size()) {
    fail(ErrorKind::format, what_, ": the file must end with its last tensor, got ", data_.size(),
         " bytes of data for ", covered, " bytes of tensors");
  }
}

void HeaderParser::build(const std::vector<Place>& places, SafeTensorsHeader& header) const {
  header.metadata = read_metadata();
  header.tensors.reserve(places.size());
  for (const Place& place : places) {
    JsonReader reader(header_.substr(place.key), what_);
    std::string name;
    reader.read_key(name);
    const Entry entry = read_entry(reader, name);
    if (!entry.type->dtype) {
      header.unsupported.push_back(std::move(name));
      continue;
    }
    const void* data = data_.data() + entry.begin;
    header.tensors.push_back(
        {std::move(name), ConstView(data, *entry.type->dtype, Shape(entry.shape()))});
  }
}

}  // namespace

SafeTensorsHeader parse_safetensors(std::span<const std::byte> file, std::string_view what) {
  return HeaderParser(file, what).parse();
}

SafeTensors::SafeTensors(const std::filesystem::path& path)
    : file_(std::make_shared<MappedFile>(path)),
      header_(parse_safetensors(file_->bytes(), path.string())),
      by_name_(header_.tensors.size()) {
  std::iota(by_name_.begin(), by_name_.end(), uint32_t{0});
  std::ranges::sort(by_name_, {}, [&](uint32_t index) -> const std::string& {
    return header_.tensors[index].name;
  });
  for (auto& [name, view] : header_.tensors) {
    const size_t element = size_of(view.dtype);
    if (reinterpret_cast<uintptr_t>(view.data) % element == 0) continue;
    const size_t bytes = static_cast<size_t>(view.shape.num_elements()) * element;
    copies_.push_back(allocate_shared_zeros(bytes));
    std::memcpy(copies_.back().get(), view.data, bytes);
    view.data = copies_.back().get();
  }
}

const NamedView* SafeTensors::find(std::string_view name) const noexcept {
  const auto name_of = [&](uint32_t index) -> std::string_view {
    return header_.tensors[index].name;
  };
  const auto found = std::ranges::lower_bound(by_name_, name, {}, name_of);
  return found != by_name_.end() && name_of(*found) == name ? &header_.tensors[*found] : nullptr;
}

void SafeTensors::release(const NamedView& tensor) const noexcept {
  const auto bytes =
      static_cast<size_t>(tensor.view.shape.num_elements()) * size_of(tensor.view.dtype);
  file_->release({static_cast<const std::byte*>(tensor.view.data), bytes});
}

}  // namespace fuseq::inline v0
