// SPDX-License-Identifier: Apache-2.0
// safetensors files: what is written reads back, what is wrong is refused with the file and the
// tensor named.
#include "io/safetensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "fuseq/error.h"
#include "test_files.h"

namespace fuseq::inline v0 {
namespace {

using Metadata = std::map<std::string, std::string>;

/// A file of this header and `data_bytes` bytes of data 0, 1, 2 ...
std::string make_file(std::string_view header, size_t data_bytes) {
  std::string file;
  for (size_t i = 0; i < 8; ++i) file.push_back(static_cast<char>(header.size() >> (8 * i)));
  file += header;
  for (size_t i = 0; i < data_bytes; ++i) file.push_back(static_cast<char>(i));
  return file;
}

std::string error_of_bytes(std::string_view file) {
  try {
    (void)parse_safetensors(std::as_bytes(std::span(file)), "m");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::format);
    return error.what();
  }
  return "no error";
}

std::string error_of(std::string_view header, size_t data_bytes) {
  return error_of_bytes(make_file(header, data_bytes));
}

/// The error of one tensor "t" with these fields and 8 bytes of data.
std::string error_of_tensor(std::string_view dtype, std::string_view shape,
                            std::string_view offsets) {
  return error_of("{\"t\":{\"dtype\":" + std::string(dtype) + ",\"shape\":" + std::string(shape) +
                      ",\"data_offsets\":" + std::string(offsets) + "}}",
                  8);
}

TensorToWrite tensor(std::string name, DType dtype, Shape shape, int first) {
  return {.name = std::move(name),
          .dtype = dtype,
          .shape = shape,
          .fill = [first](std::span<std::byte> bytes) {
            for (size_t i = 0; i < bytes.size(); ++i)
              bytes[i] = static_cast<std::byte>(static_cast<size_t>(first) + i);
          }};
}

std::span<const std::byte> bytes_of(const NamedView& tensor) {
  return {tensor.view.as<std::byte>(),
          static_cast<size_t>(tensor.view.shape.num_elements()) * size_of(tensor.view.dtype)};
}

TEST(SafeTensors, what_is_written_reads_back) {
  const TempFolder folder;
  const auto path = folder.path() / "model.safetensors";
  const std::vector<TensorToWrite> tensors = {tensor("b.weight", DType::f32, {2, 3}, 1),
                                              tensor("a", DType::bf16, {5}, 50),
                                              tensor("scalar", DType::f64, {}, 9),
                                              tensor("empty", DType::f32, {0, 7}, 0),
                                              tensor("six", DType::i8, {1, 2, 1, 2, 1, 2}, 3),
                                              tensor("quote\"\n\xc3\xa9", DType::i64, {1}, 77),
                                              tensor("flags", DType::boolean, {3}, 0),
                                              tensor("half", DType::f16, {1}, 4),
                                              tensor("int", DType::i32, {2}, 8),
                                              tensor("short", DType::i16, {1}, 12),
                                              tensor("byte", DType::u8, {1}, 200)};
  write_safetensors(path, tensors, {{"format", "fuseq"}, {"k", "v\"\xe2\x82\xac"}});

  const SafeTensors file(path);
  EXPECT_EQ(file.metadata(), (Metadata{{"format", "fuseq"}, {"k", "v\"\xe2\x82\xac"}}));
  EXPECT_EQ(file.tensors().size(), tensors.size());
  EXPECT_TRUE(file.unsupported().empty());
  for (const TensorToWrite& written : tensors) {
    const NamedView* read = file.find(written.name);
    ASSERT_NE(read, nullptr) << written.name;
    EXPECT_EQ(read->name, written.name);
    EXPECT_EQ(read->view.dtype, written.dtype);
    EXPECT_EQ(read->view.shape, written.shape);
    EXPECT_TRUE(read->view.is_dense());
    std::vector<std::byte> bytes(static_cast<size_t>(written.shape.num_elements()) *
                                 size_of(written.dtype));
    written.fill(bytes);
    EXPECT_TRUE(std::ranges::equal(bytes, bytes_of(*read))) << written.name;
    file.release(*read);
    EXPECT_TRUE(std::ranges::equal(bytes, bytes_of(*read))) << written.name;
  }
  EXPECT_EQ(file.find("nothing"), nullptr);
  EXPECT_EQ(folder.entries(), std::vector<std::string>{"model.safetensors"});
}

TEST(SafeTensors, data_begins_at_a_multiple_of_64) {
  const TempFolder folder;
  for (int length = 1; length < 140; length += 7) {
    const auto path = folder.path() / "a";
    write_safetensors(path, std::vector{tensor(std::string(static_cast<size_t>(length), 'n'),
                                               DType::f32, {16}, 1)});
    const std::string bytes = folder.read("a");
    const size_t header =
        static_cast<unsigned char>(bytes[0]) + 256u * static_cast<unsigned char>(bytes[1]);
    EXPECT_EQ((8 + header) % 64, 0u);
    EXPECT_EQ(bytes.size(), 8 + header + 64);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(SafeTensors(path).tensors().front().view.data) % 64, 0u);
  }
}

TEST(SafeTensors, no_tensors_at_all_is_a_file_too) {
  const TempFolder folder;
  const auto path = folder.path() / "a";
  write_safetensors(path, {});
  EXPECT_TRUE(SafeTensors(path).tensors().empty());
  write_safetensors(path, {}, {{"a", "b"}});
  EXPECT_EQ(SafeTensors(path).metadata(), (Metadata{{"a", "b"}}));
}

TEST(SafeTensors, tensors_come_in_the_order_of_their_bytes) {
  const std::string file = make_file(R"({"z":{"dtype":"U8","shape":[2],"data_offsets":[4,6]},
      "m":{"dtype":"F32","shape":[],"data_offsets":[0,4]}, "e":{"shape":[0],"data_offsets":[4,4],"dtype":"I64"}}  )",
                                     6);
  const auto header = parse_safetensors(std::as_bytes(std::span(file)), "m");
  ASSERT_EQ(header.tensors.size(), 3u);
  EXPECT_EQ(header.tensors[0].name, "m");
  EXPECT_EQ(header.tensors[1].name, "e");
  EXPECT_EQ(header.tensors[2].name, "z");
  EXPECT_EQ(*header.tensors[2].view.as<uint8_t>(), 4);
}

TEST(SafeTensors, element_types_without_a_dtype_are_listed_and_checked) {
  const std::string file = make_file(R"({"a":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]},
      "b":{"dtype":"U16","shape":[1],"data_offsets":[3,5]},"c":{"dtype":"F4","shape":[4],"data_offsets":[5,7]},
      "d":{"dtype":"U8","shape":[1],"data_offsets":[7,8]}})",
                                     8);
  const auto header = parse_safetensors(std::as_bytes(std::span(file)), "m");
  EXPECT_EQ(header.unsupported, (std::vector<std::string>{"a", "b", "c"}));
  ASSERT_EQ(header.tensors.size(), 1u);
  EXPECT_EQ(header.tensors[0].name, "d");
  EXPECT_EQ(error_of_tensor("\"U64\"", "[2]", "[0,8]"),
            "load \"m\": \"t\" must have the bytes of its shape [2] in U64, 16, got 8");
  EXPECT_EQ(error_of_tensor("\"F4\"", "[15]", "[0,8]"),
            "load \"m\": \"t\" must have the bytes of its shape [15] in F4, 8, got 8")
      << "half a byte is left over";
}

TEST(SafeTensors, misaligned_elements_are_copied_into_place) {
  const TempFolder folder;
  const auto path =
      folder.write("a", make_file(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
      "b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})",
                                  9));
  const SafeTensors file(path);
  const NamedView* b = file.find("b");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b->view.data) % 4, 0u);
  const unsigned char expected[] = {1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_EQ(std::memcmp(b->view.data, expected, 8), 0);
  file.release(*b);
  EXPECT_EQ(std::memcmp(b->view.data, expected, 8), 0);
}

TEST(SafeTensors, a_missing_file_is_an_error) {
  try {
    const SafeTensors file("/nonexistent/model.safetensors");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::not_found);
    EXPECT_STREQ(error.what(),
                 "open \"/nonexistent/model.safetensors\": the file must exist, got none");
  }
}

TEST(SafeTensors, a_length_that_cannot_be_is_an_error) {
  EXPECT_EQ(error_of_bytes("1234567"),
            "load \"m\": a safetensors file must have at least 8 bytes, got 7. Cut download?");
  std::string file = make_file("{}", 0);
  file[0] = 3;
  EXPECT_EQ(error_of_bytes(file),
            "load \"m\": the header must end inside the file, got byte 11 of 10. Cut download?");
  EXPECT_EQ(error_of_bytes(std::string(20, '\xff')),
            "load \"m\": the header must have at most 100000000 bytes, got 18446744073709551615. "
            "Is this a safetensors file?");
  EXPECT_EQ(error_of_bytes("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n"),
            "load \"m\": must be a safetensors file, got a Git LFS pointer. Fetch the file itself: "
            "git lfs pull");
}

TEST(SafeTensors, a_header_that_is_no_object_is_an_error) {
  EXPECT_EQ(error_of("", 0),
            "load \"m\": the header must begin with '{', got an empty header. Is this a "
            "safetensors file?");
  EXPECT_EQ(error_of(" {}", 0),
            "load \"m\": the header must begin with '{', got another character. Is this a "
            "safetensors file?");
  EXPECT_EQ(error_of("{\"a\":1}", 0), "load \"m\": an object must come at byte 5, got '1'");
  EXPECT_EQ(error_of("{} x", 0), "load \"m\": the end must come at byte 3, got 'x'");
  EXPECT_EQ(error_of("{", 0), "load \"m\": a key must come at byte 1, got the end");
  EXPECT_EQ(error_of("{\"a\":{\"dtype\":\"U8\",\"x\":" + std::string(100'000, '['), 0),
            "load \"m\": values must be nested at most 64 deep, got more at byte 85");
}

TEST(SafeTensors, wrong_fields_of_a_tensor_are_errors) {
  const auto one = [](std::string_view fields) {
    return error_of("{\"t\":{" + std::string(fields) + "}}", 0);
  };
  const std::string must = "load \"m\": \"t\" must have ";
  EXPECT_EQ(one(""), must + "dtype, shape and data_offsets, got no dtype");
  EXPECT_EQ(one(R"("dtype":"U8","data_offsets":[0,0])"),
            must + "dtype, shape and data_offsets, got no shape");
  EXPECT_EQ(one(R"("dtype":"U8","shape":[0])"),
            must + "dtype, shape and data_offsets, got no data_offsets");
  EXPECT_EQ(one(R"("dtype":"U8","dtype":"U8")"), must + "dtype once, got two");
  EXPECT_EQ(one(R"("shape":[],"shape":[])"), must + "shape once, got two");
  EXPECT_EQ(one(R"("data_offsets":[0,0],"data_offsets":[0,0])"),
            must + "data_offsets once, got two");
  EXPECT_EQ(error_of_tensor("\"F33\"", "[2]", "[0,8]"), must + "a known dtype, got \"F33\"");
  EXPECT_EQ(error_of_tensor("\"U8\"", "[1,2,2,1,2,1,1]", "[0,8]"),
            must + "a shape of at most 6 dims, got more");
  EXPECT_EQ(
      error_of_tensor("\"U8\"", "[-8]", "[0,8]"),
      "load \"m\": an extent of a shape at byte 28 must be a whole number of at least 0, got -8");
  EXPECT_EQ(
      error_of_tensor("\"U8\"", "[8.0]", "[0,8]"),
      "load \"m\": an extent of a shape at byte 28 must be a whole number of at least 0, got 8.0");
  EXPECT_EQ(error_of_tensor("\"U8\"", "[\"8\"]", "[0,8]"),
            "load \"m\": an extent of a shape must come at byte 28, got '\"'");
  EXPECT_EQ(error_of_tensor("\"U8\"", "[8]", "[0,8,8]"), must + "two data_offsets, got more");
  EXPECT_EQ(error_of_tensor("\"U8\"", "[8]", "[0]"), must + "two data_offsets, got 1");
  EXPECT_EQ(error_of_tensor("\"U8\"", "[8]", "[]"), must + "two data_offsets, got 0");
  EXPECT_EQ(error_of_tensor("\"U8\"", "[8]", "[0,99999999999999999999]"),
            "load \"m\": a data offset at byte 49 must be a whole number of at least 0, got "
            "99999999999999999999");
  EXPECT_EQ(
      error_of(R"({"t":{"dtype":"U8","shape":[8],"data_offsets":[0,8],"more":[1,{"a":null}]}})", 8),
      "no error")
      << "fields that we do not know are none of our business";
}

TEST(SafeTensors, wrong_sizes_and_places_are_errors) {
  EXPECT_EQ(error_of_tensor("\"U8\"", "[2]", "[4,2]"),
            "load \"m\": \"t\" must begin before it ends, got data bytes 4 to 2");
  EXPECT_EQ(error_of_tensor("\"U8\"", "[20]", "[0,20]"),
            "load \"m\": \"t\" must end inside the file, got byte 83 of 71. Cut download?");
  EXPECT_EQ(error_of_tensor("\"F32\"", "[3]", "[0,8]"),
            "load \"m\": \"t\" must have the bytes of its shape [3] in F32, 12, got 8");
  EXPECT_EQ(error_of_tensor("\"F32\"", "[4294967296,4294967296]", "[0,8]"),
            "load \"m\": \"t\" must have the bytes of its shape [4294967296, 4294967296] in F32, "
            "too many for int64, got 8");
  EXPECT_EQ(error_of_tensor("\"U8\"", "[1152921504606846975]", "[0,8]"),
            "load \"m\": \"t\" must have the bytes of its shape [1152921504606846975] in U8, "
            "1152921504606846975, got 8");
  EXPECT_EQ(error_of_tensor("\"F4\"", "[2305843009213693951]", "[0,8]"),
            "load \"m\": \"t\" must have the bytes of its shape [2305843009213693951] in F4, "
            "1152921504606846976, got 8");
  EXPECT_EQ(error_of_tensor("\"F32\"", "[0,4611686018427387904,4]", "[0,0]"),
            "load \"m\": \"t\" must have extents whose product, zeros left out, fits int64, got "
            "[0, 4611686018427387904, 4]");
  EXPECT_EQ(error_of_tensor("\"U8\"", "[4]", "[0,4]"),
            "load \"m\": the file must end with its last tensor, got 8 bytes of data for 4 bytes "
            "of tensors");
  EXPECT_EQ(error_of_tensor("\"U8\"", "[4]", "[4,8]"),
            "load \"m\": \"t\" must begin where the tensor before it ends, at data byte 0, got 4");
  const auto two = [](std::string_view first, std::string_view second) {
    return error_of(
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + std::string(first) +
            "},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + std::string(second) +
            "}}",
        9);
  };
  EXPECT_EQ(two("[0,4]", "[3,7]"),
            "load \"m\": \"b\" must begin where the tensor before it ends, at data byte 4, got 3");
  EXPECT_EQ(two("[5,9]", "[0,4]"),
            "load \"m\": \"a\" must begin where the tensor before it ends, at data byte 4, got 5");
}

TEST(SafeTensors, names_that_come_twice_are_errors) {
  const std::string entry = R"(:{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  EXPECT_EQ(error_of("{\"a\"" + entry + ",\"b\"" + entry + ",\"\\u0061\"" + entry + "}", 0),
            "load \"m\": \"a\" must come once, got two");
  EXPECT_EQ(error_of("{\"a\"" + entry + ",\"b\"" + entry + "}", 0), "no error");
  EXPECT_EQ(error_of(R"({"__metadata__":{},"__metadata__":{}})", 0),
            "load \"m\": \"__metadata__\" must come once, got two");
  EXPECT_EQ(error_of(R"({"__metadata__":{"k":"1","k":"2"}})", 0),
            "load \"m\": \"__metadata__\" must have different keys, got \"k\" twice");
  EXPECT_EQ(error_of(R"({"__metadata__":{"k":1}})", 0),
            "load \"m\": a string must come at byte 21, got '1'");
}

TEST(SafeTensors, a_long_name_is_cut_in_messages) {
  const std::string message = error_of("{\"" + std::string(5000, 'n') + "\":{}}", 0);
  EXPECT_LT(message.size(), 400u);
  EXPECT_NE(message.find("nnn...\" must have dtype"), std::string::npos) << message;
}

TEST(WriteSafeTensors, bad_names_and_shapes_are_errors_and_leave_no_file) {
  const TempFolder folder;
  const auto error = [&](const std::vector<TensorToWrite>& tensors) -> std::string {
    try {
      write_safetensors(folder.path() / "a", tensors);
    } catch (const Error& failure) {
      EXPECT_EQ(failure.kind(), ErrorKind::value);
      return failure.what();
    }
    return "no error";
  };
  const auto named = [](std::string name) { return tensor(std::move(name), DType::u8, {1}, 0); };
  EXPECT_EQ(error({named("x"), named("x")}),
            "write_safetensors: the names of tensors must differ, got \"x\" twice");
  EXPECT_EQ(error({named("__metadata__")}),
            "write_safetensors: a tensor must not be called \"__metadata__\", got one that is");
  EXPECT_EQ(error({named("bad\xff")}),
            "write_json: strings must be well-formed UTF-8, got byte value 255");
  const int64_t big = int64_t{1} << 31;
  EXPECT_EQ(error({tensor("x", DType::f32, {big, big}, 0)}),
            "write_safetensors: the size of \"x\" must fit int64, got shape [2147483648, "
            "2147483648]");
  EXPECT_TRUE(folder.entries().empty());
}

TEST(WriteSafeTensors, an_exception_while_filling_leaves_the_old_file) {
  const TempFolder folder;
  const auto path = folder.path() / "a";
  write_safetensors(path, std::vector{tensor("t", DType::u8, {3}, 5)});
  TensorToWrite bad = tensor("u", DType::u8, {1000}, 0);
  bad.fill = [](std::span<std::byte>) { throw std::runtime_error("enough"); };
  EXPECT_THROW(write_safetensors(path, std::vector{tensor("t", DType::u8, {3}, 9), bad}),
               std::runtime_error);
  EXPECT_EQ(SafeTensors(path).tensors().front().view.as<uint8_t>()[0], 5);
  EXPECT_EQ(folder.entries(), std::vector<std::string>{"a"});
}

}  // namespace
}  // namespace fuseq::inline v0
