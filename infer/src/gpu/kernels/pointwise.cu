// 1x1 convolutions: out = clamp(map x weight + bias), or map x weight + bias + residual, all pixels of a batch at once.
// map: [rows, depth]; weight: [columns, depth], so that both factors lie along the depth; out and residual:
// [rows, columns]. A block makes a tile of some rows and columns; tiles of the same rows follow one another, so that
// the map comes from memory once and then from the second cache.

// float16 on tensor cores, sums in float. depth and columns are multiples of 8.
//
// Four warps, each with a quarter of the rows and all columns. Slices of the depth go through shared memory, STAGES in
// turns: while one is multiplied the next are on their way.
#define HALF_THREADS 128

template <u32 ROWS, u32 COLUMNS, u32 DEPTH, u32 STAGES, bool HAS_RESIDUAL>
__device__ inline void pointwise_halves(const half_t *__restrict__ map, const half_t *__restrict__ weight,
                                        const float *__restrict__ bias, const half_t *__restrict__ residual,
                                        half_t *__restrict__ out, u32 rows, u32 depth, u32 columns, float low,
                                        float high) {
    // Of a row in shared memory, with which the threads of a fragment meet no bank twice.
    const u32 PITCH = DEPTH + 8;
    const u32 STAGE = (ROWS + COLUMNS) * PITCH;
    // The result goes through shared memory too, so that neighbouring threads write neighbouring channels; with this
    // pitch they meet no bank twice.
    const u32 RESULT_PITCH = COLUMNS + 8;
    const u32 SLICES = STAGES * STAGE, RESULT = ROWS * RESULT_PITCH;
    alignas(16) __shared__ half_t shared[SLICES > RESULT ? SLICES : RESULT];
    const u32 column_tiles = (columns + COLUMNS - 1) / COLUMNS;
    const u32 first_column = blockIdx.x % column_tiles * COLUMNS;
    const u32 first_row = blockIdx.x / column_tiles * ROWS;
    const u32 me = threadIdx.x, warp = me / 32, group = me % 32 / 4, place = me % 4;
    // Blocks of 16 rows that a warp has.
    const u32 HEIGHT = ROWS / 64;

    const u32 count = (depth + DEPTH - 1) / DEPTH;
    // Chunks of 8 numbers: some threads side by side for the slice of a row.
    const u32 CHUNKS = DEPTH / 8;
    const u32 chunk = me % CHUNKS * 8;
    const auto fetch = [&](u32 slice) {
        half_t *stage = shared + slice % STAGES * STAGE;
        const u32 k = slice * DEPTH + chunk;
#pragma unroll
        for (u32 r = me / CHUNKS; r < ROWS; r += HALF_THREADS / CHUNKS) {
            const bool is_there = k < depth && first_row + r < rows;
            begin_copy(stage + r * PITCH + chunk, is_there ? map + (size_t)(first_row + r) * depth + k : map,
                       is_there);
        }
#pragma unroll
        for (u32 r = me / CHUNKS; r < COLUMNS; r += HALF_THREADS / CHUNKS) {
            const bool is_there = k < depth && first_column + r < columns;
            begin_copy(stage + (ROWS + r) * PITCH + chunk,
                       is_there ? weight + (size_t)(first_column + r) * depth + k : weight, is_there);
        }
    };

    float sum[HEIGHT][COLUMNS / 8][4] = {};
    // Slices that are fetched before the one that is multiplied. A depth of one slice needs a single stage.
    const u32 AHEAD = STAGES > 1 ? STAGES - 1 : 1;
#pragma unroll
    for (u32 slice = 0; slice < AHEAD; slice++) {
        if (slice < count) fetch(slice);
        end_copies();
    }
    for (u32 slice = 0; slice < count; slice++) {
        wait_for_copies<AHEAD - 1>();
        // Everybody's copies are there, and everybody is done with the slice that the next one replaces.
        __syncthreads();
        if (slice + AHEAD < count) fetch(slice + AHEAD);
        end_copies();
        const half_t *stage = shared + slice % STAGES * STAGE;
#pragma unroll
        for (u32 k = 0; k < DEPTH; k += 16) {
            if (slice * DEPTH + k >= depth) break;
            u32 left[HEIGHT][4];
#pragma unroll
            for (u32 m = 0; m < HEIGHT; m++)
#pragma unroll
                for (u32 i = 0; i < 4; i++) {
                    const u32 row = 16 * (HEIGHT * warp + m) + group + i % 2 * 8;
                    left[m][i] = *reinterpret_cast<const u32 *>(stage + row * PITCH + k + 2 * place + i / 2 * 8);
                }
#pragma unroll
            for (u32 n = 0; n < COLUMNS / 8; n++) {
                const half_t *at = stage + (ROWS + 8 * n + group) * PITCH + k + 2 * place;
                const u32 right[2] = {*reinterpret_cast<const u32 *>(at), *reinterpret_cast<const u32 *>(at + 8)};
#pragma unroll
                for (u32 m = 0; m < HEIGHT; m++) multiply_add(sum[m][n], left[m], right);
            }
        }
    }
    wait_for_copies<0>();
    __syncthreads();

    // Eight channels at a time: where a thread reads the residual and writes the result.
    const u32 GROUPS = COLUMNS / 8;
    const u32 channel = me % GROUPS * 8, first = me / GROUPS;
    const bool is_inside = first_column + channel < columns;
    const auto place_of = [&](u32 r) { return (size_t)(first_row + r) * columns + first_column + channel; };
    if (HAS_RESIDUAL) {
#pragma unroll
        for (u32 r = first; r < ROWS; r += HALF_THREADS / GROUPS)
            if (is_inside && first_row + r < rows)
                *reinterpret_cast<Words *>(shared + r * RESULT_PITCH + channel) =
                    *reinterpret_cast<const Words *>(residual + place_of(r));
        __syncthreads();
    }
#pragma unroll
    for (u32 n = 0; n < COLUMNS / 8; n++) {
        const u32 column = first_column + 8 * n + 2 * place;
        // Columns are even: both are inside, or none.
        const float offset[2] = {column < columns ? bias[column] : 0.0f, column < columns ? bias[column + 1] : 0.0f};
#pragma unroll
        for (u32 m = 0; m < HEIGHT; m++)
#pragma unroll
            for (u32 i = 0; i < 2; i++) {
                const u32 row = 16 * (HEIGHT * warp + m) + group + 8 * i;
                u32 *pair = reinterpret_cast<u32 *>(shared + row * RESULT_PITCH + 8 * n + 2 * place);
                float low_one = sum[m][n][2 * i] + offset[0], high_one = sum[m][n][2 * i + 1] + offset[1];
                if (HAS_RESIDUAL) {
                    float other[2];
                    widen_pair(*pair, &other[0], &other[1]);
                    low_one += other[0];
                    high_one += other[1];
                } else {
                    low_one = clamped(low_one, low, high);
                    high_one = clamped(high_one, low, high);
                }
                *pair = narrow_pair(low_one, high_one);
            }
    }
    __syncthreads();
#pragma unroll
    for (u32 r = first; r < ROWS; r += HALF_THREADS / GROUPS)
        if (is_inside && first_row + r < rows)
            *reinterpret_cast<Words *>(out + place_of(r)) =
                *reinterpret_cast<const Words *>(shared + r * RESULT_PITCH + channel);
}

// float. depth and columns are multiples of 4. A thread makes ROWS * COLUMNS / 256 numbers: rows and columns that lie
// apart, so that neighbouring threads read and write neighbours.
#define FLOAT_THREADS 256

template <u32 ROWS, u32 COLUMNS, u32 DEPTH, u32 STAGES, bool HAS_RESIDUAL>
__device__ inline void pointwise_floats(const float *__restrict__ map, const float *__restrict__ weight,
                                        const float *__restrict__ bias, const float *__restrict__ residual,
                                        float *__restrict__ out, u32 rows, u32 depth, u32 columns, float low,
                                        float high) {
    const u32 PITCH = DEPTH + 4;
    const u32 STAGE = (ROWS + COLUMNS) * PITCH;
    alignas(16) __shared__ float shared[STAGES * STAGE];
    const u32 column_tiles = (columns + COLUMNS - 1) / COLUMNS;
    const u32 first_column = blockIdx.x % column_tiles * COLUMNS;
    const u32 first_row = blockIdx.x / column_tiles * ROWS;
    const u32 me = threadIdx.x;
    // Four columns for each thread, ACROSS apart; and HIGH rows, DOWN apart.
    const u32 ACROSS = COLUMNS / 4, DOWN = FLOAT_THREADS / ACROSS, HIGH = ROWS / DOWN;
    const u32 column = me % ACROSS, row = me / ACROSS;

    const u32 count = (depth + DEPTH - 1) / DEPTH;
    // Chunks of 4 numbers: some threads side by side for the slice of a row.
    const u32 CHUNKS = DEPTH / 4;
    const u32 chunk = me % CHUNKS * 4;
    const auto fetch = [&](u32 slice) {
        float *stage = shared + slice % STAGES * STAGE;
        const u32 k = slice * DEPTH + chunk;
#pragma unroll
        for (u32 r = me / CHUNKS; r < ROWS + COLUMNS; r += FLOAT_THREADS / CHUNKS) {
            const bool is_map = r < ROWS;
            const u32 at = is_map ? first_row + r : first_column + r - ROWS;
            const bool is_there = k < depth && at < (is_map ? rows : columns);
            const float *from = is_map ? map : weight;
            begin_copy(stage + r * PITCH + chunk, is_there ? from + (size_t)at * depth + k : from, is_there);
        }
    };

    float sum[HIGH][4] = {};
#pragma unroll
    for (u32 slice = 0; slice < STAGES - 1; slice++) {
        if (slice < count) fetch(slice);
        end_copies();
    }
    for (u32 slice = 0; slice < count; slice++) {
        wait_for_copies<STAGES - 2>();
        // Everybody's copies are there, and everybody is done with the slice that the next one replaces.
        __syncthreads();
        if (slice + STAGES - 1 < count) fetch(slice + STAGES - 1);
        end_copies();
        const float *stage = shared + slice % STAGES * STAGE;
#pragma unroll
        for (u32 k = 0; k < DEPTH; k += 4) {
            Lanes<float> right[4];
#pragma unroll
            for (u32 c = 0; c < 4; c++) right[c] = load(stage + (ROWS + column + ACROSS * c) * PITCH + k);
#pragma unroll
            for (u32 r = 0; r < HIGH; r++) {
                const Lanes<float> left = load(stage + (row + DOWN * r) * PITCH + k);
#pragma unroll
                for (u32 c = 0; c < 4; c++)
#pragma unroll
                    for (u32 d = 0; d < 4; d++) sum[r][c] += left.lane[d] * right[c].lane[d];
            }
        }
    }
#pragma unroll
    for (u32 c = 0; c < 4; c++) {
        const u32 to = first_column + column + ACROSS * c;
        if (to >= columns) break;
        const float offset = bias[to];
#pragma unroll
        for (u32 r = 0; r < HIGH; r++) {
            const u32 at = first_row + row + DOWN * r;
            if (at >= rows) break;
            const float biased = sum[r][c] + offset;
            const size_t place = (size_t)at * columns + to;
            out[place] = HAS_RESIDUAL ? biased + residual[place] : clamped(biased, low, high);
        }
    }
}

// Named by the rows and columns of a tile, and the slices of the depth that are under way.
#define POINTWISE_KERNELS(T, suffix, body, threads, tile_rows, tile_columns, slice, stages)                            \
    extern "C" __global__ void __launch_bounds__(threads)                                                              \
        pointwise_##tile_rows##x##tile_columns##x##stages##_##suffix(                                                  \
            const T *map, const T *weight, const float *bias, T *out, u32 rows, u32 depth, u32 columns, float low,     \
            float high) {                                                                                              \
        body<tile_rows, tile_columns, slice, stages, false>(map, weight, bias, nullptr, out, rows, depth, columns,     \
                                                            low, high);                                                \
    }                                                                                                                  \
    extern "C" __global__ void __launch_bounds__(threads)                                                              \
        pointwise_add_##tile_rows##x##tile_columns##x##stages##_##suffix(                                              \
            const T *map, const T *weight, const float *bias, const T *residual, T *out, u32 rows, u32 depth,          \
            u32 columns) {                                                                                             \
        body<tile_rows, tile_columns, slice, stages, true>(map, weight, bias, residual, out, rows, depth, columns,     \
                                                           0.0f, 0.0f);                                                \
    }

POINTWISE_KERNELS(float, f32, pointwise_floats, FLOAT_THREADS, 128, 32, 16, 3)
POINTWISE_KERNELS(float, f32, pointwise_floats, FLOAT_THREADS, 128, 64, 16, 3)
POINTWISE_KERNELS(half_t, f16, pointwise_halves, HALF_THREADS, 128, 64, 32, 1)
POINTWISE_KERNELS(half_t, f16, pointwise_halves, HALF_THREADS, 128, 64, 32, 3)
POINTWISE_KERNELS(half_t, f16, pointwise_halves, HALF_THREADS, 128, 32, 32, 1)
POINTWISE_KERNELS(half_t, f16, pointwise_halves, HALF_THREADS, 128, 32, 32, 3)
POINTWISE_KERNELS(half_t, f16, pointwise_halves, HALF_THREADS, 64, 32, 64, 3)
