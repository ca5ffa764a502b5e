// The layer's matrix, (d_out, d_in), built in place, and the way back of its gradient to the factors.
//
// For one (phi, y1) the first factor is packed as (gamma, rho, x1), x1 filled up to whole vectors. Rows y2 of the matrix are
// then made four at a time, and the sums over rho stay in registers. The way back takes eight, turned, for sums over features.

#pragma once

#include "native_vectors.h"

namespace {

constexpr int TALL = 4; // rows of the matrix in a tile

// Up to eight features of a row of the matrix, `step` apart; zeros beyond `count`.
inline F8 load_features(const float *row, int64_t step, int64_t count) {
    if (step == 1 && count >= 8) return load8(row);
    float found[8] = {};
    for (int64_t i = 0; i < std::min<int64_t>(8, count); i++) found[i] = row[i * step];
    return load8(found);
}

inline void store_features(float *row, F8 value, int64_t step, int64_t count) {
    if (step == 1 && count >= 8) return store8(row, value);
    float given[8];
    store8(given, value);
    for (int64_t i = 0; i < std::min<int64_t>(8, count); i++) row[i * step] = given[i];
}

// The rows of the matrix with one (phi, y1).
struct Panel {
    const Sizes &s;
    int64_t f, d;

    int64_t width() const { return (s.x1 + 7) / 8 * 8; }
    int64_t floats() const { return s.gamma * s.rho * width(); }
    int64_t weights(int64_t g, int64_t r) const { return (((g * s.rho + r) * s.phi + f) * s.y1 + d) * s.x1; }
    int64_t row(int64_t e) const { return (s.out_row(f, d) + e * s.out_step()) * s.d_in(); }
    int64_t factors(int64_t e, int64_t g, int64_t b) const { return (((f * s.y2 + e) * s.gamma + g) * s.x2 + b) * s.rho; }

    void pack(const float *first, float *packed) const {
        memset(packed, 0, floats() * sizeof(float));
        for (int64_t i = 0; i < s.gamma * s.rho; i++)
            memcpy(packed + i * width(), first + weights(i / s.rho, i % s.rho), s.x1 * sizeof(float));
    }

    void unpack(const float *packed, float *first) const {
        for (int64_t i = 0; i < s.gamma * s.rho; i++)
            memcpy(first + weights(i / s.rho, i % s.rho), packed + i * width(), s.x1 * sizeof(float));
    }

    template <int HEIGHT> void build(int64_t e, const float *packed, const float *second, float *matrix) const {
        const int64_t down = s.inner(), step = s.in_step();
        for (int64_t g = 0; g < s.gamma; g++)
            for (int64_t b = 0; b < s.x2; b++) {
                const float *factor = second + factors(e, g, b);
                for (int64_t a = 0; a < s.x1; a += 8) {
                    const float *from = packed + g * s.rho * width() + a;
                    F8 sum[HEIGHT] = {};
                    for (int64_t r = 0; r < s.rho; r++, from += width())
                        for (int i = 0; i < HEIGHT; i++) sum[i] += factor[i * down + r] * load8(from);
                    for (int i = 0; i < HEIGHT; i++)
                        store_features(matrix + row(e + i) + s.in_row(g, b) + a * step, sum[i], step, s.x1 - a);
                }
            }
    }

    template <int HEIGHT>
    void pull(int64_t e, const float *packed, const float *second, const float *d_matrix, float *d_packed,
              float *d_second) const {
        const int64_t down = s.inner(), step = s.in_step();
        for (int64_t g = 0; g < s.gamma; g++)
            for (int64_t b = 0; b < s.x2; b++) {
                const int64_t at = factors(e, g, b);
                for (int64_t a = 0; a < s.x1; a += 8) {
                    const float *from = packed + g * s.rho * width() + a;
                    float *to = d_packed + g * s.rho * width() + a;
                    const int64_t lanes = std::min<int64_t>(8, s.x1 - a);
                    F8 block[8] = {}, turned[8];
                    for (int i = 0; i < HEIGHT; i++)
                        block[i] = load_features(d_matrix + row(e + i) + s.in_row(g, b) + a * step, step, s.x1 - a);
                    std::copy(block, block + 8, turned);
                    transpose8(turned);
                    for (int64_t r = 0; r < s.rho; r++, from += width(), to += width()) {
                        F8 total = load8(to), dots = {};
                        for (int i = 0; i < HEIGHT; i++) total += second[at + i * down + r] * block[i];
                        store8(to, total);
                        for (int64_t i = 0; i < lanes; i++) dots += from[i] * turned[i];
                        for (int i = 0; i < HEIGHT; i++) d_second[at + i * down + r] += dots[i];
                    }
                }
            }
    }
};

void build_matrix(const Sizes &s, const float *first, const float *second, float *matrix, int threads) {
#pragma omp parallel num_threads(threads)
    {
        const Room packed(Panel{s, 0, 0}.floats());
#pragma omp for schedule(static)
        for (int64_t f = 0; f < s.phi; f++)
            for (int64_t d = 0; d < s.y1; d++) {
                const Panel panel{s, f, d};
                panel.pack(first, packed.data);
                int64_t e = 0;
                for (; e + TALL <= s.y2; e += TALL) panel.build<TALL>(e, packed.data, second, matrix);
                for (; e < s.y2; e++) panel.build<1>(e, packed.data, second, matrix);
            }
    }
}

// `d_second` holds zeros.
void pull_gradient(const Sizes &s, const float *first, const float *second, const float *d_matrix, float *d_first,
                   float *d_second, int threads) {
#pragma omp parallel num_threads(threads)
    {
        const int64_t floats = Panel{s, 0, 0}.floats();
        const Room packed(floats), d_packed(floats);
#pragma omp for schedule(static)
        for (int64_t f = 0; f < s.phi; f++)
            for (int64_t d = 0; d < s.y1; d++) {
                const Panel panel{s, f, d};
                panel.pack(first, packed.data);
                memset(d_packed.data, 0, floats * sizeof(float));
                int64_t e = 0;
                for (; e + 8 <= s.y2; e += 8) panel.pull<8>(e, packed.data, second, d_matrix, d_packed.data, d_second);
                for (; e + TALL <= s.y2; e += TALL) panel.pull<TALL>(e, packed.data, second, d_matrix, d_packed.data, d_second);
                for (; e < s.y2; e++) panel.pull<1>(e, packed.data, second, d_matrix, d_packed.data, d_second);
                panel.unpack(d_packed.data, d_first);
            }
    }
}

} // namespace
