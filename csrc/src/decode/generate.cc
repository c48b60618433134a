// SPDX-License-Identifier: Apache-2.0
// generate: a loop over the session that a model keeps.
#include "fuseq/generate.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/message.h"
#include "decode/session_impl.h"
#include "model/model_impl.h"

namespace fuseq::inline v0 {
namespace {

constexpr int kDefaultRows = 32;
constexpr int kMaxBeams = 1024;
constexpr std::chrono::milliseconds kPollInterval{50};

[[nodiscard]] std::vector<Request> make_requests(const Model& model,
                                                 std::span<const Prompt> prompts,
                                                 const GenerationOptions& options) {
  std::vector<Request> requests;
  requests.reserve(prompts.size());
  for (const Prompt& prompt : prompts) {
    try {
      requests.push_back(make_request(model.spec(), prompt, options, kMaxBeams));
    } catch (const Error& error) {
      fail(error.kind(), "prompts[", requests.size(), "]: ", error.what());
    }
  }
  return requests;
}

/// The model's own session, with room for num_beams.
[[nodiscard]] Session::Impl& shared_session(const Model& model, int num_beams) {
  auto& kept = model.impl().session;
  if (kept == nullptr || static_cast<Session::Impl*>(kept.get())->options.max_rows < num_beams) {
    kept = std::make_shared<Session::Impl>(
        model, SessionOptions{.max_rows = std::max(kDefaultRows, num_beams)});
  }
  return *static_cast<Session::Impl*>(kept.get());
}

}  // namespace

std::vector<std::vector<Hypothesis>> generate(const Model& model, std::span<const Prompt> prompts,
                                              const GenerationOptions& options) {
  return generate(model, prompts, options, {});
}

std::vector<std::vector<Hypothesis>> generate(const Model& model, std::span<const Prompt> prompts,
                                              const GenerationOptions& options,
                                              const std::function<bool()>& interrupted) {
  std::vector<Request> requests = make_requests(model, prompts, options);
  std::vector<std::vector<Hypothesis>> results(requests.size());
  if (requests.empty()) return results;

  const std::lock_guard lock(model.impl().session_mutex);
  Session::Impl& session = shared_session(model, options.num_beams);
  try {
    std::vector<RequestId> ids;
    for (Request& request : requests) ids.push_back(session.enqueue(std::move(request)));
    auto polled = std::chrono::steady_clock::now();
    while (session.step()) {
      if (!interrupted) continue;
      const auto now = std::chrono::steady_clock::now();
      if (now - polled < kPollInterval) continue;
      polled = now;
      if (interrupted()) fail(ErrorKind::runtime, "generate: interrupted");
    }
    for (size_t i = 0; i < ids.size(); ++i) {
      results[i] = std::move(session.find("generate", ids[i]).results);
      session.requests.erase(ids[i]);
    }
  } catch (...) {
    model.impl().session.reset();  // Requests under way go with it.
    throw;
  }
  return results;
}

}  // namespace fuseq::inline v0
