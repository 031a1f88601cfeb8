// The kernel of reid_edge/engines/cuda_frames/crops.cu for the host: CUDA's few words, and its threads as loops.
#include <cmath>

struct Index {
    int x, y, z;
};

static Index blockIdx, threadIdx, blockDim;

#define __global__
#define __device__ static
#define __float2int_rn(value) ((int)lrintf(value))

#include "crops.cu"

extern "C" int size_of_work() { return (int)sizeof(CropWork); }

extern "C" void launch(const CropWork* work, const int grid[3], const int block[3]) {
    blockDim = {block[0], block[1], block[2]};
    for (blockIdx.z = 0; blockIdx.z < grid[2]; blockIdx.z++)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; blockIdx.x++)
                for (threadIdx.y = 0; threadIdx.y < block[1]; threadIdx.y++)
                    for (threadIdx.x = 0; threadIdx.x < block[0]; threadIdx.x++) crops(*work);
}
