// The layer's matrix, (d_out, d_in), built in place, and the way back of its gradient to the factors.
//
// For one (phi, y1) the first factor is packed as (gamma, rho, x1), x1 filled up to whole vectors. Rows y2 of the matrix are
// then made four at a time, and the sums over rho stay in registers. The way back takes as many as a vector has lanes, turned,
// for sums over features. Vectors have four lanes where that leaves fewer of them empty.

#pragma once

#include "native_vectors.h"

namespace {

constexpr int TALL = 4; // rows of the matrix in a tile

// Up to a vector of features of a row of the matrix, `step` apart; zeros beyond `count`.
template <typename V> inline V load_features(const float *row, int64_t step, int64_t count) {
    constexpr int64_t lanes = sizeof(V) / sizeof(float);
    V found = {};
    if (step == 1 && count >= lanes) memcpy(&found, row, sizeof found);
    else
        for (int64_t i = 0; i < std::min(lanes, count); i++) found[i] = row[i * step];
    return found;
}

template <typename V> inline void store_features(float *row, V value, int64_t step, int64_t count) {
    constexpr int64_t lanes = sizeof(V) / sizeof(float);
    if (step == 1 && count >= lanes) memcpy(row, &value, sizeof value);
    else
        for (int64_t i = 0; i < std::min(lanes, count); i++) row[i * step] = value[i];
}

// The rows of the matrix with one (phi, y1), features in vectors of type V.
template <typename V> struct Panel {
    static constexpr int64_t COUNT = sizeof(V) / sizeof(float);
    const Sizes &s;
    int64_t f, d;

    int64_t width() const { return (s.x1 + COUNT - 1) / COUNT * COUNT; }
    int64_t floats() const { return s.gamma * s.rho * width(); }
    int64_t weights(int64_t g, int64_t r) const { return (((g * s.rho + r) * s.phi + f) * s.y1 + d) * s.x1; }
    int64_t row(int64_t e) const { return (s.out_row(f, d) + e * s.out_step()) * s.d_in(); }
    int64_t factors(int64_t e) const { return (f * s.y2 + e) * s.inner(); }

    void pack(const float *first, float *packed) const {
        memset(packed, 0, floats() * sizeof(float));
        for (int64_t i = 0; i < s.gamma * s.rho; i++)
            memcpy(packed + i * width(), first + weights(i / s.rho, i % s.rho), s.x1 * sizeof(float));
    }

    void unpack(const float *packed, float *first) const {
        for (int64_t i = 0; i < s.gamma * s.rho; i++)
            memcpy(first + weights(i / s.rho, i % s.rho), packed + i * width(), s.x1 * sizeof(float));
    }

    // Calls visit(g, weights of the second factor, features of the matrix) for each (g, b). What it reads of `s` is kept
    // beside the loops: the compiler must take every store to change it.
    template <typename Visit> void each_block(Visit visit) const {
        const int64_t gamma = s.gamma, x2 = s.x2, rho = s.rho, block = s.x1 * x2, by = s.a_first ? s.x1 : 1;
        for (int64_t g = 0; g < gamma; g++)
            for (int64_t b = 0; b < x2; b++) visit(g, (g * x2 + b) * rho, g * block + b * by);
    }

    template <int HEIGHT> void build(int64_t e, const float *packed, const float *second, float *matrix) const {
        const int64_t down = s.inner(), step = s.in_step(), rho = s.rho, x1 = s.x1, wide = width();
        const int64_t across = s.out_step() * s.d_in();
        const float *factors_of = second + factors(e);
        float *rows = matrix + row(e);
        each_block([=](int64_t g, int64_t w, int64_t column) {
            const float *factor = factors_of + w;
            for (int64_t a = 0; a < x1; a += COUNT) {
                const float *from = packed + g * rho * wide + a;
                V sum[HEIGHT];
#pragma GCC unroll 8
                for (int i = 0; i < HEIGHT; i++) sum[i] = V{};
                for (int64_t r = 0; r < rho; r++, from += wide) {
                    const V weights = load_features<V>(from, 1, COUNT);
#pragma GCC unroll 8
                    for (int i = 0; i < HEIGHT; i++) sum[i] += factor[i * down + r] * weights;
                }
                float *to = rows + column + a * step;
#pragma GCC unroll 8
                for (int i = 0; i < HEIGHT; i++) store_features(to + i * across, sum[i], step, x1 - a);
            }
        });
    }

    template <int HEIGHT>
    void pull(int64_t e, const float *packed, const float *second, const float *d_matrix, float *d_packed,
              float *d_second) const {
        const int64_t down = s.inner(), step = s.in_step(), rho = s.rho, x1 = s.x1, wide = width();
        const int64_t across = s.out_step() * s.d_in(), base = factors(e);
        const float *rows = d_matrix + row(e);
        each_block([=](int64_t g, int64_t w, int64_t column) {
            const float *factor = second + base + w;
            float *d_factor = d_second + base + w;
            for (int64_t a = 0; a < x1; a += COUNT) {
                const float *from = packed + g * rho * wide + a, *given = rows + column + a * step;
                float *to = d_packed + g * rho * wide + a;
                V block[COUNT], turned[COUNT];
#pragma GCC unroll 8
                for (int i = 0; i < COUNT; i++)
                    turned[i] = block[i] = i < HEIGHT ? load_features<V>(given + i * across, step, x1 - a) : V{};
                transpose(turned);
                for (int64_t r = 0; r < rho; r++, from += wide, to += wide) {
                    V total = load_features<V>(to, 1, COUNT), dots = {};
#pragma GCC unroll 8
                    for (int i = 0; i < HEIGHT; i++) total += factor[i * down + r] * block[i];
                    memcpy(to, &total, sizeof total);
#pragma GCC unroll 8
                    for (int i = 0; i < COUNT; i++) dots += from[i] * turned[i]; // `packed` holds zeros beyond x1
#pragma GCC unroll 8
                    for (int i = 0; i < HEIGHT; i++) d_factor[i * down + r] += dots[i];
                }
            }
        });
    }
};

template <typename V> void build_matrix(const Sizes &s, const float *first, const float *second, float *matrix, float *room,
                  int threads) {
#pragma omp parallel num_threads(threads)
    {
        float *packed = room + omp_get_thread_num() * Panel<V>{s, 0, 0}.floats();
#pragma omp for schedule(static)
        for (int64_t f = 0; f < s.phi; f++)
            for (int64_t d = 0; d < s.y1; d++) {
                const Panel<V> panel{s, f, d};
                panel.pack(first, packed);
                int64_t e = 0;
                for (; e + TALL <= s.y2; e += TALL) panel.template build<TALL>(e, packed, second, matrix);
                for (; e < s.y2; e++) panel.template build<1>(e, packed, second, matrix);
            }
    }
}

// `d_second` holds zeros.
template <typename V>
void pull_gradient(const Sizes &s, const float *first, const float *second, const float *d_matrix, float *d_first,
                   float *d_second, float *room, int threads) {
    constexpr int ALL = Panel<V>::COUNT;
#pragma omp parallel num_threads(threads)
    {
        const int64_t floats = Panel<V>{s, 0, 0}.floats();
        float *packed = room + omp_get_thread_num() * 2 * floats, *d_packed = packed + floats;
#pragma omp for schedule(static)
        for (int64_t f = 0; f < s.phi; f++)
            for (int64_t d = 0; d < s.y1; d++) {
                const Panel<V> panel{s, f, d};
                panel.pack(first, packed);
                memset(d_packed, 0, floats * sizeof(float));
                int64_t e = 0;
                for (; e + ALL <= s.y2; e += ALL)
                    panel.template pull<ALL>(e, packed, second, d_matrix, d_packed, d_second);
                for (; e + TALL <= s.y2; e += TALL)
                    panel.template pull<TALL>(e, packed, second, d_matrix, d_packed, d_second);
                for (; e < s.y2; e++) panel.template pull<1>(e, packed, second, d_matrix, d_packed, d_second);
                panel.unpack(d_packed, d_first);
            }
    }
}

// Whether vectors of four features are filled better than those of eight.
inline bool narrow(const Sizes &s) { return s.x1 < 16 && s.x1 % 8 && s.x1 % 8 <= 4; }

} // namespace
