// One launch for arrays of any sizes, such as all parameters of a network: their elements are cut into pieces of equal
// size, and a block takes a piece at a time. The arrays are arguments of the kernel, so nothing is copied to the
// device.
#pragma once

#include "kernel.cuh"

#include <span>

namespace spikefloss {

// Arrays [rows, cols] with rows `stride` elements apart: UpdateView, Squares.
template <class Array>
struct Pieces {
    static constexpr int most = 32;  // the arguments of a kernel have 4 KB
    Array arrays[most];
    int first[most + 1];  // piece of each array; first[count] is the number of pieces
    int count = 0;

    SPIKEFLOSS_HD int pieces() const { return first[count]; }
    struct Piece {
        const Array& array;
        Index begin, end;  // its elements, row by row
        // Where element e lies.
        __device__ Index place(Index e) const {
            return array.stride == array.cols ? e : e / array.cols * array.stride + e % array.cols;
        }
    };
    // Piece `at`, of `size` elements or fewer.
    __device__ Piece at(int at, int size) const {
        int a = 0;
        while (at >= first[a + 1]) ++a;
        const Index begin = static_cast<Index>(at - first[a]) * size, all = arrays[a].rows * arrays[a].cols;
        return {arrays[a], begin, begin + size < all ? begin + size : all};
    }
};

// Calls work(some) with all arrays that have elements, as many at once as a launch takes.
template <class Array, class Work>
void each_launch(std::span<const Array> all, int size, Work&& work) {
    static_assert(sizeof(Pieces<Array>) <= 3500, "the other arguments of the kernel need room, too");
    Pieces<Array> some;
    some.first[0] = 0;
    const auto take = [&] {
        if (some.count) work(static_cast<const Pieces<Array>&>(some));
        some.count = 0;
    };
    for (const Array& array : all) {
        const Index n = array.rows * array.cols;
        if (n == 0) continue;
        some.arrays[some.count] = array;
        some.first[some.count + 1] = some.first[some.count] + static_cast<int>((n + size - 1) / size);
        if (++some.count == Pieces<Array>::most) take();
    }
    take();
}

}  // namespace spikefloss
