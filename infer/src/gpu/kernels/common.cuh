// Types and loads that the kernels share. One source with all kernels is compiled when an engine starts (NVRTC), so
// nothing is included: neither the toolkit's headers nor the C library are there. The tests compile the same text
// as C++ for the host, which defines CLOUDPOSE_HOST and what CUDA has built in (tests/stand-in/cuda_on_host.h).

typedef unsigned char u8;
typedef unsigned int u32;

// IEEE 754 binary16. Only loaded and stored: all arithmetic is float.
struct half_t {
    unsigned short bits;
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
#endif

__device__ inline float to_float(float f) { return f; }

__device__ inline void store(float *to, float value) { *to = value; }

// Four neighbouring channels, moved by one instruction.
template <typename T> struct alignas(4 * sizeof(T)) Four {
    T lane[4];
};

struct Float4 {
    float lane[4];
};

template <typename T> __device__ inline Float4 load4(const T *from) {
    const Four<T> raw = *reinterpret_cast<const Four<T> *>(from);
    Float4 four;
#pragma unroll
    for (u32 i = 0; i < 4; i++) four.lane[i] = to_float(raw.lane[i]);
    return four;
}

template <typename T> __device__ inline void store4(T *to, const Float4 &four) {
    Four<T> raw;
#pragma unroll
    for (u32 i = 0; i < 4; i++) store(&raw.lane[i], four.lane[i]);
    *reinterpret_cast<Four<T> *>(to) = raw;
}

__device__ inline float clamped(float x, float low, float high) { return fminf(fmaxf(x, low), high); }

__device__ inline u32 global_thread() { return blockIdx.x * blockDim.x + threadIdx.x; }
