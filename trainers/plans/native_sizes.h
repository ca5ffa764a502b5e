// Sizes of a layer, of the kernel's tiles, and how rows of lanes lie.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
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
constexpr long BETWEEN = 1 << 17; // floats between the products that are held at a time, 512 KiB
constexpr int HEIGHT = 6;         // rows of a tile
constexpr int TURN = 48;          // rows of a product over tokens that are worth turning lanes to tokens for

typedef float Lanes __attribute__((vector_size(LANES * 4)));
typedef float Loose __attribute__((vector_size(LANES * 4), aligned(4)));
typedef float F4 __attribute__((vector_size(16)));
typedef float F8 __attribute__((vector_size(32)));
typedef int32_t I8 __attribute__((vector_size(32)));
typedef uint32_t U8 __attribute__((vector_size(32)));
typedef uint16_t H8 __attribute__((vector_size(16)));

// Floats from one row of tokens to the next: a strip more than its width, so that rows fall into different cache lines
inline int64_t pitch(int64_t width) { return width + STRIP; }

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
    // phi's and gammas that are processed together, so that what lies between the products for them fits into a cache. Other
    // phi's read the input again, other gammas the output: of as many phi's as fit, so many that both together are least.
    int64_t group() const {
        const double fit = double(BETWEEN) / TOKENS / rho, best = std::max<double>(HEIGHT, std::sqrt(fit * x1 / y2));
        return std::clamp<int64_t>(std::max(best, fit / (gamma * x2)) / y1, 1, phi);
    }
    int64_t gammas() const { return std::clamp<int64_t>(BETWEEN / (group() * y1 * x2 * rho * TOKENS), 1, gamma); }
    // rows between the products for one (phi, y1), and one more: powers of two would fall into the same cache lines
    int64_t pitch() const { return gammas() * x2 * rho + 1; }
    int64_t between() const { return group() * y1 * pitch(); }
    // whether the backward pass keeps its input and the gradient of its output as Tokens too
    bool keeps_x() const { return in_step() == 1 && std::max(rho, group() * y1) < TURN; }
    bool keeps_y() const { return out_step() == 1 && pitch() <= TURN; }
    // floats that a thread works with; the caller gives room for all threads
    int64_t forward_floats() const { return (d_in() + d_out() + between()) * TOKENS; }
    int64_t backward_floats() const {
        const int64_t kept = keeps_x() * ::pitch(d_in()) + keeps_y() * ::pitch(d_out());
        return forward_floats() + (d_in() + between() + kept) * TOKENS;
    }
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

} // namespace
