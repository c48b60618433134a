// SPDX-License-Identifier: Apache-2.0
// Context: settings resolved once, threads and scratch memory.
#include "fuseq/context.h"

#include "base/context_impl.h"
#include "base/cpu_features.h"
#include "base/message.h"

namespace fuseq::inline v0 {

namespace {

std::unique_ptr<Context::Impl> make_impl(const ContextOptions& options) {
  if (options.device != Device::cpu) {
    fail(ErrorKind::unsupported, "Context: device must be cpu in this build, got ",
         options.device == Device::cuda ? "cuda" : "an unknown one");
  }
  const int num_threads = resolve_num_threads(options.num_threads);
  const CpuIsa isa = resolve_cpu_isa(options.cpu_isa);
  const bool has_bf16_dot = isa == CpuIsa::avx512 && cpu_features().avx512_bf16;
  const bool has_vnni = (isa == CpuIsa::avx512 && cpu_features().avx512_vnni) ||
                        (isa == CpuIsa::avx2 && cpu_features().avx_vnni);
  return std::unique_ptr<Context::Impl>(new Context::Impl{.device = options.device,
                                                          .isa = isa,
                                                          .has_bf16_dot = has_bf16_dot,
                                                          .has_vnni = has_vnni,
                                                          .team = ThreadTeam(num_threads),
                                                          .arena = {}});
}

}  // namespace

Context::Context(const ContextOptions& options) : impl_(make_impl(options)) {}
Context::~Context() = default;
Context::Context(Context&&) noexcept = default;
Context& Context::operator=(Context&&) noexcept = default;

Device Context::device() const noexcept {
  return impl_->device;
}
int Context::num_threads() const noexcept {
  return impl_->team.size();
}
CpuIsa Context::cpu_isa() const noexcept {
  return impl_->isa;
}
void Context::release_memory() {
  impl_->arena.release();
}

}  // namespace fuseq::inline v0
