// SPDX-License-Identifier: Apache-2.0
// What the library shows to the linker: everything marked FUSEQ_API, nothing else.
#pragma once

#if defined(_WIN32) && !defined(FUSEQ_STATIC)
#if defined(FUSEQ_BUILDING)
#define FUSEQ_API __declspec(dllexport)
#else
#define FUSEQ_API __declspec(dllimport)
#endif
#elif defined(__GNUC__) && !defined(FUSEQ_STATIC)
#define FUSEQ_API __attribute__((visibility("default")))
#else
#define FUSEQ_API
#endif
