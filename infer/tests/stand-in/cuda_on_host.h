// What CUDA has built in, for compiling the kernels as C++ for the host. Blocks run one after another; the threads of
// a block that work together are threads of the host.
#pragma once
#include <barrier>
#include <cmath>
#include <cstddef>
#include <cstring>

#define CLOUDPOSE_HOST
#define __global__
#define __device__
#define __launch_bounds__(...)
// Blocks do not overlap in time, so one copy serves them all.
#define __shared__ static

struct Index {
    unsigned int x;
};
inline thread_local Index threadIdx;
inline Index blockIdx, blockDim;
inline std::barrier<> *together;

inline float __uint_as_float(unsigned int bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline void __syncthreads() { together->arrive_and_wait(); }

struct half_t;
float to_float(half_t h);
void store(half_t *to, float value);
void widen_pair(unsigned int pair, float *low, float *high);
unsigned int narrow_pair(float low, float high);

// Copies are there at once.
void begin_copy(void *to, const void *from, bool is_there);
inline void end_copies() {}
template <unsigned int MOST> void wait_for_copies() {}

void multiply_add(float sum[4], const unsigned int left[4], const unsigned int right[2]);
