# SPDX-License-Identifier: Apache-2.0
# GoogleTest: the system's if there is one, else downloaded.
include(FetchContent)
set(INSTALL_GTEST OFF)
FetchContent_Declare(
  googletest
  URL https://github.com/google/googletest/releases/download/v1.17.0/googletest-1.17.0.tar.gz
  URL_HASH SHA256=65fab701d9829d38cb77c14acdc431d2108bfdbf8979e40eb8ae567edf10b27c
  DOWNLOAD_EXTRACT_TIMESTAMP ON
  FIND_PACKAGE_ARGS 1.12 NAMES GTest CONFIG)
FetchContent_MakeAvailable(googletest)
