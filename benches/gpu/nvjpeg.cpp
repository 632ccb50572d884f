// JPEGs per second that nvJPEG decodes to planes, beside what the cores of a worker do (`cloudpose bench frames`): what moving
// the decoder to the GPU would bring. docs/gpu.md has the answer.
//
//     nvcc -O2 -o nvjpeg benches/gpu/nvjpeg.cpp -lnvjpeg && ./nvjpeg photo.jpg 64
//
// A JSON line for each of nvJPEG's ways: entropy decoding on the processor or on the GPU, or all of it in the decoder
// unit that some GPUs have (baseline JPEGs only).
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <vector>

#include <cuda_runtime.h>
#include <nvjpeg.h>

static bool is_done(int status, const char *what) {
    if (status != 0) std::fprintf(stderr, "%s: status %d\n", what, status);
    return status == 0;
}

static void measure(const char *name, nvjpegBackend_t backend, const std::vector<unsigned char> &jpeg, int batch) {
    nvjpegHandle_t handle;
    nvjpegJpegState_t state;
    if (!is_done(nvjpegCreateEx(backend, nullptr, nullptr, 0, &handle), name)) return;
    nvjpegJpegStateCreate(handle, &state);
    int components, widths[NVJPEG_MAX_COMPONENT], heights[NVJPEG_MAX_COMPONENT];
    nvjpegChromaSubsampling_t subsampling;
    nvjpegGetImageInfo(handle, jpeg.data(), jpeg.size(), &components, &subsampling, widths, heights);
    std::vector<const unsigned char *> data(batch, jpeg.data());
    std::vector<size_t> lengths(batch, jpeg.size());
    std::vector<nvjpegImage_t> images(batch);
    for (nvjpegImage_t &image : images) {
        image = {};
        for (int c = 0; c < components; c++) {
            image.pitch[c] = widths[c];
            void *plane;
            if (!is_done(cudaMalloc(&plane, (size_t)widths[c] * heights[c]), "memory")) return;
            image.channel[c] = (unsigned char *)plane;
        }
    }
    cudaStream_t stream;
    cudaStreamCreate(&stream);
    const int threads = 8;
    if (!is_done(nvjpegDecodeBatchedInitialize(handle, state, batch, threads, NVJPEG_OUTPUT_YUV), name)) return;
    const auto decode = [&] {
        const int status = nvjpegDecodeBatched(handle, state, data.data(), lengths.data(), images.data(), stream);
        return is_done(status, name) && is_done(cudaStreamSynchronize(stream), name);
    };
    for (int i = 0; i < 5; i++)
        if (!decode()) return;
    const int runs = 40;
    const auto begun = std::chrono::steady_clock::now();
    for (int i = 0; i < runs; i++)
        if (!decode()) return;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    std::printf("{\"way\": \"%s\", \"width\": %d, \"height\": %d, \"batch\": %d, \"frames_per_second\": %.0f}\n", name,
                widths[0], heights[0], batch, batch * runs / seconds);
}

int main(int count, char **args) {
    if (count != 3) {
        std::fprintf(stderr, "usage: nvjpeg photo.jpg BATCH\n");
        return 2;
    }
    std::ifstream file(args[1], std::ios::binary);
    const std::vector<unsigned char> jpeg((std::istreambuf_iterator<char>(file)), {});
    const int batch = std::atoi(args[2]);
    measure("processor", NVJPEG_BACKEND_HYBRID, jpeg, batch);
    measure("gpu", NVJPEG_BACKEND_GPU_HYBRID, jpeg, batch);
    measure("unit", NVJPEG_BACKEND_HARDWARE, jpeg, batch);
}
