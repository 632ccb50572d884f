// Heads to poses: what models/movenet/decoder does, step by step, for every image at once.
//
// `poses` holds, for all images: [images, persons, record] results, then [images, persons, candidate] and
// [images, cells] that the steps leave one another. Blocks have a power of two of threads, at most MOST_THREADS.

#define FEATURES 24
#define HIDDEN 96
// As many as skeletons may have.
#define MOST_KEYPOINTS 256
#define MOST_THREADS 256
#define MOST_PERSONS 32
#define PEAK_REACH 2
#define NOWHERE 0xffffffff

// Score; box: y_min, x_min, y_max, x_max, 0 to 1; for each of the keypoints y, x (0 to 1), score.
__device__ inline size_t record_size(u32 keypoints) { return 5 + 3 * (size_t)keypoints; }

// Centre's score; box in cells: y_min, x_min, y_max, x_max; where each of the keypoints is expected: y, x in cells.
__device__ inline size_t candidate_size(u32 keypoints) { return 5 + 2 * (size_t)keypoints; }

// A head's layers in the buffer `heads`: depthwise [9, FEATURES], hidden [FEATURES, HIDDEN] and its bias, out
// [HIDDEN, channels] and its bias.
__device__ inline u32 head_size(u32 channels) {
    return 9 * FEATURES + FEATURES * HIDDEN + HIDDEN + HIDDEN * channels + channels;
}

__device__ inline float sigmoid(float logit) { return 1.0f / (1.0f + expf(-logit)); }

// Writes `count` channels, from `first` on, of the head that begins at `head`, at `cell`. All threads take part.
__device__ inline void evaluate_head(const float *features, u32 height, u32 width, const float *head, u32 channels,
                                     u32 cell, u32 first, u32 count, float *result) {
    __shared__ float spatial[FEATURES];
    __shared__ float hidden[HIDDEN];
    const float *hidden_weight = head + 9 * FEATURES;
    const float *hidden_bias = hidden_weight + FEATURES * HIDDEN;
    const float *out_weight = hidden_bias + HIDDEN;
    const float *out_bias = out_weight + HIDDEN * channels;
    for (u32 c = threadIdx.x; c < FEATURES; c += blockDim.x) {
        float sum = 0.0f;
        for (u32 tap = 0; tap < 9; tap++) {
            const int y = (int)(cell / width + tap / 3) - 1, x = (int)(cell % width + tap % 3) - 1;
            if (y < 0 || y >= (int)height || x < 0 || x >= (int)width) continue;
            sum += features[((size_t)y * width + x) * FEATURES + c] * head[tap * FEATURES + c];
        }
        spatial[c] = sum;
    }
    __syncthreads();
    for (u32 h = threadIdx.x; h < HIDDEN; h += blockDim.x) {
        float sum = 0.0f;
        for (u32 c = 0; c < FEATURES; c++) sum += spatial[c] * hidden_weight[c * HIDDEN + h];
        hidden[h] = fmaxf(sum + hidden_bias[h], 0.0f);
    }
    __syncthreads();
    for (u32 c = threadIdx.x; c < count; c += blockDim.x) {
        float sum = 0.0f;
        for (u32 h = 0; h < HIDDEN; h++) sum += hidden[h] * out_weight[h * channels + first + c];
        result[c] = sum + out_bias[first + c];
    }
    __syncthreads();
}

// The greatest value of all threads and its index; of equal ones the lowest index. Every thread gets it.
__device__ inline u32 greatest(float value, u32 index, float *best) {
    __shared__ float values[MOST_THREADS];
    __shared__ u32 indices[MOST_THREADS];
    const u32 me = threadIdx.x;
    values[me] = value;
    indices[me] = index;
    __syncthreads();
    for (u32 half = blockDim.x / 2; half > 0; half /= 2) {
        if (me < half) {
            const float other = values[me + half];
            const u32 other_index = indices[me + half];
            if (other > values[me] || (other == values[me] && other_index < indices[me])) {
                values[me] = other;
                indices[me] = other_index;
            }
        }
        __syncthreads();
    }
    *best = values[0];
    const u32 found = indices[0];
    // Nobody writes these again before everybody has read them.
    __syncthreads();
    return found;
}

// Step 1: how much each cell is worth as a centre. SinglePose (weight is given): the weighted score. MultiPose: the
// score of the greatest of a neighbourhood, 0 for others.
extern "C" __global__ void score_centers(const float *center, const float *weight, float *poses, u32 images,
                                         u32 height, u32 width, u32 pitch, u32 persons, u32 keypoints,
                                         u32 is_single, float peak_tolerance) {
    const u32 index = global_thread(), cells = height * width;
    if (index >= images * cells) return;
    const u32 cell = index % cells;
    const float *map = center + (size_t)(index / cells) * cells * pitch;
    const float score = sigmoid(map[cell * pitch]);
    float *scores = poses + (size_t)images * persons * (record_size(keypoints) + candidate_size(keypoints));
    if (is_single) {
        scores[index] = score * weight[cell];
        return;
    }
    float most = score;
    for (int y = (int)(cell / width) - PEAK_REACH; y <= (int)(cell / width) + PEAK_REACH; y++)
        for (int x = (int)(cell % width) - PEAK_REACH; x <= (int)(cell % width) + PEAK_REACH; x++)
            if (y >= 0 && y < (int)height && x >= 0 && x < (int)width)
                most = fmaxf(most, sigmoid(map[((u32)y * width + (u32)x) * pitch]));
    scores[index] = most - score < peak_tolerance ? score : 0.0f;
}

// Step 2: the persons of an image, one block each: the cells worth most, and their scores.
extern "C" __global__ void choose_centers(float *poses, u32 images, u32 height, u32 width, u32 persons,
                                          u32 keypoints) {
    __shared__ u32 chosen[MOST_PERSONS];
    const u32 image = blockIdx.x, cells = height * width;
    const float *scores = poses + (size_t)images * persons * (record_size(keypoints) + candidate_size(keypoints)) +
                          (size_t)image * cells;
    for (u32 person = 0; person < persons; person++) {
        // Below every score: a cell always wins over none.
        float value = -1.0f;
        u32 index = NOWHERE;
        for (u32 cell = threadIdx.x; cell < cells; cell += blockDim.x) {
            bool taken = false;
            for (u32 other = 0; other < person; other++) taken = taken || chosen[other] == cell;
            if (!taken && (scores[cell] > value || index == NOWHERE)) {
                value = scores[cell];
                index = cell;
            }
        }
        float score;
        u32 cell = greatest(value, index, &score);
        // None is left in an image of fewer cells than persons, or all are NaN.
        if (cell >= cells) cell = 0;
        if (threadIdx.x == 0) {
            chosen[person] = cell;
            float *candidate = poses + (size_t)images * persons * record_size(keypoints) +
                               ((size_t)image * persons + person) * candidate_size(keypoints);
            candidate[0] = score;
            // Until the next step reads it. Cells are few enough to be exact.
            candidate[1] = (float)cell;
        }
        __syncthreads();
    }
}

// Step 3: a person of an image, one block each: what the heads say at the cell. heads: regression (2 channels a
// keypoint), offset (2 a keypoint), and for MultiPose box scale (2), box offset (2).
extern "C" __global__ void describe_persons(const float *features, const float *heads, float *poses, u32 images,
                                            u32 height, u32 width, u32 persons, u32 keypoints, u32 is_single) {
    __shared__ float read[2 * MOST_KEYPOINTS];
    __shared__ float box[4];
    const u32 channels = 2 * keypoints;
    features += (size_t)(blockIdx.x / persons) * height * width * FEATURES;
    float *candidate =
        poses + (size_t)images * persons * record_size(keypoints) + blockIdx.x * candidate_size(keypoints);
    const u32 cell = (u32)candidate[1];
    evaluate_head(features, height, width, heads, channels, cell, 0, channels, read);
    const float y = (float)(cell / width), x = (float)(cell % width);
    for (u32 i = threadIdx.x; i < channels; i += blockDim.x) candidate[5 + i] = (i % 2 ? x : y) + read[i];
    if (!is_single) {
        const float *scale = heads + 2 * head_size(channels);
        evaluate_head(features, height, width, scale, 2, cell, 0, 2, box);
        evaluate_head(features, height, width, scale + head_size(2), 2, cell, 0, 2, box + 2);
    }
    if (threadIdx.x != 0) return;
    const float bottom = (float)height, right = (float)width;
    float edges[4] = {0.0f, 0.0f, bottom, right};
    if (!is_single) {
        const float middle_y = y + box[2], middle_x = x + box[3];
        const float half_height = 0.5f * fmaxf(box[0], 0.0f), half_width = 0.5f * fmaxf(box[1], 0.0f);
        edges[0] = fmaxf(fminf(middle_y - half_height, bottom), 0.0f);
        edges[1] = fmaxf(fminf(middle_x - half_width, right), 0.0f);
        edges[2] = fmaxf(fminf(middle_y + half_height, bottom), 0.0f);
        edges[3] = fmaxf(fminf(middle_x + half_width, right), 0.0f);
    }
    for (u32 i = 0; i < 4; i++) candidate[1 + i] = edges[i];
}

// The heat, counted less with the squared distance from where the keypoint is expected.
__device__ inline float weigh(float heat, float distance2, u32 is_single, float falloff) {
    return is_single ? heat / (sqrtf(distance2) + falloff) : heat * expf(-distance2 / falloff);
}

__device__ inline float distance2(u32 cell, u32 width, const float *expected) {
    const float dy = (float)(cell / width) - expected[0], dx = (float)(cell % width) - expected[1];
    return dy * dy + dx * dx;
}

// Step 4: a keypoint (of `count`) of a person of an image, one block each: its cell, its exact place and its score.
// falloff: SinglePose, the offset in cells; MultiPose, the spread in cells squared. cell_height, cell_width: for
// SinglePose, as parts of the input's. Who has a lower centre score than least_center is nobody.
extern "C" __global__ void place_keypoints(const float *keypoints, const float *features, const float *heads,
                                           float *poses, u32 images, u32 height, u32 width, u32 pitch, u32 persons,
                                           u32 count, u32 is_single, float falloff, float cell_height,
                                           float cell_width, float least_center) {
    __shared__ float offset[2];
    const u32 keypoint = blockIdx.x % count, person = blockIdx.x / count % persons;
    const u32 image = blockIdx.x / count / persons, cells = height * width;
    const float *map = keypoints + (size_t)image * cells * pitch + keypoint;
    const size_t size = candidate_size(count);
    const float *candidates = poses + (size_t)images * persons * record_size(count) + (size_t)image * persons * size;
    const float *candidate = candidates + person * size;
    const float *expected = candidate + 5 + 2 * keypoint;

    // Inside is edge_min <= index < edge_max.
    const u32 top = (u32)ceilf(candidate[1]), left = (u32)ceilf(candidate[2]);
    const u32 bottom = (u32)ceilf(candidate[3]), right = (u32)ceilf(candidate[4]);
    const u32 columns = right > left ? right - left : 0, rows = bottom > top ? bottom - top : 0;
    float value = 0.0f;
    u32 found = 0;
    for (u32 i = threadIdx.x; i < rows * columns; i += blockDim.x) {
        const u32 cell = (top + i / columns) * width + left + i % columns;
        const float here = weigh(sigmoid(map[cell * pitch]), distance2(cell, width, expected), is_single, falloff);
        if (here > value) {
            value = here;
            found = cell;
        }
    }
    // Where nothing is more than 0 this is cell 0.
    float best;
    const u32 cell = greatest(value, found, &best);
    evaluate_head(features + (size_t)image * cells * FEATURES, height, width, heads + head_size(2 * count), 2 * count, cell,
                  2 * keypoint, 2, offset);
    if (threadIdx.x != 0) return;
    const float heat = sigmoid(map[cell * pitch]);
    float score = heat;
    if (!is_single) {
        score = 0.0f;
        for (u32 other = 0; other < persons; other++) {
            const float *it = candidates + other * size;
            if (it[0] < least_center) continue;
            const float y = (float)(cell / width), x = (float)(cell % width);
            if (y < ceilf(it[1]) || y >= ceilf(it[3]) || x < ceilf(it[2]) || x >= ceilf(it[4])) continue;
            score = fmaxf(score, weigh(heat, distance2(cell, width, it + 5 + 2 * keypoint), is_single, falloff));
        }
    }
    float *record = poses + ((size_t)image * persons + person) * record_size(count) + 5 + 3 * keypoint;
    const float y = (float)(cell / width) + offset[0], x = (float)(cell % width) + offset[1];
    record[0] = is_single ? y * cell_height : y / (float)height;
    record[1] = is_single ? x * cell_width : x / (float)width;
    record[2] = score;
}

// Step 5: a person's score and box. SinglePose: the mean of the keypoints' scores. MultiPose: the centre's score
// times the mean of those that count. Nobody is all zeros.
extern "C" __global__ void score_persons(float *poses, u32 images, u32 height, u32 width, u32 persons, u32 keypoints,
                                         u32 is_single, float min_keypoint_score, float least_center) {
    const u32 index = global_thread();
    if (index >= images * persons) return;
    float *record = poses + index * record_size(keypoints);
    const float *candidate =
        poses + (size_t)images * persons * record_size(keypoints) + index * candidate_size(keypoints);
    if (candidate[0] < least_center) {
        for (u32 i = 0; i < record_size(keypoints); i++) record[i] = 0.0f;
        return;
    }
    float sum = 0.0f;
    u32 count = 0;
    for (u32 k = 0; k < keypoints; k++) {
        const float score = record[5 + 3 * k + 2];
        if (!is_single && !(score > min_keypoint_score)) continue;
        sum += score;
        count++;
    }
    const float divisor = (float)(count > 0 ? count : 1);
    record[0] = is_single ? sum / divisor : candidate[0] * sum / divisor;
    for (u32 i = 0; i < 4; i++) record[1 + i] = candidate[1 + i] / (float)(i % 2 ? width : height);
}
