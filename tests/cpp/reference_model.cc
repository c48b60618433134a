// SPDX-License-Identifier: Apache-2.0
// The plain reference of a whole model, written from the fields of TransformerSpec.
#include "reference_model.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace fuseq::test {
namespace {

double activate(Activation act, double x) {
  switch (act) {
    case Activation::none: return x;
    case Activation::relu: return std::max(x, 0.0);
    case Activation::gelu: return x * 0.5 * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::silu: return x / (1 + std::exp(-x));
    case Activation::tanh: return std::tanh(x);
  }
  return 0;
}

class Reference {
 public:
  Reference(const TransformerSpec& spec, const Weights& weights) : spec_(spec), weights_(weights) {}

  Matrix encode(std::span<const int32_t> ids) {
    return stack("encoder", spec_.encoder, ids, nullptr);
  }

  Matrix logits(std::span<const int32_t> encoder_ids, std::span<const int32_t> ids) {
    Matrix states;
    if (spec_.encoder.layers > 0) states = encode(encoder_ids);
    Matrix x = stack("decoder", spec_.decoder, ids, spec_.encoder.layers > 0 ? &states : nullptr);
    if (spec_.head.transform) {
      x = linear("head.dense", x);
      for (auto& row : x) {
        for (double& v : row) v = activate(spec_.head.transform_act, v);
      }
      x = normed("head.norm", spec_.decoder, x);
    }
    Matrix out = multiply(spec_.head.tied ? "embed.tokens" : "head.weight", x);
    for (auto& row : out) {
      for (size_t o = 0; o < row.size(); ++o) {
        row[o] = row[o] * spec_.head.scale + (spec_.head.bias ? at("head.bias", o) : 0);
        if (spec_.head.cap > 0) row[o] = spec_.head.cap * std::tanh(row[o] / spec_.head.cap);
      }
    }
    return out;
  }

 private:
  double at(const std::string& name, size_t i) const { return weights_.at(name).as<float>()[i]; }
  bool has(const std::string& name) const { return weights_.contains(name); }

  Matrix multiply(const std::string& name, const Matrix& x) const {
    const Tensor& w = weights_.at(name);
    const auto O = static_cast<size_t>(w.shape().dim(0));
    const auto I = static_cast<size_t>(w.shape().dim(1));
    Matrix y(x.size(), std::vector<double>(O));
    for (size_t n = 0; n < x.size(); ++n) {
      for (size_t o = 0; o < O; ++o) {
        for (size_t i = 0; i < I; ++i) y[n][o] += x[n][i] * w.as<float>()[o * I + i];
      }
    }
    return y;
  }

  Matrix linear(const std::string& name, const Matrix& x) const {
    Matrix y = multiply(name + ".weight", x);
    if (has(name + ".bias")) {
      for (auto& row : y) {
        for (size_t o = 0; o < row.size(); ++o) row[o] += at(name + ".bias", o);
      }
    }
    return y;
  }

  void norm_row(const std::string& name, Norm kind, double eps, double* x, size_t count) const {
    double mean = 0;
    double square = 0;
    if (kind == Norm::layer) {
      for (size_t i = 0; i < count; ++i) mean += x[i] / static_cast<double>(count);
    }
    for (size_t i = 0; i < count; ++i)
      square += (x[i] - mean) * (x[i] - mean) / static_cast<double>(count);
    for (size_t i = 0; i < count; ++i) {
      const double weight = at(name + ".weight", i) + (kind == Norm::rms_plus_one ? 1 : 0);
      x[i] = (x[i] - mean) / std::sqrt(square + eps) * weight +
             (kind == Norm::layer ? at(name + ".bias", i) : 0);
    }
  }

  Matrix normed(const std::string& name, const StackSpec& s, Matrix x) const {
    for (auto& row : x) norm_row(name, s.norm, s.norm_eps, row.data(), row.size());
    return x;
  }

  int bucket(const RelativeBias& r, int64_t distance) const {
    int buckets = r.buckets;
    int result = 0;
    if (r.bidirectional) {
      buckets /= 2;
      if (distance > 0) result = buckets;
      distance = std::abs(distance);
    } else {
      distance = std::max<int64_t>(-distance, 0);
    }
    const int exact = buckets / 2;
    if (distance < exact) return result + static_cast<int>(distance);
    const int far = exact + static_cast<int>(std::log(static_cast<double>(distance) / exact) /
                                             std::log(static_cast<double>(r.max_distance) / exact) *
                                             (buckets - exact));
    return result + std::min(far, buckets - 1);
  }

  void rotate(double* head, const std::vector<float>& frequencies, size_t position) const {
    const size_t half = frequencies.size();
    for (size_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(position) * frequencies[i];
      const double a = head[i];
      const double b = head[i + half];
      head[i] = a * std::cos(angle) - b * std::sin(angle);
      head[i + half] = b * std::cos(angle) + a * std::sin(angle);
    }
  }

  Matrix attend(const std::string& name, const StackSpec& s, int layer, const Matrix& x,
                const Matrix* states) const {
    Matrix q = linear(name + "q", x);
    Matrix k = linear(name + "k", states ? *states : x);
    const Matrix v = linear(name + "v", states ? *states : x);
    const auto E = static_cast<size_t>(s.head_dim);
    const bool is_self = states == nullptr;
    const bool causal = is_self && &s == &spec_.decoder;
    if (is_self) {
      for (auto [rows, heads, norm] :
           {std::tuple{&q, s.heads, "q_norm"}, std::tuple{&k, s.kv_heads, "k_norm"}}) {
        for (size_t t = 0; t < rows->size(); ++t) {
          for (size_t h = 0; h < static_cast<size_t>(heads); ++h) {
            double* head = (*rows)[t].data() + h * E;
            if (s.qk_norm) norm_row(name + norm, s.norm, s.norm_eps, head, E);
            if (!s.rope.empty())
              rotate(head, s.rope[static_cast<size_t>(layer) % s.rope.size()], t);
          }
        }
      }
    }
    const double scale = s.score_scale > 0 ? s.score_scale : 1 / std::sqrt(static_cast<double>(E));
    const auto window =
        static_cast<size_t>(s.windows[static_cast<size_t>(layer) % s.windows.size()]);
    const std::string bias =
        std::string(&s == &spec_.encoder ? "encoder" : "decoder") + ".relative_bias";
    Matrix mixed(x.size(), std::vector<double>(static_cast<size_t>(s.heads) * E));
    for (size_t t = 0; t < x.size(); ++t) {
      const size_t end = causal ? t + 1 : k.size();
      const size_t begin = is_self && window > 0 && end > window ? end - window : 0;
      for (size_t h = 0; h < static_cast<size_t>(s.heads); ++h) {
        const size_t g = h / static_cast<size_t>(s.heads / s.kv_heads);
        std::vector<double> scores;
        for (size_t j = begin; j < end; ++j) {
          double score = 0;
          for (size_t e = 0; e < E; ++e) score += q[t][h * E + e] * k[j][g * E + e];
          score *= scale;
          if (s.score_cap > 0) score = s.score_cap * std::tanh(score / s.score_cap);
          if (is_self && s.relative.buckets > 0) {
            const int row = bucket(s.relative, static_cast<int64_t>(j) - static_cast<int64_t>(t));
            score += at(bias, static_cast<size_t>(row) * static_cast<size_t>(s.heads) + h);
          }
          scores.push_back(score);
        }
        const double top = *std::ranges::max_element(scores);
        double sum = 0;
        for (double& score : scores) sum += score = std::exp(score - top);
        for (size_t j = begin; j < end; ++j) {
          for (size_t e = 0; e < E; ++e)
            mixed[t][h * E + e] += scores[j - begin] / sum * v[j][g * E + e];
        }
      }
    }
    return linear(name + "o", mixed);
  }

  Matrix feed_forward(const std::string& name, const StackSpec& s, const Matrix& x) const {
    Matrix hidden = linear(name + "up", x);
    const Matrix gate = s.gated_ffn ? linear(name + "gate", x) : Matrix();
    for (size_t n = 0; n < hidden.size(); ++n) {
      for (size_t f = 0; f < hidden[n].size(); ++f) {
        hidden[n][f] = s.gated_ffn ? activate(s.act, gate[n][f]) * hidden[n][f]
                                   : activate(s.act, hidden[n][f]);
      }
    }
    return linear(name + "down", hidden);
  }

  template <typename F>
  Matrix sublayer(const std::string& norm, const StackSpec& s, Matrix x, F f) const {
    Matrix y = f(s.place == NormPlace::post ? x : normed(norm + "_norm", s, x));
    if (s.place == NormPlace::both) y = normed(norm + "_post_norm", s, y);
    for (size_t n = 0; n < x.size(); ++n) {
      for (size_t d = 0; d < x[n].size(); ++d) x[n][d] += y[n][d];
    }
    return s.place == NormPlace::post ? normed(norm + "_norm", s, x) : x;
  }

  Matrix stack(const std::string& name, const StackSpec& s, std::span<const int32_t> ids,
               const Matrix* states) const {
    const auto D = static_cast<size_t>(s.dim);
    Matrix x(ids.size(), std::vector<double>(D));
    for (size_t t = 0; t < ids.size(); ++t) {
      for (size_t d = 0; d < D; ++d) {
        x[t][d] = at("embed.tokens", static_cast<size_t>(ids[t]) * D + d) * spec_.embed_scale;
        if (s.positions == Positions::table) {
          x[t][d] += at(name + ".positions", (t + static_cast<size_t>(s.position_offset)) * D + d);
        }
        if (spec_.token_types > 0) x[t][d] += at("embed.types", d);
      }
    }
    if (s.embed_norm) x = normed(name + ".embed_norm", s, x);
    for (int i = 0; i < s.layers; ++i) {
      const std::string layer = name + "." + std::to_string(i) + ".";
      x = sublayer(layer + "attn", s, x,
                   [&](const Matrix& in) { return attend(layer + "attn.", s, i, in, nullptr); });
      if (states) {
        x = sublayer(layer + "cross_attn", s, x, [&](const Matrix& in) {
          return attend(layer + "cross_attn.", s, i, in, states);
        });
      }
      x = sublayer(layer + "ffn", s, x,
                   [&](const Matrix& in) { return feed_forward(layer + "ffn.", s, in); });
    }
    return s.final_norm ? normed(name + ".final_norm", s, x) : x;
  }

  const TransformerSpec& spec_;
  const Weights& weights_;
};

}  // namespace

Matrix reference_encode(const TransformerSpec& spec, const Weights& weights,
                        std::span<const int32_t> ids) {
  return Reference(spec, weights).encode(ids);
}

Matrix reference_logits(const TransformerSpec& spec, const Weights& weights,
                        std::span<const int32_t> encoder_ids, std::span<const int32_t> ids) {
  return Reference(spec, weights).logits(encoder_ids, ids);
}

}  // namespace fuseq::test
