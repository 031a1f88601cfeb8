// Crops of a frame, resized to a model's input: uint8 [count, height, width, 3] RGB. One thread makes one pixel.
//
// The pixels are those of OpenCV's cv::resize (modules/imgproc/src/resize.cpp), computed the same way: INTER_LINEAR in
// fixed point with weights of 11 bits, INTER_AREA where a crop has more pixels than the result. NV12 is converted before
// the resize, by the 20-bit coefficients of cv::cvtColorTwoPlane (BT.601, limited range).
//
// Where OpenCV computes a position in double and rounds it to float, one division of integers in float has the same
// result: the doubles of small GPUs are slow. The tests compile this file as C++ too, so it uses no header.

#define MOST_CROPS 64

struct Edges {  // pixels left <= x < right, top <= y < bottom
    int left, top, right, bottom;
};

// The kernel's only argument; `CropWork` in work.py has the same fields. Strides and offsets are in bytes.
struct CropWork {
    const unsigned char* pixels;  // the first pixel; the first luma of NV12
    const unsigned char* chroma;  // the first U of NV12, else null
    unsigned char* out;
    long long row, column;
    long long red, green, blue;  // from a pixel to its channels
    long long chroma_row, chroma_column, chroma_v;
    int height, width;  // of the result
    Edges edges[MOST_CROPS];
};

struct Rgb {
    int red, green, blue;
};

// The two source pixels of a result pixel along one axis, and their weights of 2048.
struct Pair {
    int first, second, first_weight, second_weight;
};

// The source pixels that a result pixel covers along one axis: `begin` to `end` whole, and a part of those beside them.
struct Span {
    int begin, end;
    float before, whole, after;  // weights; before or after is 0 where no part is covered
};

__device__ inline int level(int value) { return value < 0 ? 0 : value > 255 ? 255 : value; }

__device__ inline int within(int value, int size) { return value < 0 ? 0 : value < size ? value : size - 1; }

__device__ inline Rgb rgb_of_yuv(int luma, int u, int v) {
    const int half = 1 << 19;
    const int y = (luma > 16 ? luma - 16 : 0) * 1220542;
    return {level((y + half + 1673527 * (v - 128)) >> 20),
            level((y + half - 852492 * (v - 128) - 409993 * (u - 128)) >> 20),
            level((y + half + 2116026 * (u - 128)) >> 20)};
}

__device__ inline Rgb pixel(const CropWork& work, int x, int y) {
    const unsigned char* at = work.pixels + y * work.row + x * work.column;
    if (!work.chroma) return {at[work.red], at[work.green], at[work.blue]};
    const unsigned char* chroma = work.chroma + (y / 2) * work.chroma_row + (x / 2) * work.chroma_column;
    return rgb_of_yuv(at[0], chroma[0], chroma[work.chroma_v]);
}

__device__ inline Pair pair_at(int first, float part, int size) {
    return {within(first, size), within(first + 1, size), __float2int_rn((1.f - part) * 2048.f),
            __float2int_rn(part * 2048.f)};
}

// INTER_LINEAR: pixel centres at halves. Along x, OpenCV gives a pixel beyond the border the border's alone; along y it
// keeps both weights, on the same row twice, which rounds otherwise.
__device__ inline Pair linear_pair(int index, int source, int target, bool along_x) {
    const float at = (float)((2 * index + 1) * source - target) / (float)(2 * target);
    const int first = (int)floorf(at);
    const bool outside = first < 0 || first >= source - 1;
    return pair_at(first, along_x && outside ? 0.f : at - (float)first, source);
}

// INTER_AREA where one axis grows: bilinear between the borders of pixels. The product is OpenCV's own, in double: it
// may fall just below a whole number, and then the pixel before it is taken.
__device__ inline Pair area_pair(int index, int source, int target, bool along_x) {
    const double scale = 1.0 / ((double)target / source);
    const int first = (int)floor(index * scale);
    const int ahead = (index + 1) * source - (first + 1) * target;
    float part = (float)ahead / (float)source;
    part = part <= 0.f ? 0.f : part - floorf(part);
    return pair_at(first, along_x && first >= source - 1 ? 0.f : part, source);
}

__device__ inline int blend(int top_left, int top_right, int bottom_left, int bottom_right, const Pair& x, const Pair& y) {
    const int top = (top_left * x.first_weight + top_right * x.second_weight) >> 4;
    const int bottom = (bottom_left * x.first_weight + bottom_right * x.second_weight) >> 4;
    return level((((y.first_weight * top) >> 16) + ((y.second_weight * bottom) >> 16) + 2) >> 2);
}

__device__ inline Rgb bilinear(const CropWork& work, const Edges& box, const Pair& x, const Pair& y) {
    const Rgb a = pixel(work, box.left + x.first, box.top + y.first);
    const Rgb b = pixel(work, box.left + x.second, box.top + y.first);
    const Rgb c = pixel(work, box.left + x.first, box.top + y.second);
    const Rgb d = pixel(work, box.left + x.second, box.top + y.second);
    return {blend(a.red, b.red, c.red, d.red, x, y), blend(a.green, b.green, c.green, d.green, x, y),
            blend(a.blue, b.blue, c.blue, d.blue, x, y)};
}

// INTER_AREA by whole numbers along both axes: the mean, in integers.
__device__ inline Rgb block_mean(const CropWork& work, const Edges& block) {
    Rgb sum = {0, 0, 0};
    for (int y = block.top; y < block.bottom; y++)
        for (int x = block.left; x < block.right; x++) {
            const Rgb one = pixel(work, x, y);
            sum = {sum.red + one.red, sum.green + one.green, sum.blue + one.blue};
        }
    const int wide = block.right - block.left, high = block.bottom - block.top;
    if (wide == 2 && high == 2) return {(sum.red + 2) >> 2, (sum.green + 2) >> 2, (sum.blue + 2) >> 2};
    const float scale = 1.f / (float)(wide * high);
    return {__float2int_rn(sum.red * scale), __float2int_rn(sum.green * scale), __float2int_rn(sum.blue * scale)};
}

// Result pixel `index` covers index * source / target to (index + 1) * source / target; less than 1/1000 pixel is
// nothing.
__device__ inline Span span_of(int index, int source, int target) {
    const int start = index * source, stop = start + source;  // in parts of 1/target pixel
    int end = stop / target;
    end = end < source ? end : source - 1;
    int begin = (start + target - 1) / target;
    begin = begin < end ? begin : end;
    const int before = begin * target - start;
    int after = stop - end * target;
    after = after < target ? after : target;
    const float size = (float)source;
    return {begin, end, 1000 * before > target ? (float)before / size : 0.f, (float)target / size,
            1000 * after > target ? (float)after / size : 0.f};
}

__device__ inline void add(float sum[3], const Rgb& one, float weight) {
    sum[0] += one.red * weight;
    sum[1] += one.green * weight;
    sum[2] += one.blue * weight;
}

__device__ inline void add_row(float sum[3], const CropWork& work, int left, int y, const Span& x, float weight) {
    float row[3] = {0.f, 0.f, 0.f};
    if (x.before > 0.f) add(row, pixel(work, left + x.begin - 1, y), x.before);
    for (int at = x.begin; at < x.end; at++) add(row, pixel(work, left + at, y), x.whole);
    if (x.after > 0.f) add(row, pixel(work, left + x.end, y), x.after);
    for (int one = 0; one < 3; one++) sum[one] += row[one] * weight;
}

// INTER_AREA otherwise: the mean weighted by what is covered, in float, summed in OpenCV's order.
__device__ inline Rgb area_mean(const CropWork& work, const Edges& box, const Span& x, const Span& y) {
    float sum[3] = {0.f, 0.f, 0.f};
    if (y.before > 0.f) add_row(sum, work, box.left, box.top + y.begin - 1, x, y.before);
    for (int at = y.begin; at < y.end; at++) add_row(sum, work, box.left, box.top + at, x, y.whole);
    if (y.after > 0.f) add_row(sum, work, box.left, box.top + y.end, x, y.after);
    return {level(__float2int_rn(sum[0])), level(__float2int_rn(sum[1])), level(__float2int_rn(sum[2]))};
}

__device__ inline Rgb resized(const CropWork& work, const Edges& box, int x, int y) {
    const int wide = box.right - box.left, high = box.bottom - box.top;
    const bool shrinks = (long long)wide * high > (long long)work.width * work.height;
    if (!shrinks)
        return bilinear(work, box, linear_pair(x, wide, work.width, true), linear_pair(y, high, work.height, false));
    if (wide < work.width || high < work.height)
        return bilinear(work, box, area_pair(x, wide, work.width, true), area_pair(y, high, work.height, false));
    if (wide % work.width || high % work.height)
        return area_mean(work, box, span_of(x, wide, work.width), span_of(y, high, work.height));
    const int step_x = wide / work.width, step_y = high / work.height;
    const int left = box.left + x * step_x, top = box.top + y * step_y;
    return block_mean(work, {left, top, left + step_x, top + step_y});
}

extern "C" __global__ void crops(const CropWork work) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    const int crop = blockIdx.z;
    if (x >= work.width || y >= work.height) return;
    const Rgb found = resized(work, work.edges[crop], x, y);
    unsigned char* at = work.out + (((long long)crop * work.height + y) * work.width + x) * 3;
    at[0] = (unsigned char)found.red;
    at[1] = (unsigned char)found.green;
    at[2] = (unsigned char)found.blue;
}
