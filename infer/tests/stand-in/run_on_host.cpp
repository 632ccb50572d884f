// Runs one kernel on the host: reads from standard input what to launch, and writes all buffers to standard output.
// Little-endian; u32 if nothing else is said:
//   length of the kernel's name, name, blocks, threads, number of arguments; then for each of these
//   'b', length in bytes, bytes | 'u', u32 | 'f', float
#include "cuda_on_host.h"

#include "common.cuh"

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

float to_float(half_t h) {
    _Float16 value;
    std::memcpy(&value, &h, sizeof value);
    return (float)value;
}

void store(half_t *to, float value) {
    const _Float16 narrow = (_Float16)value;
    std::memcpy(to, &narrow, sizeof narrow);
}

void widen_pair(u32 pair, float *low, float *high) {
    *low = to_float(half_t{(unsigned short)pair});
    *high = to_float(half_t{(unsigned short)(pair >> 16)});
}

u32 narrow_pair(float low, float high) {
    half_t pair[2];
    store(&pair[0], low);
    store(&pair[1], high);
    return pair[0].bits | (u32)pair[1].bits << 16;
}

void begin_copy(void *to, const void *from, bool is_there) {
    Words words = {};
    if (is_there) words = *reinterpret_cast<const Words *>(from);
    *reinterpret_cast<Words *>(to) = words;
}

// What the threads of a warp hold of the matrices that they multiply.
struct Warp {
    std::barrier<> together{32};
    u32 left[32][4], right[32][2];
};
static std::vector<std::unique_ptr<Warp>> warps;

static float half_of(u32 pair, u32 which) { return to_float(half_t{(unsigned short)(pair >> 16 * which)}); }

void multiply_add(float sum[4], const u32 left[4], const u32 right[2]) {
    Warp &warp = *warps[threadIdx.x / 32];
    const u32 me = threadIdx.x % 32;
    std::memcpy(warp.left[me], left, sizeof warp.left[me]);
    std::memcpy(warp.right[me], right, sizeof warp.right[me]);
    warp.together.arrive_and_wait();
    for (u32 i = 0; i < 4; i++) {
        const u32 row = me / 4 + i / 2 * 8, column = me % 4 * 2 + i % 2;
        for (u32 k = 0; k < 16; k++) {
            // Who holds number k of a row, or of a column, and where: two neighbours in each word.
            const u32 holder = k % 8 / 2, word = k / 8;
            const float x = half_of(warp.left[row % 8 * 4 + holder][2 * word + row / 8], k % 2);
            sum[i] += x * half_of(warp.right[column * 4 + holder][word], k % 2);
        }
    }
    // Nobody writes the next ones before everybody has read these.
    warp.together.arrive_and_wait();
}

#include "layers.cu"
#include "pointwise.cu"
#include "poses.cu"

[[noreturn]] static void fail(const std::string &why) {
    std::fprintf(stderr, "%s\n", why.c_str());
    std::exit(1);
}

static void read(void *to, size_t len) {
    if (std::fread(to, 1, len, stdin) != len) fail("the input ends early");
}

static u32 read_u32() {
    u32 value;
    read(&value, sizeof value);
    return value;
}

struct Value {
    char kind;
    u32 number = 0;
    float real = 0;
    // Of exactly the length given, so that the sanitizer sees every step beyond it.
    void *bytes = nullptr;
    u32 len = 0;
};

static Value read_value() {
    Value value{};
    read(&value.kind, 1);
    if (value.kind == 'u') {
        value.number = read_u32();
    } else if (value.kind == 'f') {
        read(&value.real, sizeof value.real);
    } else {
        value.len = read_u32();
        value.bytes = std::malloc(value.len);
        read(value.bytes, value.len);
    }
    return value;
}

template <typename T> static T as(const Value &value) {
    if constexpr (std::is_pointer_v<T>) {
        if (value.kind != 'b') fail("the kernel takes a buffer there");
        return (T)value.bytes;
    } else if constexpr (std::is_same_v<T, float>) {
        if (value.kind != 'f') fail("the kernel takes a float there");
        return value.real;
    } else {
        if (value.kind != 'u') fail("the kernel takes a u32 there");
        return value.number;
    }
}

using Call = std::function<void()>;

template <typename... A, size_t... I>
static Call prepare(void (*kernel)(A...), const std::vector<Value> &values, std::index_sequence<I...>) {
    if (values.size() != sizeof...(A)) fail("the kernel takes another number of arguments");
    return [kernel, args = std::tuple<A...>(as<A>(values[I])...)] { std::apply(kernel, args); };
}

template <typename... A> static Call prepare(void (*kernel)(A...), const std::vector<Value> &values) {
    return prepare(kernel, values, std::index_sequence_for<A...>());
}

// The threads of a block by themselves, or together.
enum class How { Alone, Together };
struct Entry {
    How how;
    std::function<Call(const std::vector<Value> &)> prepare;
};
#define ENTRY(name, how) {#name, {how, [](const std::vector<Value> &values) { return prepare(name, values); }}}
#define POINTWISE(tile) ENTRY(pointwise_##tile, How::Together), ENTRY(pointwise_add_##tile, How::Together)
#define EITHER(name, how) ENTRY(name##_f32, How::how), ENTRY(name##_f16, How::how)

int main() {
    const std::map<std::string, Entry> kernels = {
        EITHER(stem, Alone),
        EITHER(depthwise_s1, Alone),
        EITHER(depthwise_s2, Alone),
        EITHER(add_upsampled, Alone),
        EITHER(widen, Alone),
        POINTWISE(128x32x3_f32),
        POINTWISE(128x64x3_f32),
        POINTWISE(128x32x1_f16),
        POINTWISE(128x64x1_f16),
        POINTWISE(128x32x3_f16),
        POINTWISE(128x64x3_f16),
        POINTWISE(64x32x3_f16),
        ENTRY(score_centers, How::Alone),            ENTRY(choose_centers, How::Together),
        ENTRY(describe_persons, How::Together),
        ENTRY(place_keypoints, How::Together),       ENTRY(score_persons, How::Alone),
    };
    std::string name(read_u32(), ' ');
    read(name.data(), name.size());
    const u32 blocks = read_u32(), threads = read_u32(), count = read_u32();
    std::vector<Value> values;
    for (u32 i = 0; i < count; i++) values.push_back(read_value());
    const auto found = kernels.find(name);
    if (found == kernels.end()) fail("there is no kernel " + name);
    const Call call = found->second.prepare(values);

    blockDim.x = threads;
    if (found->second.how == How::Alone) {
        for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
            for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++) call();
    } else {
        std::barrier<> barrier(threads);
        together = &barrier;
        for (u32 first = 0; first < threads; first += 32) warps.push_back(std::make_unique<Warp>());
        std::vector<std::thread> running;
        for (u32 me = 0; me < threads; me++)
            running.emplace_back([&, me] {
                threadIdx.x = me;
                for (u32 block = 0; block < blocks; block++) {
                    if (me == 0) blockIdx.x = block;
                    barrier.arrive_and_wait();
                    call();
                    barrier.arrive_and_wait();
                }
            });
        for (std::thread &thread : running) thread.join();
    }
    for (const Value &value : values) {
        if (value.kind != 'b') continue;
        std::fwrite(value.bytes, 1, value.len, stdout);
        std::free(value.bytes);
    }
    return std::fflush(stdout) == 0 ? 0 : 1;
}
