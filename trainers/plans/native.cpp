// A two-factor structured layer for CPUs, forward and backward, both products fused.
//
// Tokens are the lanes. A block of TOKENS rows is transposed to (features, TOKENS) as it is read; every product is then a
// small matrix of weights times rows of lanes, so that no index of the structure has to be contiguous, and what lies between
// the products stays in a cache. Arithmetic is in float32; rows are float32 or bfloat16. The edges are those of
// trainers/products.py:
//
//     first[gamma, rho, phi, y1, x1]    second[phi, y2, gamma, x2, rho]
//     input features (gamma, x2, x1) if a_first, else (gamma, x1, x2); output features (phi, y1, y2) or (phi, y2, y1)

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <omp.h>

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif
constexpr int TOKENS = 32;        // rows of a block
constexpr int WIDE = 2;           // vectors of lanes in a tile
constexpr int STRIP = WIDE * LANES;
constexpr int DEPTH = 256;        // terms of a sum before a tile is written back
constexpr long BETWEEN = 1 << 15; // floats between the products that are held at a time, 128 KiB

typedef float Lanes __attribute__((vector_size(LANES * 4)));
typedef float Loose __attribute__((vector_size(LANES * 4), aligned(4)));
typedef float F8 __attribute__((vector_size(32)));
typedef int32_t I8 __attribute__((vector_size(32)));
typedef uint32_t U8 __attribute__((vector_size(32)));
typedef uint16_t H8 __attribute__((vector_size(16)));

struct Sizes {
    int64_t x1, x2, gamma, y1, y2, phi, rho, a_first;
    int64_t inner() const { return gamma * x2 * rho; }
    int64_t d_in() const { return gamma * x2 * x1; }
    int64_t d_out() const { return phi * y1 * y2; }
    // rows of the block's input and output: of the first index, and the step to the next
    int64_t in_row(int64_t g, int64_t b) const { return a_first ? (g * x2 + b) * x1 : g * x1 * x2 + b; }
    int64_t in_step() const { return a_first ? 1 : x2; }
    int64_t out_row(int64_t f, int64_t d) const { return a_first ? (f * y1 + d) * y2 : f * y2 * y1 + d; }
    int64_t out_step() const { return a_first ? 1 : y1; }
    // rows between the products for one (phi, y1), and one more: powers of two would all fall into the same cache lines
    int64_t pitch() const { return inner() + 1; }
    // phi's that are processed together, and the rows between the products for them
    int64_t group() const { return std::clamp<int64_t>(BETWEEN / (pitch() * y1 * TOKENS), 1, phi); }
    int64_t between() const { return group() * y1 * pitch(); }
};

// A matrix of weights, read in either direction.
struct Weights {
    const float *data;
    int64_t row, column;
};

// Rows of TOKENS lanes, `step` rows apart.
struct Rows {
    float *data;
    int64_t step;
    float *operator[](int64_t i) const { return data + i * step * TOKENS; }
};

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

template <int HEIGHT, int WIDTH>
inline void outer_tile(const float *__restrict p, int64_t p_step, const float *__restrict turned, float *__restrict w,
                       int64_t w_row, int64_t w_column, int columns) {
    Lanes sum[HEIGHT][WIDTH];
#pragma GCC unroll 8
    for (int i = 0; i < HEIGHT; i++)
#pragma GCC unroll 8
        for (int j = 0; j < WIDTH; j++) sum[i][j] = Lanes{};
    for (int t = 0; t < TOKENS; t++) {
        Lanes value[WIDTH];
#pragma GCC unroll 8
        for (int j = 0; j < WIDTH; j++) value[j] = *(const Lanes *)(turned + t * STRIP + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < HEIGHT; i++) {
            const float factor = p[i * p_step + t];
#pragma GCC unroll 8
            for (int j = 0; j < WIDTH; j++) sum[i][j] += factor * value[j];
        }
    }
    if (w_column == 1 && columns == WIDTH * LANES) {
#pragma GCC unroll 8
        for (int i = 0; i < HEIGHT; i++)
#pragma GCC unroll 8
            for (int j = 0; j < WIDTH; j++) *(Loose *)(w + i * w_row + j * LANES) += sum[i][j];
        return;
    }
    float spilled[HEIGHT][WIDTH * LANES];
#pragma GCC unroll 8
    for (int i = 0; i < HEIGHT; i++)
#pragma GCC unroll 8
        for (int j = 0; j < WIDTH; j++) *(Loose *)(spilled[i] + j * LANES) = sum[i][j];
    for (int i = 0; i < HEIGHT; i++)
        for (int j = 0; j < columns; j++) w[i * w_row + j * w_column] += spilled[i][j];
}

template <int WIDTH>
inline void outer_strip(Rows p, const float *turned, float *w, int64_t w_row, int64_t w_column, int64_t height, int columns) {
    const int64_t step = p.step * TOKENS;
    for (int64_t m = 0; m < height;) {
        float *to = w + m * w_row;
        const int64_t left = height - m;
        if (left >= 6 && left != 8) outer_tile<6, WIDTH>(p[m], step, turned, to, w_row, w_column, columns), m += 6;
        else if (left >= 4) outer_tile<4, WIDTH>(p[m], step, turned, to, w_row, w_column, columns), m += 4;
        else if (left >= 2) outer_tile<2, WIDTH>(p[m], step, turned, to, w_row, w_column, columns), m += 2;
        else outer_tile<1, WIDTH>(p[m], step, turned, to, w_row, w_column, columns), m += 1;
    }
}

// w[m, k] += sum over tokens of p[m] q[k]. A strip of q is turned to (TOKENS, strip): its k's become the lanes.
void outer(Rows p, Rows q, float *w, int64_t w_row, int64_t w_column, int64_t height, int64_t width) {
    if (width < 8 && height > width) std::swap(p, q), std::swap(w_row, w_column), std::swap(height, width);
    alignas(64) float turned[TOKENS * STRIP];
    for (int64_t k = 0; k < width; k += STRIP) {
        const int columns = std::min<int64_t>(STRIP, width - k);
        for (int j = 0; j < columns; j += 8)
            for (int t = 0; t < TOKENS; t += 8) {
                F8 r[8];
                for (int i = 0; i < 8; i++) r[i] = j + i < columns ? load8(q[k + j + i] + t) : F8{};
                transpose8(r);
                for (int i = 0; i < 8; i++) store8(turned + (t + i) * STRIP + j, r[i]);
            }
        for (int j = (columns + 7) / 8 * 8; j % LANES; j += 8)
            for (int t = 0; t < TOKENS; t++) store8(turned + t * STRIP + j, F8{});
        if (columns > LANES) outer_strip<2>(p, turned, w + k * w_column, w_row, w_column, height, columns);
        else outer_strip<1>(p, turned, w + k * w_column, w_row, w_column, height, columns);
    }
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

// One block of tokens: its rows, and what lies between the products for a group of phi's, (group, y1, inner, TOKENS).
struct Block {
    const Sizes &s;
    const float *first, *second;
    float *x, *y, *z, *dz, *dx;

    Rows in(float *rows, int64_t g, int64_t b) const { return {rows + s.in_row(g, b) * TOKENS, s.in_step()}; }
    Rows out(int64_t f, int64_t d) const { return {y + s.out_row(f, d) * TOKENS, s.out_step()}; }
    Rows inner(float *rows, int64_t l, int64_t d) const { return {rows + (l * s.y1 + d) * s.pitch() * TOKENS, 1}; }

    // Calls visit(weight offset, row step of the weights, rows of z, count) for each matrix of the first factor with one
    // (g, b): the longer of (rho) and (phi's of the group, y1) becomes the rows of the matrix.
    template <typename Visit> void each_first(int64_t g, int64_t b, int64_t f, int64_t phis, float *rows, Visit visit) const {
        const int64_t base = g * s.rho * s.phi * s.y1, at = (g * s.x2 + b) * s.rho, many = phis * s.y1;
        if (s.rho > many)
            for (int64_t i = 0; i < many; i++)
                visit((base + f * s.y1 + i) * s.x1, s.phi * s.y1 * s.x1, Rows{rows + (i * s.pitch() + at) * TOKENS, 1}, s.rho);
        else
            for (int64_t r = 0; r < s.rho; r++)
                visit((base + (r * s.phi + f) * s.y1) * s.x1, s.x1, Rows{rows + (at + r) * TOKENS, s.pitch()}, many);
    }

    void first_product(int64_t f, int64_t phis) const {
        for (int64_t g = 0; g < s.gamma; g++)
            for (int64_t b = 0; b < s.x2; b++)
                each_first(g, b, f, phis, z, [&](int64_t w, int64_t row, Rows to, int64_t count) {
                    multiply({first + w, row, 1}, in(x, g, b), to, count, s.x1, false);
                });
    }

    void forward() const {
        const int64_t group = s.group();
        for (int64_t f = 0; f < s.phi; f += group) {
            const int64_t phis = std::min(group, s.phi - f);
            first_product(f, phis);
            for (int64_t l = 0; l < phis; l++)
                for (int64_t d = 0; d < s.y1; d++)
                    multiply({second + (f + l) * s.y2 * s.inner(), s.inner(), 1}, inner(z, l, d), out(f + l, d), s.y2, s.inner(),
                             false);
        }
    }

    void backward(float *d_first, float *d_second) const {
        const int64_t group = s.group();
        memset(dx, 0, s.d_in() * TOKENS * sizeof(float));
        for (int64_t f = 0; f < s.phi; f += group) {
            const int64_t phis = std::min(group, s.phi - f);
            first_product(f, phis);
            for (int64_t l = 0; l < phis; l++)
                for (int64_t d = 0; d < s.y1; d++) {
                    const int64_t at = (f + l) * s.y2 * s.inner();
                    multiply({second + at, 1, s.inner()}, out(f + l, d), inner(dz, l, d), s.inner(), s.y2, false);
                    outer(out(f + l, d), inner(z, l, d), d_second + at, s.inner(), 1, s.y2, s.inner());
                }
            for (int64_t g = 0; g < s.gamma; g++)
                for (int64_t b = 0; b < s.x2; b++)
                    each_first(g, b, f, phis, dz, [&](int64_t w, int64_t row, Rows from, int64_t count) {
                        multiply({first + w, 1, row}, from, in(dx, g, b), s.x1, count, true);
                        outer(from, in(x, g, b), d_first + w, row, 1, count, s.x1);
                    });
        }
    }
};

struct Room {
    float *data;
    explicit Room(int64_t floats) : data((float *)std::aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64)) {}
    ~Room() { std::free(data); }
    Room(const Room &) = delete;
};

template <typename T>
void forward(const Sizes &s, int64_t tokens, const T *x, const float *first, const float *second, const float *bias, T *y,
             int threads) {
    const int64_t blocks = (tokens + TOKENS - 1) / TOKENS, between = s.between();
#pragma omp parallel num_threads(threads)
    {
        const Room room((s.d_in() + s.d_out() + between) * TOKENS);
        float *in = room.data, *out = in + s.d_in() * TOKENS, *z = out + s.d_out() * TOKENS;
        const Block block{s, first, second, in, out, z, nullptr, nullptr};
#pragma omp for schedule(static)
        for (int64_t i = 0; i < blocks; i++) {
            const int64_t start = i * TOKENS, count = std::min<int64_t>(TOKENS, tokens - start);
            read(x + start * s.d_in(), s.d_in(), count, s.d_in(), in);
            block.forward();
            write(out, bias, s.d_out(), count, s.d_out(), y + start * s.d_out());
        }
    }
}

// The gradients of the factors are summed per thread, (threads, first and second), and by the caller over threads.
template <typename T>
void backward(const Sizes &s, int64_t tokens, const T *x, const float *first, const float *second, const T *dy, T *dx,
              float *d_factors, int threads) {
    const int64_t blocks = (tokens + TOKENS - 1) / TOKENS, between = s.between();
    const int64_t n_first = s.gamma * s.rho * s.phi * s.y1 * s.x1, n_second = s.phi * s.y2 * s.inner();
#pragma omp parallel num_threads(threads)
    {
        const Room room((2 * s.d_in() + s.d_out() + 2 * between) * TOKENS);
        float *in = room.data, *d_in = in + s.d_in() * TOKENS, *out = d_in + s.d_in() * TOKENS;
        float *z = out + s.d_out() * TOKENS, *dz = z + between * TOKENS;
        float *sums = d_factors + omp_get_thread_num() * (n_first + n_second);
        const Block block{s, first, second, in, out, z, dz, d_in};
#pragma omp for schedule(static)
        for (int64_t i = 0; i < blocks; i++) {
            const int64_t start = i * TOKENS, count = std::min<int64_t>(TOKENS, tokens - start);
            read(x + start * s.d_in(), s.d_in(), count, s.d_in(), in);
            read(dy + start * s.d_out(), s.d_out(), count, s.d_out(), out);
            block.backward(sums, sums + n_first);
            write(d_in, nullptr, s.d_in(), count, s.d_in(), dx + start * s.d_in());
        }
    }
}

// The layer's matrix, (d_out, d_in), or with `back` its gradient to the factors; every phi is one thread's.
template <bool BACK>
void matrix(const Sizes &s, const float *first, const float *second, float *weight, float *d_first, float *d_second, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t f = 0; f < s.phi; f++)
        for (int64_t d = 0; d < s.y1; d++)
            for (int64_t e = 0; e < s.y2; e++) {
                float *row = weight + (s.out_row(f, d) + e * s.out_step()) * s.d_in();
                for (int64_t g = 0; g < s.gamma; g++)
                    for (int64_t b = 0; b < s.x2; b++) {
                        float *block = row + s.in_row(g, b);
                        const int64_t at = (((f * s.y2 + e) * s.gamma + g) * s.x2 + b) * s.rho, step = s.in_step();
                        for (int64_t r = 0; r < s.rho; r++) {
                            const int64_t from = (((g * s.rho + r) * s.phi + f) * s.y1 + d) * s.x1;
                            const float factor = second[at + r];
                            const float *other = first + from;
                            if constexpr (BACK) {
                                float *d_other = d_first + from, dot = 0;
#pragma omp simd reduction(+ : dot)
                                for (int64_t a = 0; a < s.x1; a++) {
                                    d_other[a] += factor * block[a * step];
                                    dot += other[a] * block[a * step];
                                }
                                d_second[at + r] += dot;
                            } else if (r == 0)
                                for (int64_t a = 0; a < s.x1; a++) block[a * step] = factor * other[a];
                            else
                                for (int64_t a = 0; a < s.x1; a++) block[a * step] += factor * other[a];
                        }
                    }
            }
}

} // namespace

extern "C" {
void einsearch_matrix(const Sizes *s, const float *first, const float *second, float *weight, int threads) {
    matrix<false>(*s, first, second, weight, nullptr, nullptr, threads);
}
void einsearch_matrix_gradient(const Sizes *s, const float *first, const float *second, float *d_weight, float *d_first,
                               float *d_second, int threads) {
    matrix<true>(*s, first, second, d_weight, d_first, d_second, threads);
}
void einsearch_forward(const Sizes *s, int64_t tokens, int half, const void *x, const float *first, const float *second,
                       const float *bias, void *y, int threads) {
    if (half) forward(*s, tokens, (const uint16_t *)x, first, second, bias, (uint16_t *)y, threads);
    else forward(*s, tokens, (const float *)x, first, second, bias, (float *)y, threads);
}
void einsearch_backward(const Sizes *s, int64_t tokens, int half, const void *x, const float *first, const float *second,
                        const void *dy, void *dx, float *d_factors, int threads) {
    if (half) backward(*s, tokens, (const uint16_t *)x, first, second, (const uint16_t *)dy, (uint16_t *)dx, d_factors, threads);
    else backward(*s, tokens, (const float *)x, first, second, (const float *)dy, (float *)dx, d_factors, threads);
}
}
