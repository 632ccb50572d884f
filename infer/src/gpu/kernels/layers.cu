// What the network does besides 1x1 convolutions. Maps are [images, height, width, channels], channels a multiple of
// as many as 16 bytes have; weights and biases are float whatever the maps are.

// Outputs along a row that one thread makes: their windows overlap, so most loads serve several of them.
#define TILE 4

// The first convolution: 3x3 at stride 2 of three colours, padded by one zero at the bottom and at the right, with
// bias and clamp. in: [images, height, width, 3], x of which becomes (x - mean) * scale - shift; constants: mean and
// scale (three each), shift; weight: [27, channels]. width is a multiple of 8.
template <typename T>
__device__ inline void stem(const u8 *__restrict__ in, const float *__restrict__ constants,
                            const float *__restrict__ weight, const float *__restrict__ bias, T *__restrict__ out,
                            u32 images, u32 height, u32 width, u32 channels, float low, float high) {
    const u32 N = Lanes<T>::COUNT;
    const u32 rows = height / 2, columns = width / 2, groups = channels / N, tiles = columns / TILE;
    const u32 index = global_thread();
    if (index >= images * rows * tiles * groups) return;
    const u32 channel = index % groups * N;
    const u32 column = index / groups % tiles * TILE;
    const u32 row = index / groups / tiles % rows;
    const u32 image = index / groups / tiles / rows;
    // Colours of a row that a tile sees, the last column's among them, as words.
    const u32 SEEN = 3 * (2 * TILE + 1), WORDS = (SEEN + 3) / 4;
    Lanes<T> sum[TILE] = {};
#pragma unroll
    for (u32 ky = 0; ky < 3; ky++) {
        const u32 y = 2 * row + ky;
        if (y >= height) continue;
        // Words begin where they should: tiles are 24 bytes apart, and rows a multiple of that.
        const u32 *from = reinterpret_cast<const u32 *>(in + 3 * (((size_t)image * height + y) * width + 2 * column));
        const bool has_last = 2 * column + 2 * TILE < width;
        float value[4 * WORDS];
#pragma unroll
        for (u32 w = 0; w < WORDS; w++) {
            const bool is_there = w + 1 < WORDS || has_last;
            const u32 word = is_there ? from[w] : 0;
#pragma unroll
            for (u32 b = 0; b < 4; b++) {
                const u32 colour = (4 * w + b) % 3;
                const float seen = ((float)(word >> 8 * b & 255) - constants[colour]) * constants[3 + colour] - constants[6];
                value[4 * w + b] = is_there ? seen : 0.0f;
            }
        }
#pragma unroll
        for (u32 k = 0; k < 9; k++) {
            const Lanes<T> tap = load_weights<T>(weight + (9 * ky + k) * channels + channel);
#pragma unroll
            for (u32 j = 0; j < TILE; j++)
#pragma unroll
                for (u32 c = 0; c < N; c++) sum[j].lane[c] += value[6 * j + k] * tap.lane[c];
        }
    }
    const Lanes<T> offset = load_weights<T>(bias + channel);
    T *to = out + (((size_t)image * rows + row) * columns + column) * channels + channel;
#pragma unroll
    for (u32 j = 0; j < TILE; j++) {
#pragma unroll
        for (u32 c = 0; c < N; c++) sum[j].lane[c] = clamped(sum[j].lane[c] + offset.lane[c], low, high);
        store(to + j * channels, sum[j]);
    }
}

// 3x3 convolution of each channel by itself, with bias and clamp. weight: [9, channels], of the map's type. height and
// width are those of the input. Padding: one zero all round at stride 1, one at the bottom and at the right at
// stride 2.
template <typename T, u32 STRIDE>
__device__ inline void depthwise(const T *__restrict__ in, const T *__restrict__ weight,
                                 const float *__restrict__ bias, T *__restrict__ out, u32 images, u32 height,
                                 u32 width, u32 channels, float low, float high) {
    const u32 N = Lanes<T>::COUNT, SEEN = (TILE - 1) * STRIDE + 3;
    const u32 rows = height / STRIDE, columns = width / STRIDE;
    const u32 groups = channels / N, tiles = (columns + TILE - 1) / TILE;
    const u32 index = global_thread();
    if (index >= images * rows * tiles * groups) return;
    const u32 channel = index % groups * N;
    const u32 column = index / groups % tiles * TILE;
    const u32 row = index / groups / tiles % rows;
    const u32 image = index / groups / tiles / rows;
    const int pad = STRIDE == 1 ? 1 : 0;
    const T *from = in + (size_t)image * height * width * channels + channel;

    Lanes<T> sum[TILE] = {};
#pragma unroll
    for (u32 ky = 0; ky < 3; ky++) {
        const int y = (int)(row * STRIDE + ky) - pad;
        const bool is_row = y >= 0 && y < (int)height;
        // Without a branch, so that all are on their way before the first is used: what is outside reads something.
        Words seen[SEEN], tap[3];
#pragma unroll
        for (u32 i = 0; i < SEEN; i++) {
            const int x = (int)(column * STRIDE + i) - pad;
            const bool is_inside = is_row && x >= 0 && x < (int)width;
            seen[i] = *reinterpret_cast<const Words *>(from + (is_inside ? ((size_t)y * width + x) * channels : 0));
#pragma unroll
            for (u32 w = 0; w < 4; w++) seen[i].word[w] = is_inside ? seen[i].word[w] : 0;
        }
#pragma unroll
        for (u32 kx = 0; kx < 3; kx++)
            tap[kx] = *reinterpret_cast<const Words *>(weight + (3 * ky + kx) * channels + channel);
#pragma unroll
        for (u32 kx = 0; kx < 3; kx++) {
            const Lanes<T> factor = lanes_of<T>(tap[kx]);
#pragma unroll
            for (u32 j = 0; j < TILE; j++) {
                const Lanes<T> value = lanes_of<T>(seen[j * STRIDE + kx]);
#pragma unroll
                for (u32 n = 0; n < N; n++) sum[j].lane[n] += value.lane[n] * factor.lane[n];
            }
        }
    }
    const Lanes<T> offset = load_weights<T>(bias + channel);
    T *to = out + (((size_t)image * rows + row) * columns + column) * channels + channel;
#pragma unroll
    for (u32 j = 0; j < TILE; j++) {
        if (column + j >= columns) break;
#pragma unroll
        for (u32 n = 0; n < N; n++) sum[j].lane[n] = clamped(sum[j].lane[n] + offset.lane[n], low, high);
        store(to + j * channels, sum[j]);
    }
}

// map = map + coarse, doubled in height and width: bilinear, half-pixel centres, edges repeated. height and width are
// those of map.
template <typename T>
__device__ inline void add_upsampled(const T *__restrict__ coarse, T *__restrict__ map, u32 images, u32 height,
                                     u32 width, u32 channels) {
    const u32 N = Lanes<T>::COUNT;
    const u32 groups = channels / N;
    const u32 index = global_thread();
    if (index >= images * height * width * groups) return;
    const u32 channel = index % groups * N;
    const u32 x = index / groups % width, y = index / groups / width % height, image = index / groups / width / height;
    const u32 rows = height / 2, columns = width / 2;
    // Between the cell that this one lies in, which counts three quarters, and the neighbour on its side.
    const u32 near_x = x / 2, near_y = y / 2;
    const u32 far_x = x % 2 ? (near_x + 1 < columns ? near_x + 1 : near_x) : (near_x > 0 ? near_x - 1 : 0);
    const u32 far_y = y % 2 ? (near_y + 1 < rows ? near_y + 1 : near_y) : (near_y > 0 ? near_y - 1 : 0);
    const T *from = coarse + (size_t)image * rows * columns * channels + channel;
    const Lanes<T> near_near = load(from + ((size_t)near_y * columns + near_x) * channels);
    const Lanes<T> near_far = load(from + ((size_t)near_y * columns + far_x) * channels);
    const Lanes<T> far_near = load(from + ((size_t)far_y * columns + near_x) * channels);
    const Lanes<T> far_far = load(from + ((size_t)far_y * columns + far_x) * channels);
    T *at = map + N * (size_t)index;
    Lanes<T> value = load(at);
#pragma unroll
    for (u32 c = 0; c < N; c++) {
        const float near = 0.75f * near_near.lane[c] + 0.25f * far_near.lane[c];
        const float far = 0.75f * near_far.lane[c] + 0.25f * far_far.lane[c];
        value.lane[c] = value.lane[c] + (0.75f * near + 0.25f * far);
    }
    store(at, value);
}

// out = in, as float.
template <typename T> __device__ inline void widen(const T *in, float *out, u32 count) {
    const u32 index = global_thread();
    if (index < count) out[index] = to_float(in[index]);
}

#define DEPTHWISE_KERNEL(T, suffix, stride)                                                                            \
    extern "C" __global__ void depthwise_s##stride##_##suffix(const T *in, const T *weight, const float *bias, T *out, \
                                                              u32 images, u32 height, u32 width, u32 channels,         \
                                                              float low, float high) {                                 \
        depthwise<T, stride>(in, weight, bias, out, images, height, width, channels, low, high);                       \
    }

#define LAYER_KERNELS(T, suffix)                                                                                       \
    extern "C" __global__ void stem_##suffix(const u8 *in, const float *constants, const float *weight,                \
                                             const float *bias, T *out, u32 images, u32 height, u32 width,             \
                                             u32 channels, float low, float high) {                                    \
        stem(in, constants, weight, bias, out, images, height, width, channels, low, high);                            \
    }                                                                                                                  \
    DEPTHWISE_KERNEL(T, suffix, 1)                                                                                     \
    DEPTHWISE_KERNEL(T, suffix, 2)                                                                                     \
    extern "C" __global__ void add_upsampled_##suffix(const T *coarse, T *map, u32 images, u32 height, u32 width,      \
                                                      u32 channels) {                                                  \
        add_upsampled(coarse, map, images, height, width, channels);                                                   \
    }                                                                                                                  \
    extern "C" __global__ void widen_##suffix(const T *in, float *out, u32 count) { widen(in, out, count); }

LAYER_KERNELS(float, f32)
LAYER_KERNELS(half_t, f16)
