# SPDX-License-Identifier: Apache-2.0
# Settings shared by every target of this project.

if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

include(GNUInstallDirs)
find_package(Threads REQUIRED)

# One interface target holds what every file is compiled with.
add_library(fuseq_options INTERFACE)
target_compile_features(fuseq_options INTERFACE cxx_std_20)
target_link_libraries(fuseq_options INTERFACE Threads::Threads)
if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  # No contraction: a * b + c is fused only where the source says fma, so that every instruction set rounds alike.
  target_compile_options(fuseq_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
                                                 -Wno-missing-field-initializers
                                                 -ffp-contract=off)
  if(FUSEQ_SANITIZE)
    target_compile_options(fuseq_options INTERFACE -fsanitize=${FUSEQ_SANITIZE} -fno-omit-frame-pointer
                                                   -fno-sanitize-recover=all -g -O1)
    target_link_options(fuseq_options INTERFACE -fsanitize=${FUSEQ_SANITIZE})
  endif()
endif()
