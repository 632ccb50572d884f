// Types and loads that the kernels share. All kernels are compiled as one source (make cuda-kernels), and nothing is
// included: neither the toolkit's headers nor the C library are there. The tests compile the same text as C++ for the
// host, which defines CLOUDPOSE_HOST and what CUDA has built in (tests/stand-in/cuda_on_host.h).

typedef unsigned char u8;
typedef unsigned int u32;

// IEEE 754 binary16. Only loaded, stored and multiplied by tensor cores: all other arithmetic is float.
struct half_t {
    unsigned short bits;
};

// 16 bytes, moved by one instruction.
struct alignas(16) Words {
    u32 word[4];
};

#ifndef CLOUDPOSE_HOST
__device__ inline float to_float(half_t h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h.bits));
    return f;
}

__device__ inline void store(half_t *to, float value) {
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to->bits) : "f"(value));
}

// The two float16 of a word, the lower half first.
__device__ inline void widen_pair(u32 pair, float *low, float *high) {
    asm("{ .reg .f16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h; }"
        : "=f"(*low), "=f"(*high)
        : "r"(pair));
}

__device__ inline u32 narrow_pair(float low, float high) {
    u32 pair;
    asm("{ .reg .f16 l, h; cvt.rn.f16.f32 l, %1; cvt.rn.f16.f32 h, %2; mov.b32 %0, {l, h}; }"
        : "=r"(pair)
        : "f"(low), "f"(high));
    return pair;
}

// Begins to copy 16 bytes to shared memory; zeros if `is_there` is not true, and then `from` is not read.
__device__ inline void begin_copy(void *to, const void *from, bool is_there) {
#if __CUDA_ARCH__ >= 800
    u32 address;
    asm("{ .reg .u64 t; cvta.to.shared.u64 t, %1; cvt.u32.u64 %0, t; }" : "=r"(address) : "l"(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(address), "l"(from), "r"(is_there ? 16 : 0)
                 : "memory");
#else
    Words words = {};
    if (is_there) words = *reinterpret_cast<const Words *>(from);
    *reinterpret_cast<Words *>(to) = words;
#endif
}

// Ends a group of copies of this thread.
__device__ inline void end_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most the last `MOST` groups of this thread are under way.
template <u32 MOST> __device__ inline void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" : : "n"(MOST) : "memory");
#endif
}

// sum += left * right on tensor cores: 16x16 times 16x8 in float16, sums in float. A warp does it together; which
// numbers a thread has says "Matrix Fragments for mma.m16n8k16" of NVIDIA's PTX ISA.
__device__ inline void multiply_add(float sum[4], const u32 left[4], const u32 right[2]) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right[0]), "r"(right[1]));
#else
    for (u32 half = 0; half < 2; half++)
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
                     "{%0, %1, %2, %3};"
                     : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                     : "r"(left[2 * half]), "r"(left[2 * half + 1]), "r"(right[half]));
#endif
}
#endif

__device__ inline float to_float(float f) { return f; }

__device__ inline void store(float *to, float value) { *to = value; }

// As many neighbouring channels as 16 bytes of a map have, as float: of float16, or of float.
template <typename T> struct Lanes {
    static const u32 COUNT = 16 / sizeof(T);
    float lane[COUNT];
};

template <typename T> __device__ inline Lanes<T> lanes_of(const Words &words);

template <> __device__ inline Lanes<half_t> lanes_of(const Words &words) {
    Lanes<half_t> lanes;
#pragma unroll
    for (u32 i = 0; i < 4; i++) widen_pair(words.word[i], &lanes.lane[2 * i], &lanes.lane[2 * i + 1]);
    return lanes;
}

template <> __device__ inline Lanes<float> lanes_of(const Words &words) {
    Lanes<float> lanes;
#pragma unroll
    for (u32 i = 0; i < 4; i++) lanes.lane[i] = __uint_as_float(words.word[i]);
    return lanes;
}

template <typename T> __device__ inline Lanes<T> load(const T *from) {
    return lanes_of<T>(*reinterpret_cast<const Words *>(from));
}

struct alignas(16) Float4 {
    float lane[4];
};

// Weights for the lanes of a map of T.
template <typename T> __device__ inline Lanes<T> load_weights(const float *from) {
    Lanes<T> lanes;
#pragma unroll
    for (u32 i = 0; i < Lanes<T>::COUNT; i += 4) {
        const Float4 four = *reinterpret_cast<const Float4 *>(from + i);
#pragma unroll
        for (u32 j = 0; j < 4; j++) lanes.lane[i + j] = four.lane[j];
    }
    return lanes;
}

__device__ inline void store(half_t *to, const Lanes<half_t> &lanes) {
    Words words;
#pragma unroll
    for (u32 i = 0; i < 4; i++) words.word[i] = narrow_pair(lanes.lane[2 * i], lanes.lane[2 * i + 1]);
    *reinterpret_cast<Words *>(to) = words;
}

__device__ inline void store(float *to, const Lanes<float> &lanes) {
    Float4 four;
#pragma unroll
    for (u32 i = 0; i < 4; i++) four.lane[i] = lanes.lane[i];
    *reinterpret_cast<Float4 *>(to) = four;
}

__device__ inline float clamped(float x, float low, float high) { return fminf(fmaxf(x, low), high); }

__device__ inline u32 global_thread() { return blockIdx.x * blockDim.x + threadIdx.x; }
