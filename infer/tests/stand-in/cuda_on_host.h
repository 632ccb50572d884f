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
// Blocks do not overlap in time, so one copy serves them all.
#define __shared__ static

struct Index {
    unsigned int x;
};
inline thread_local Index threadIdx;
inline Index blockIdx, blockDim;
inline std::barrier<> *together;

inline void __syncthreads() { together->arrive_and_wait(); }

struct half_t;
float to_float(half_t h);
void store(half_t *to, float value);
