// What the network does besides matrix products. Maps are [images, height, width, channels], channels a multiple of
// four; weights and biases are float whatever the maps are.

// Outputs along a row that one thread makes: their windows overlap, so most loads serve three of them.
#define TILE 4

// 3x3 convolution of each channel by itself, with bias and clamp. weight: [9, channels]. height and width are those
// of the input. Padding: one zero all round at stride 1, one at the bottom and at the right at stride 2.
template <typename T, u32 STRIDE>
__device__ inline void depthwise(const T *in, const float *weight, const float *bias, T *out, u32 images, u32 height,
                                 u32 width, u32 channels, float low, float high) {
    const u32 rows = height / STRIDE, columns = width / STRIDE;
    const u32 fours = channels / 4, tiles = (columns + TILE - 1) / TILE;
    const u32 index = global_thread();
    if (index >= images * rows * tiles * fours) return;
    const u32 channel = index % fours * 4;
    const u32 column = index / fours % tiles * TILE;
    const u32 row = index / fours / tiles % rows;
    const u32 image = index / fours / tiles / rows;
    const int pad = STRIDE == 1 ? 1 : 0;
    const T *from = in + (size_t)image * height * width * channels + channel;

    Float4 sum[TILE] = {};
#pragma unroll
    for (int ky = 0; ky < 3; ky++) {
        const int y = (int)(row * STRIDE) + ky - pad;
        if (y < 0 || y >= (int)height) continue;
        Float4 tap[3];
#pragma unroll
        for (int kx = 0; kx < 3; kx++) tap[kx] = load4(weight + (3 * ky + kx) * channels + channel);
#pragma unroll
        for (int i = 0; i < (TILE - 1) * (int)STRIDE + 3; i++) {
            const int x = (int)(column * STRIDE) + i - pad;
            if (x < 0 || x >= (int)width) continue;
            const Float4 value = load4(from + ((size_t)y * width + x) * channels);
#pragma unroll
            for (int j = 0; j < TILE; j++) {
                const int kx = i - j * (int)STRIDE;
                if (kx < 0 || kx > 2) continue;
#pragma unroll
                for (int c = 0; c < 4; c++) sum[j].lane[c] += value.lane[c] * tap[kx].lane[c];
            }
        }
    }
    const Float4 offset = load4(bias + channel);
    T *to = out + (((size_t)image * rows + row) * columns + column) * channels + channel;
#pragma unroll
    for (u32 j = 0; j < TILE; j++) {
        if (column + j >= columns) break;
#pragma unroll
        for (int c = 0; c < 4; c++) sum[j].lane[c] = clamped(sum[j].lane[c] + offset.lane[c], low, high);
        store4(to + j * channels, sum[j]);
    }
}

// map = clamp(map + bias), `fours` groups of four channels in all.
template <typename T>
__device__ inline void add_bias(const float *bias, T *map, u32 fours, u32 channels, float low, float high) {
    const u32 index = global_thread();
    if (index >= fours) return;
    T *at = map + 4 * (size_t)index;
    Float4 value = load4(at);
    const Float4 offset = load4(bias + 4 * index % channels);
#pragma unroll
    for (int c = 0; c < 4; c++) value.lane[c] = clamped(value.lane[c] + offset.lane[c], low, high);
    store4(at, value);
}

// map = map + bias + residual.
template <typename T>
__device__ inline void add_residual(const float *bias, const T *residual, T *map, u32 fours, u32 channels) {
    const u32 index = global_thread();
    if (index >= fours) return;
    T *at = map + 4 * (size_t)index;
    Float4 value = load4(at);
    const Float4 offset = load4(bias + 4 * index % channels), other = load4(residual + 4 * (size_t)index);
#pragma unroll
    for (int c = 0; c < 4; c++) value.lane[c] = value.lane[c] + offset.lane[c] + other.lane[c];
    store4(at, value);
}

// map = map + bias + coarse, doubled in height and width: bilinear, half-pixel centres, edges repeated. height and
// width are those of map.
template <typename T>
__device__ inline void add_upsampled(const float *bias, const T *coarse, T *map, u32 images, u32 height, u32 width,
                                     u32 channels) {
    const u32 fours = channels / 4;
    const u32 index = global_thread();
    if (index >= images * height * width * fours) return;
    const u32 channel = index % fours * 4;
    const u32 x = index / fours % width, y = index / fours / width % height, image = index / fours / width / height;
    const u32 rows = height / 2, columns = width / 2;
    // Between the cell that this one lies in, which counts three quarters, and the neighbour on its side.
    const u32 near_x = x / 2, near_y = y / 2;
    const u32 far_x = x % 2 ? (near_x + 1 < columns ? near_x + 1 : near_x) : (near_x > 0 ? near_x - 1 : 0);
    const u32 far_y = y % 2 ? (near_y + 1 < rows ? near_y + 1 : near_y) : (near_y > 0 ? near_y - 1 : 0);
    const T *from = coarse + (size_t)image * rows * columns * channels + channel;
    const Float4 near_near = load4(from + ((size_t)near_y * columns + near_x) * channels);
    const Float4 near_far = load4(from + ((size_t)near_y * columns + far_x) * channels);
    const Float4 far_near = load4(from + ((size_t)far_y * columns + near_x) * channels);
    const Float4 far_far = load4(from + ((size_t)far_y * columns + far_x) * channels);
    T *at = map + 4 * (size_t)index;
    Float4 value = load4(at);
    const Float4 offset = load4(bias + channel);
#pragma unroll
    for (int c = 0; c < 4; c++) {
        const float near = 0.75f * near_near.lane[c] + 0.25f * far_near.lane[c];
        const float far = 0.75f * near_far.lane[c] + 0.25f * far_far.lane[c];
        value.lane[c] = value.lane[c] + offset.lane[c] + (0.75f * near + 0.25f * far);
    }
    store4(at, value);
}

// out = in, as float.
template <typename T> __device__ inline void widen(const T *in, float *out, u32 count) {
    const u32 index = global_thread();
    if (index < count) out[index] = to_float(in[index]);
}

#define LAYER_KERNELS(T, suffix)                                                                                       \
    extern "C" __global__ void depthwise_s1_##suffix(const T *in, const float *weight, const float *bias, T *out,      \
                                                     u32 images, u32 height, u32 width, u32 channels, float low,       \
                                                     float high) {                                                     \
        depthwise<T, 1>(in, weight, bias, out, images, height, width, channels, low, high);                            \
    }                                                                                                                  \
    extern "C" __global__ void depthwise_s2_##suffix(const T *in, const float *weight, const float *bias, T *out,      \
                                                     u32 images, u32 height, u32 width, u32 channels, float low,       \
                                                     float high) {                                                     \
        depthwise<T, 2>(in, weight, bias, out, images, height, width, channels, low, high);                            \
    }                                                                                                                  \
    extern "C" __global__ void add_bias_##suffix(const float *bias, T *map, u32 fours, u32 channels, float low,        \
                                                 float high) {                                                         \
        add_bias(bias, map, fours, channels, low, high);                                                               \
    }                                                                                                                  \
    extern "C" __global__ void add_residual_##suffix(const float *bias, const T *residual, T *map, u32 fours,          \
                                                     u32 channels) {                                                   \
        add_residual(bias, residual, map, fours, channels);                                                            \
    }                                                                                                                  \
    extern "C" __global__ void add_upsampled_##suffix(const float *bias, const T *coarse, T *map, u32 images,          \
                                                      u32 height, u32 width, u32 channels) {                           \
        add_upsampled(bias, coarse, map, images, height, width, channels);                                             \
    }                                                                                                                  \
    extern "C" __global__ void widen_##suffix(const T *in, float *out, u32 count) { widen(in, out, count); }

LAYER_KERNELS(float, f32)
LAYER_KERNELS(half_t, f16)
