// A two-factor structured layer for CPUs, forward and backward, both products fused.
//
// Tokens are the lanes. A block of TOKENS rows is transposed to (features, TOKENS) as it is read; every product is then a
// small matrix of weights times rows of lanes, so that no index of the structure has to be contiguous, and what lies between
// the products stays in a cache. Arithmetic is in float32; rows are float32 or bfloat16. The edges are those of
// trainers/products.py:
//
//     first[gamma, rho, phi, y1, x1]    second[phi, y2, gamma, x2, rho]
//     input features (gamma, x2, x1) if a_first, else (gamma, x1, x2); output features (phi, y1, y2) or (phi, y2, y1)

#include "native_matrix.h"
#include "native_tiles.h"

namespace {

// Part of the sums over phi and gamma: so many from the first of each.
struct Part {
    int64_t f, phis, g, gammas;
};

// One block of tokens: its rows, and what lies between the products for a part, (phis, y1, gammas, x2, rho, TOKENS).
struct Block {
    const Sizes &s;
    const float *first, *second;
    float *x, *y, *z, *dz, *dx;
    const float *x_tokens, *y_tokens; // as Tokens, or null
    const int64_t between = s.pitch();

    Rows in(float *rows, int64_t g, int64_t b) const { return {rows + s.in_row(g, b) * TOKENS, s.in_step()}; }
    Rows out(int64_t f, int64_t d) const { return {y + s.out_row(f, d) * TOKENS, s.out_step()}; }
    Rows inner(float *rows, int64_t l, int64_t d) const { return {rows + (l * s.y1 + d) * between * TOKENS, 1}; }

    // a += p times the rows `at` and on of an input or output, from its Tokens where those are kept
    void outer_with(Rows p, Rows lanes, const float *tokens, int64_t width, int64_t at, float *a, int64_t a_row, int64_t height,
                    int64_t count) const {
        if (tokens) outer(p, Tokens{tokens + at, pitch(width)}, a, a_row, height, count);
        else outer(p, lanes, a, a_row, height, count);
    }

    // Calls visit(part of a sum) for each.
    template <typename Visit> void each_part(Visit visit) const {
        const int64_t group = s.group(), gammas = s.gammas();
        for (int64_t f = 0; f < s.phi; f += group)
            for (int64_t g = 0; g < s.gamma; g += gammas)
                visit(Part{f, std::min(group, s.phi - f), g, std::min(gammas, s.gamma - g)});
    }

    // Calls visit(g, b, weight offset, row step of the weights, rows of z, count) for each matrix of the first factor with one
    // (g, b): the longer of (rho) and (phi's of the part, y1) becomes the rows of the matrix.
    template <typename Visit> void each_first(const Part &part, float *rows, Visit visit) const {
        const int64_t many = part.phis * s.y1;
        for (int64_t i = 0; i < part.gammas * s.x2; i++) {
            const int64_t g = part.g + i / s.x2, b = i % s.x2, base = g * s.rho * s.phi * s.y1, at = i * s.rho;
            if (s.rho > many)
                for (int64_t m = 0; m < many; m++)
                    visit(g, b, (base + part.f * s.y1 + m) * s.x1, s.phi * s.y1 * s.x1,
                          Rows{rows + (m * between + at) * TOKENS, 1}, s.rho);
            else
                for (int64_t r = 0; r < s.rho; r++)
                    visit(g, b, (base + (r * s.phi + part.f) * s.y1) * s.x1, s.x1, Rows{rows + (at + r) * TOKENS, between}, many);
        }
    }

    // Calls visit(phi, phi from the part's first, y1) for each matrix of the second factor.
    template <typename Visit> void each_second(const Part &part, Visit visit) const {
        for (int64_t l = 0; l < part.phis; l++)
            for (int64_t d = 0; d < s.y1; d++) visit(part.f + l, l, d);
    }

    int64_t columns(const Part &part) const { return part.gammas * s.x2 * s.rho; }

    void first_product(const Part &part) const {
        each_first(part, z, [&](int64_t g, int64_t b, int64_t w, int64_t row, Rows to, int64_t count) {
            multiply({first + w, row, 1}, in(x, g, b), to, count, s.x1, false);
        });
    }

    void forward() const {
        each_part([&](const Part &part) {
            first_product(part);
            each_second(part, [&](int64_t f, int64_t l, int64_t d) {
                const Weights weights{second + f * s.y2 * s.inner() + part.g * s.x2 * s.rho, s.inner(), 1};
                multiply(weights, inner(z, l, d), out(f, d), s.y2, columns(part), part.g > 0);
            });
        });
    }

    // `d_second` is (phi, inner, y2): turned, so that the rows of y are its columns.
    void backward(float *d_first, float *d_second) const {
        memset(dx, 0, s.d_in() * TOKENS * sizeof(float));
        each_part([&](const Part &part) {
            first_product(part);
            each_second(part, [&](int64_t f, int64_t l, int64_t d) {
                const int64_t at = f * s.y2 * s.inner(), from = part.g * s.x2 * s.rho;
                multiply({second + at + from, 1, s.inner()}, out(f, d), inner(dz, l, d), columns(part), s.y2, false);
                outer_with(inner(z, l, d), out(f, d), y_tokens, s.d_out(), s.out_row(f, d), d_second + at + from * s.y2, s.y2,
                           columns(part), s.y2);
            });
            each_first(part, dz, [&](int64_t g, int64_t b, int64_t w, int64_t row, Rows from, int64_t count) {
                multiply({first + w, 1, row}, from, in(dx, g, b), s.x1, count, true);
                outer_with(from, in(x, g, b), x_tokens, s.d_in(), s.in_row(g, b), d_first + w, row, count, s.x1);
            });
        });
    }
};

template <typename T>
void forward(const Sizes &s, int64_t tokens, const T *x, const float *first, const float *second, const float *bias, T *y,
             float *room, int threads) {
    const int64_t blocks = (tokens + TOKENS - 1) / TOKENS;
#pragma omp parallel num_threads(threads)
    {
        float *in = room + omp_get_thread_num() * s.forward_floats(), *out = in + s.d_in() * TOKENS, *z = out + s.d_out() * TOKENS;
        const Block block{s, first, second, in, out, z, nullptr, nullptr, nullptr, nullptr};
#pragma omp for schedule(static)
        for (int64_t i = 0; i < blocks; i++) {
            const int64_t start = i * TOKENS, count = std::min<int64_t>(TOKENS, tokens - start);
            read(x + start * s.d_in(), s.d_in(), count, s.d_in(), in);
            block.forward();
            write(out, bias, s.d_out(), count, s.d_out(), y + start * s.d_out());
        }
    }
}

// The gradients of the factors are summed per thread, (threads, first and turned second), and by the caller over threads.
template <typename T>
void backward(const Sizes &s, int64_t tokens, const T *x, const float *first, const float *second, const T *dy, T *dx,
              float *d_factors, float *room, int threads) {
    const int64_t blocks = (tokens + TOKENS - 1) / TOKENS, between = s.between();
    const int64_t n_first = s.gamma * s.rho * s.phi * s.y1 * s.x1, n_second = s.phi * s.y2 * s.inner();
#pragma omp parallel num_threads(threads)
    {
        float *in = room + omp_get_thread_num() * s.backward_floats(), *d_in = in + s.d_in() * TOKENS;
        float *out = d_in + s.d_in() * TOKENS, *z = out + s.d_out() * TOKENS, *dz = z + between * TOKENS;
        float *kept = dz + between * TOKENS, *kept_y = kept + s.keeps_x() * pitch(s.d_in()) * TOKENS;
        float *x_tokens = s.keeps_x() ? kept : nullptr, *y_tokens = s.keeps_y() ? kept_y : nullptr;
        float *sums = d_factors + omp_get_thread_num() * (n_first + n_second);
        const Block block{s, first, second, in, out, z, dz, d_in, x_tokens, y_tokens};
#pragma omp for schedule(static)
        for (int64_t i = 0; i < blocks; i++) {
            const int64_t start = i * TOKENS, count = std::min<int64_t>(TOKENS, tokens - start);
            read(x + start * s.d_in(), s.d_in(), count, s.d_in(), in);
            read(dy + start * s.d_out(), s.d_out(), count, s.d_out(), out);
            if (x_tokens) copy(x + start * s.d_in(), count, s.d_in(), x_tokens);
            if (y_tokens) copy(dy + start * s.d_out(), count, s.d_out(), y_tokens);
            block.backward(sums, sums + n_first);
            write(d_in, nullptr, s.d_in(), count, s.d_in(), dx + start * s.d_in());
        }
    }
}

} // namespace

extern "C" {
// Floats of room that a thread of each function takes, in the order of the functions.
void einsearch_room(const Sizes *s, int64_t *floats) {
    const int64_t panel = narrow(*s) ? Panel<F4>{*s, 0, 0}.floats() : Panel<F8>{*s, 0, 0}.floats();
    const int64_t found[] = {panel, 2 * panel, s->forward_floats(), s->backward_floats()};
    std::copy(found, found + 4, floats);
}
void einsearch_matrix(const Sizes *s, const float *first, const float *second, float *matrix, float *room, int threads) {
    (narrow(*s) ? build_matrix<F4> : build_matrix<F8>)(*s, first, second, matrix, room, threads);
}
void einsearch_matrix_gradient(const Sizes *s, const float *first, const float *second, const float *d_matrix, float *d_first,
                               float *d_second, float *room, int threads) {
    (narrow(*s) ? pull_gradient<F4> : pull_gradient<F8>)(*s, first, second, d_matrix, d_first, d_second, room, threads);
}
void einsearch_forward(const Sizes *s, int64_t tokens, int half, const void *x, const float *first, const float *second,
                       const float *bias, void *y, float *room, int threads) {
    using Half = uint16_t;
    if (half) forward(*s, tokens, (const Half *)x, first, second, bias, (Half *)y, room, threads);
    else forward(*s, tokens, (const float *)x, first, second, bias, (float *)y, room, threads);
}
void einsearch_backward(const Sizes *s, int64_t tokens, int half, const void *x, const float *first, const float *second,
                        const void *dy, void *dx, float *d_factors, float *room, int threads) {
    using Half = uint16_t;
    if (half) backward(*s, tokens, (const Half *)x, first, second, (const Half *)dy, (Half *)dx, d_factors, room, threads);
    else backward(*s, tokens, (const float *)x, first, second, (const float *)dy, (float *)dx, d_factors, room, threads);
}
}
