// SPDX-License-Identifier: Apache-2.0
// generate and score: loops over the session that a model keeps.
#include "fuseq/generate.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include "base/message.h"
#include "decode/session_impl.h"
#include "model/model_impl.h"

namespace fuseq::inline v0 {
namespace {

constexpr int kDefaultRows = 32;
constexpr int kMostRows = 1024;
constexpr std::chrono::milliseconds kPollInterval{50};

[[nodiscard]] std::vector<Request> make_requests(const Model& model,
                                                 std::span<const Prompt> prompts,
                                                 const GenerationOptions& options) {
  std::vector<Request> requests;
  requests.reserve(prompts.size());
  for (Prompt prompt : prompts) {
    const auto place = static_cast<int64_t>(requests.size());
    if (prompt.sequence == -1 && !prompt.seed) prompt.sequence = place;
    try {
      requests.push_back(make_request(model.spec(), prompt, options, kMostRows));
      requests.back().place = place;
    } catch (const Error& error) {
      fail(error.kind(), "prompts[", requests.size(), "]: ", error.what());
    }
  }
  return requests;
}

/// The model's own session for as long as one call uses it.
class SharedSession {
 public:
  SharedSession(const Model& model, const char* call, const std::function<bool()>& interrupted = {})
      : owner_(model.impl()), lock_(take(call, interrupted)) {
    owner_.session_user = std::this_thread::get_id();
  }
  ~SharedSession() { owner_.session_user = std::thread::id(); }
  SharedSession(const SharedSession&) = delete;
  SharedSession& operator=(const SharedSession&) = delete;

  /// With room for so many rows.
  Session::Impl& with_rows(const Model& model, int num_rows) {
    std::shared_ptr<void>& kept = owner_.session;
    if (kept == nullptr || static_cast<Session::Impl*>(kept.get())->options.max_rows < num_rows) {
      kept.reset();
      kept = std::make_shared<Session::Impl>(
          model, SessionOptions{.max_rows = std::max(kDefaultRows, num_rows)});
    }
    return *static_cast<Session::Impl*>(kept.get());
  }

 private:
  [[nodiscard]] std::unique_lock<std::timed_mutex> take(
      const char* call, const std::function<bool()>& interrupted) const {
    if (owner_.session_user == std::this_thread::get_id()) {
      fail(ErrorKind::runtime, call,
           ": must not be called from inside a callback of the same model's generate");
    }
    if (!interrupted) return std::unique_lock(owner_.session_mutex);
    std::unique_lock lock(owner_.session_mutex, std::defer_lock);
    // The system's clock: thread sanitizers do not know of locks that wait by the steady one.
    while (!lock.try_lock_until(std::chrono::system_clock::now() + kPollInterval)) {
      if (interrupted()) fail(ErrorKind::runtime, call, ": interrupted");
    }
    return lock;
  }

  const Model::Impl& owner_;
  std::unique_lock<std::timed_mutex> lock_;
};

/// The requests of one call, the only ones of its session; whatever ends it, they leave.
class Submitted {
 public:
  explicit Submitted(Session::Impl& session) : session_(session) {}
  ~Submitted() { session_.drop_all(); }
  Submitted(const Submitted&) = delete;
  Submitted& operator=(const Submitted&) = delete;

  void add(std::vector<Request> requests) {
    ids_.reserve(requests.size());
    for (Request& request : requests) ids_.push_back(session_.enqueue(std::move(request)));
  }
  [[nodiscard]] std::vector<std::vector<Hypothesis>> results() {
    std::vector<std::vector<Hypothesis>> results;
    results.reserve(ids_.size());
    for (const RequestId id : ids_) {
      results.push_back(std::move(session_.find("generate", id).results));
    }
    return results;
  }

 private:
  Session::Impl& session_;
  std::vector<RequestId> ids_;
};

}  // namespace

std::vector<std::vector<Hypothesis>> generate(const Model& model, std::span<const Prompt> prompts,
                                              const GenerationOptions& options,
                                              const CallOptions& call) {
  require(call.max_batch_size >= 0, "max_batch_size: must not be negative, got ",
          call.max_batch_size);
  require(!call.on_token || options.num_beams <= 1,
          "on_token: must not come with beams, whose past may change, got num_beams ",
          options.num_beams);
  GenerationOptions seeded = options;
  if (seeded.do_sample && !seeded.seed) seeded.seed = fresh_seed();  // one for all prompts
  std::vector<Request> requests = make_requests(model, prompts, seeded);
  if (requests.empty()) return {};

  const int rows_each = requests.front().rules.num_rows;
  const int64_t wanted =
      call.max_batch_size > 0
          ? std::min<int64_t>(call.max_batch_size, static_cast<int64_t>(requests.size())) *
                rows_each
          : std::max(kDefaultRows / rows_each, 1) * int64_t{rows_each};
  const auto num_rows =
      static_cast<int>(std::min<int64_t>(wanted, kMostRows / rows_each * int64_t{rows_each}));

  SharedSession shared(model, "generate", call.interrupted);
  Session::Impl& session = shared.with_rows(model, num_rows);
  session.rows.set_limit(num_rows);
  Submitted submitted(session);
  submitted.add(std::move(requests));
  auto polled = std::chrono::steady_clock::now();
  while (session.step(call.on_token)) {
    if (!call.interrupted) continue;
    const auto now = std::chrono::steady_clock::now();
    if (now - polled < kPollInterval) continue;
    polled = now;
    if (call.interrupted()) fail(ErrorKind::runtime, "generate: interrupted");
  }
  return submitted.results();
}

std::vector<std::vector<float>> score(const Model& model, std::span<const Prompt> prompts,
                                      std::span<const std::span<const int32_t>> targets) {
  SharedSession shared(model, "score");
  Session::Impl& session = shared.with_rows(model, kDefaultRows);
  return session.score(prompts, targets);
}

}  // namespace fuseq::inline v0
