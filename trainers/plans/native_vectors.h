// Eight floats at a time: loads and stores of float32 and bfloat16, and rows of tokens turned to lanes and back.

#pragma once

#include "native_sizes.h"

namespace {

inline F8 load8(const float *p) {
    F8 v;
    memcpy(&v, p, sizeof v);
    return v;
}
inline F8 load8(const uint16_t *p) {
    H8 half;
    memcpy(&half, p, sizeof half);
    return (F8)(__builtin_convertvector(half, U8) << 16);
}
inline void store8(float *p, F8 v) { memcpy(p, &v, sizeof v); }
inline void store8(uint16_t *p, F8 v) { // to the nearest, ties to even
    const U8 bits = (U8)v;
    const U8 rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const U8 quiet = (bits >> 16) | 0x40; // a NaN stays one
    const H8 half = __builtin_convertvector((v == v) ? rounded : quiet, H8);
    memcpy(p, &half, sizeof half);
}
inline float value(float v) { return v; }
inline float value(uint16_t v) {
    const uint32_t bits = uint32_t(v) << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
inline void put(float *p, float v) { *p = v; }
inline void put(uint16_t *p, float v) {
    F8 all = {v};
    uint16_t half[8];
    store8(half, all);
    *p = half[0];
}

inline void transpose8(F8 r[8]) {
    F8 a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
        a[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            b[i + j] = __builtin_shufflevector(a[i + j], a[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            b[i + j + 2] = __builtin_shufflevector(a[i + j], a[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int j = 0; j < 4; j++) {
        r[j] = __builtin_shufflevector(b[j], b[j + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        r[j + 4] = __builtin_shufflevector(b[j], b[j + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

inline void transpose(F8 (&r)[8]) { transpose8(r); }
inline void transpose(F4 (&r)[4]) {
    const F4 a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
    const F4 c = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5), d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    r[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
    r[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
    r[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
    r[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

// (tokens, width) -> (width, TOKENS), zeros in the lanes beyond `tokens`
template <typename T> void read(const T *x, int64_t stride, int64_t tokens, int64_t width, float *block) {
    for (int t = 0; t < TOKENS; t += 8) {
        int64_t f = 0;
        if (t + 8 <= tokens)
            for (; f + 8 <= width; f += 8) {
                F8 r[8];
                for (int i = 0; i < 8; i++) r[i] = load8(x + (t + i) * stride + f);
                transpose8(r);
                for (int i = 0; i < 8; i++) store8(block + (f + i) * TOKENS + t, r[i]);
            }
        for (; f < width; f++)
            for (int i = t; i < t + 8; i++) block[f * TOKENS + i] = i < tokens ? value(x[i * stride + f]) : 0.0f;
    }
}

// (tokens, width) -> (TOKENS, pitch of width), zeros beyond `tokens` and behind each row
template <typename T> void copy(const T *x, int64_t tokens, int64_t width, float *rows) {
    for (int64_t t = 0; t < TOKENS; t++) {
        float *row = rows + t * pitch(width);
        int64_t f = 0;
        if (t < tokens) {
            for (; f + 8 <= width; f += 8) store8(row + f, load8(x + t * width + f));
            for (; f < width; f++) row[f] = value(x[t * width + f]);
        }
        memset(row + f, 0, (pitch(width) - f) * sizeof(float));
    }
}

// (width, TOKENS) -> (tokens, width), plus the bias
template <typename T>
void write(const float *block, const float *bias, int64_t stride, int64_t tokens, int64_t width, T *y) {
    for (int t = 0; t < tokens; t += 8) {
        int64_t f = 0;
        if (t + 8 <= tokens)
            for (; f + 8 <= width; f += 8) {
                F8 r[8];
                for (int i = 0; i < 8; i++) r[i] = load8(block + (f + i) * TOKENS + t);
                transpose8(r);
                for (int i = 0; i < 8; i++) store8(y + (t + i) * stride + f, bias ? r[i] + load8(bias + f) : r[i]);
            }
        for (; f < width; f++)
            for (int64_t i = t; i < std::min<int64_t>(t + 8, tokens); i++)
                put(y + i * stride + f, block[f * TOKENS + i] + (bias ? bias[f] : 0.0f));
    }
}

} // namespace
