// Small matrix products on rows of lanes: weights times rows, and the sum over lanes of one set of rows times another.

#pragma once

#include "native_vectors.h"

namespace {

template <int HEIGHT, bool ADD>
inline void tile(const float *__restrict w, int64_t w_row, int64_t w_column, const float *__restrict in, int64_t in_step,
                 int64_t terms, float *__restrict out, int64_t out_step) {
    Lanes sum[HEIGHT][WIDE];
#pragma GCC unroll 8
    for (int i = 0; i < HEIGHT; i++)
#pragma GCC unroll 8
        for (int j = 0; j < WIDE; j++) sum[i][j] = ADD ? *(const Lanes *)(out + i * out_step + j * LANES) : Lanes{};
    for (int64_t k = 0; k < terms; k++) {
        Lanes value[WIDE];
#pragma GCC unroll 8
        for (int j = 0; j < WIDE; j++) value[j] = *(const Lanes *)(in + k * in_step + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < HEIGHT; i++) {
            const float weight = w[i * w_row + k * w_column];
#pragma GCC unroll 8
            for (int j = 0; j < WIDE; j++) sum[i][j] += weight * value[j];
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < HEIGHT; i++)
#pragma GCC unroll 8
        for (int j = 0; j < WIDE; j++) *(Lanes *)(out + i * out_step + j * LANES) = sum[i][j];
}

template <bool ADD>
inline void strip_of_tiles(const float *w, int64_t w_row, int64_t w_column, const float *in, int64_t in_step, int64_t terms,
                           float *out, int64_t out_step, int64_t height) {
    for (int64_t m = 0; m < height;) {
        const float *weights = w + m * w_row;
        float *to = out + m * out_step;
        const int64_t left = height - m;
        if (left >= 6 && left != 8) tile<6, ADD>(weights, w_row, w_column, in, in_step, terms, to, out_step), m += 6;
        else if (left >= 4) tile<4, ADD>(weights, w_row, w_column, in, in_step, terms, to, out_step), m += 4;
        else if (left >= 2) tile<2, ADD>(weights, w_row, w_column, in, in_step, terms, to, out_step), m += 2;
        else tile<1, ADD>(weights, w_row, w_column, in, in_step, terms, to, out_step), m += 1;
    }
}

// out[m] (+)= sum over k of w[m, k] in[k]
void multiply(Weights w, Rows in, Rows out, int64_t height, int64_t terms, bool add) {
    const int64_t in_step = in.step * TOKENS, out_step = out.step * TOKENS;
    for (int64_t k = 0; k < terms; k += DEPTH) {
        const int64_t depth = std::min<int64_t>(DEPTH, terms - k);
        const float *weights = w.data + k * w.column;
        for (int strip = 0; strip < TOKENS; strip += STRIP) {
            const float *from = in[k] + strip;
            float *to = out[0] + strip;
            if (add || k) strip_of_tiles<true>(weights, w.row, w.column, from, in_step, depth, to, out_step, height);
            else strip_of_tiles<false>(weights, w.row, w.column, from, in_step, depth, to, out_step, height);
        }
    }
}

// Rows of tokens as they lie in memory, (TOKENS, pitch): features are the lanes.
struct Tokens {
    const float *data;
    int64_t pitch;
};

template <int HEIGHT, int WIDTH>
inline void outer_tile(const float *__restrict p, int64_t p_step, const float *__restrict q, int64_t pitch,
                       float *__restrict w, int64_t w_row, int columns) {
    Lanes sum[HEIGHT][WIDTH];
#pragma GCC unroll 16
    for (int i = 0; i < HEIGHT; i++)
#pragma GCC unroll 16
        for (int j = 0; j < WIDTH; j++) sum[i][j] = Lanes{};
    for (int t = 0; t < TOKENS; t++) {
        Lanes value[WIDTH];
#pragma GCC unroll 16
        for (int j = 0; j < WIDTH; j++) value[j] = *(const Loose *)(q + t * pitch + j * LANES);
#pragma GCC unroll 16
        for (int i = 0; i < HEIGHT; i++) {
            const float factor = p[i * p_step + t];
#pragma GCC unroll 16
            for (int j = 0; j < WIDTH; j++) sum[i][j] += factor * value[j];
        }
    }
    if (columns == WIDTH * LANES) {
#pragma GCC unroll 16
        for (int i = 0; i < HEIGHT; i++)
#pragma GCC unroll 16
            for (int j = 0; j < WIDTH; j++) *(Loose *)(w + i * w_row + j * LANES) += sum[i][j];
        return;
    }
    float spilled[HEIGHT][WIDTH * LANES];
#pragma GCC unroll 16
    for (int i = 0; i < HEIGHT; i++)
#pragma GCC unroll 16
        for (int j = 0; j < WIDTH; j++) *(Loose *)(spilled[i] + j * LANES) = sum[i][j];
    for (int i = 0; i < HEIGHT; i++)
        for (int j = 0; j < columns; j++) w[i * w_row + j] += spilled[i][j];
}

template <int WIDTH> inline void outer_strip(Rows p, Tokens q, float *w, int64_t w_row, int64_t height, int columns) {
    const int64_t step = p.step * TOKENS;
    for (int64_t m = 0; m < height;) {
        float *to = w + m * w_row;
        const int64_t left = height - m;
        if (WIDTH == 1 && left >= 12) outer_tile<12, WIDTH>(p[m], step, q.data, q.pitch, to, w_row, columns), m += 12;
        else if (left >= 6 && left != 8) outer_tile<6, WIDTH>(p[m], step, q.data, q.pitch, to, w_row, columns), m += 6;
        else if (left >= 4) outer_tile<4, WIDTH>(p[m], step, q.data, q.pitch, to, w_row, columns), m += 4;
        else if (left >= 2) outer_tile<2, WIDTH>(p[m], step, q.data, q.pitch, to, w_row, columns), m += 2;
        else outer_tile<1, WIDTH>(p[m], step, q.data, q.pitch, to, w_row, columns), m += 1;
    }
}

// w[m, k] += sum over tokens of p[m] q[k], where q's features are next to one another; reads a strip beyond its last.
void outer(Rows p, Tokens q, float *w, int64_t w_row, int64_t height, int64_t width) {
    for (int64_t k = 0; k < width; k += STRIP) {
        const int columns = std::min<int64_t>(STRIP, width - k);
        const Tokens strip{q.data + k, q.pitch};
        if (columns > LANES) outer_strip<2>(p, strip, w + k, w_row, height, columns);
        else outer_strip<1>(p, strip, w + k, w_row, height, columns);
    }
}

// The same with q as rows of lanes, which are turned a strip at a time.
void outer(Rows p, Rows q, float *w, int64_t w_row, int64_t height, int64_t width) {
    alignas(64) float turned[TOKENS * STRIP];
    for (int64_t k = 0; k < width; k += STRIP) {
        const int columns = std::min<int64_t>(STRIP, width - k);
        for (int j = 0; j < STRIP; j += 8)
            for (int t = 0; t < TOKENS; t += 8) {
                F8 r[8];
                for (int i = 0; i < 8; i++) r[i] = j + i < columns ? load8(q[k + j + i] + t) : F8{};
                transpose8(r);
                for (int i = 0; i < 8; i++) store8(turned + (t + i) * STRIP + j, r[i]);
            }
        outer(p, Tokens{turned, STRIP}, w + k, w_row, height, columns);
    }
}

} // namespace
