// Pictures to the network's first matrix: resized, placed, converted to RGB, normalised, cut into windows.

// What a picture in the upload begins with; gpu/picture.rs writes it and says what the fields mean. Offsets count
// bytes from here.
struct Picture {
    u32 luma, chroma_u, chroma_v;
    u32 luma_pitch, chroma_pitch;
    u32 luma_across, chroma_across, luma_down, chroma_down;
    u32 inner_width, inner_height, x0, y0;
    u32 has_chroma;
    u32 reserved[2];
};

// A tap: the first of two neighbouring samples, and the second one's share in 1/256.
__device__ inline u32 tap_first(u32 tap) { return tap & 0x7fffff; }
__device__ inline u32 tap_share(u32 tap) { return tap >> 23; }

// Sample (x, y) of a resized plane. Rows come in pairs, the upper and the lower one of each row of the result.
__device__ inline int sample(const u8 *rows, u32 pitch, const u32 *across, const u32 *down, u32 x, u32 y) {
    const u8 *upper = rows + 2 * y * pitch;
    const u8 *lower = upper + pitch;
    const u32 first = tap_first(across[x]), share = tap_share(across[x]);
    const u32 second = first + 1 < pitch ? first + 1 : first;
    const u32 above = upper[first] * (256 - share) + upper[second] * share;
    const u32 below = lower[first] * (256 - share) + lower[second] * share;
    return (int)((above * (256 - down[y]) + below * down[y] + (1 << 15)) >> 16);
}

__device__ inline float level(int fixed) { return fixed < 0 ? 0.0f : fixed > 255 ? 255.0f : (float)fixed; }

// Full-range BT.601 in 16-bit fixed point, as pixels/src/bt601.rs has it.
__device__ inline void rgb_from_ycc(int y, int u, int v, float rgb[3]) {
    const int luma = y << 16, cb = u - 128, cr = v - 128;
    rgb[0] = level((luma + 91881 * cr + 32768) >> 16);
    rgb[1] = level((luma - 22553 * cb - 46802 * cr + 32768) >> 16);
    rgb[2] = level((luma + 116130 * cb + 32768) >> 16);
}

// upload: `images` offsets of pictures, then the pictures. out: [images, height, width, 3].
// constants: mean, scale (three each), shift: (x - mean) * scale - shift.
template <typename T>
__device__ inline void model_input(const u8 *upload, const float *constants, T *out, u32 images, u32 height, u32 width) {
    const u32 pixel = global_thread();
    if (pixel >= images * height * width) return;
    const u32 x = pixel % width, y = pixel / width % height, image = pixel / width / height;
    const u8 *base = upload + reinterpret_cast<const u32 *>(upload)[image];
    const Picture p = *reinterpret_cast<const Picture *>(base);
    float rgb[3] = {0.0f, 0.0f, 0.0f};
    // Unsigned: what lies before x0 or y0 wraps round and is too large.
    const u32 inner_x = x - p.x0, inner_y = y - p.y0;
    if (inner_x < p.inner_width && inner_y < p.inner_height) {
        const u32 *across = reinterpret_cast<const u32 *>(base + p.luma_across);
        const u32 *down = reinterpret_cast<const u32 *>(base + p.luma_down);
        const int luma = sample(base + p.luma, p.luma_pitch, across, down, inner_x, inner_y);
        int u = 128, v = 128;
        if (p.has_chroma) {
            across = reinterpret_cast<const u32 *>(base + p.chroma_across);
            down = reinterpret_cast<const u32 *>(base + p.chroma_down);
            u = sample(base + p.chroma_u, p.chroma_pitch, across, down, inner_x, inner_y);
            v = sample(base + p.chroma_v, p.chroma_pitch, across, down, inner_x, inner_y);
        }
        rgb_from_ycc(luma, u, v, rgb);
    }
#pragma unroll
    for (u32 c = 0; c < 3; c++)
        store(out + 3 * (size_t)pixel + c, (rgb[c] - constants[c]) * constants[3 + c] - constants[6]);
}

// The 3x3 windows at stride 2 of in: [images, height, width, 3], padded by one zero at the bottom and at the right.
// out: [images, height/2, width/2, 32], the nine taps' colours and five zeros.
template <typename T>
__device__ inline void stem_windows(const T *in, T *out, u32 images, u32 height, u32 width) {
    const u32 index = global_thread();
    const u32 rows = height / 2, columns = width / 2;
    if (index >= images * rows * columns * 32) return;
    const u32 entry = index % 32, tap = entry / 3, colour = entry % 3;
    const u32 window = index / 32;
    const u32 x = 2 * (window % columns) + tap % 3;
    const u32 y = 2 * (window / columns % rows) + tap / 3;
    const u32 image = window / columns / rows;
    float value = 0.0f;
    if (tap < 9 && x < width && y < height)
        value = to_float(in[3 * (((size_t)image * height + y) * width + x) + colour]);
    store(out + index, value);
}

#define INPUT_KERNELS(T, suffix)                                                                                       \
    extern "C" __global__ void model_input_##suffix(const u8 *upload, const float *constants, T *out, u32 images,      \
                                                    u32 height, u32 width) {                                           \
        model_input(upload, constants, out, images, height, width);                                                    \
    }                                                                                                                  \
    extern "C" __global__ void stem_windows_##suffix(const T *in, T *out, u32 images, u32 height, u32 width) {         \
        stem_windows(in, out, images, height, width);                                                                  \
    }

INPUT_KERNELS(float, f32)
INPUT_KERNELS(half_t, f16)
