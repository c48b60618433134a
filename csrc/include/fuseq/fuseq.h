// SPDX-License-Identifier: Apache-2.0
// The stable public interface: models, sessions, generation, errors. Ops are in fuseq/kernels.h.
#pragma once

#include "fuseq/error.h"
#include "fuseq/generate.h"
#include "fuseq/model.h"
#include "fuseq/options.h"
#include "fuseq/search.h"
#include "fuseq/session.h"
#include "fuseq/spec.h"
#include "fuseq/version.h"
