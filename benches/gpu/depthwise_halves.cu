// The depthwise convolution of infer/src/gpu/kernels/layers.cu with its nine products summed in float16, two channels an
// instruction: what `layers.py` measures it against. Compiled after common.cuh and layers.cu.

__device__ inline u32 multiply_add_pair(u32 a, u32 b, u32 sum) {
    u32 result;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

template <u32 STRIDE>
__device__ inline void depthwise_halves(const half_t *__restrict__ in, const half_t *__restrict__ weight,
                                        const float *__restrict__ bias, half_t *__restrict__ out, u32 images,
                                        u32 height, u32 width, u32 channels, float low, float high) {
    const u32 N = Lanes<half_t>::COUNT, SEEN = (TILE - 1) * STRIDE + 3;
    const u32 rows = height / STRIDE, columns = width / STRIDE;
    const u32 groups = channels / N, tiles = (columns + TILE - 1) / TILE;
    const u32 index = global_thread();
    if (index >= images * rows * tiles * groups) return;
    const u32 channel = index % groups * N;
    const u32 column = index / groups % tiles * TILE;
    const u32 row = index / groups / tiles % rows;
    const u32 image = index / groups / tiles / rows;
    const int pad = STRIDE == 1 ? 1 : 0;
    const half_t *from = in + (size_t)image * height * width * channels + channel;

    Words sum[TILE] = {};
#pragma unroll
    for (u32 ky = 0; ky < 3; ky++) {
        const int y = (int)(row * STRIDE + ky) - pad;
        const bool is_row = y >= 0 && y < (int)height;
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
        for (u32 kx = 0; kx < 3; kx++)
#pragma unroll
            for (u32 j = 0; j < TILE; j++)
#pragma unroll
                for (u32 w = 0; w < 4; w++)
                    sum[j].word[w] = multiply_add_pair(seen[j * STRIDE + kx].word[w], tap[kx].word[w], sum[j].word[w]);
    }
    const Lanes<half_t> offset = load_weights<half_t>(bias + channel);
    half_t *to = out + (((size_t)image * rows + row) * columns + column) * channels + channel;
#pragma unroll
    for (u32 j = 0; j < TILE; j++) {
        if (column + j >= columns) break;
        Lanes<half_t> lanes = lanes_of<half_t>(sum[j]);
#pragma unroll
        for (u32 n = 0; n < N; n++) lanes.lane[n] = clamped(lanes.lane[n] + offset.lane[n], low, high);
        store(to + j * channels, lanes);
    }
}

#define DEPTHWISE_HALVES(stride)                                                                                       \
    extern "C" __global__ void depthwise_halves_s##stride(const half_t *in, const half_t *weight, const float *bias,   \
                                                          half_t *out, u32 images, u32 height, u32 width,              \
                                                          u32 channels, float low, float high) {                       \
        depthwise_halves<stride>(in, weight, bias, out, images, height, width, channels, low, high);                   \
    }

DEPTHWISE_HALVES(1)
DEPTHWISE_HALVES(2)
