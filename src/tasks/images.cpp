// images: classify pictures from IDX files, read row by row (T = rows, M = columns) or pixel by pixel (T = rows
// columns, M = 1). x = pixel / 255; O = largest label + 1; softmax; mask = 1 on the last max(1, T/4) steps, when most
// of the picture has been seen.
//
// Which picture a sequence is depends only on its global position p = step * batch + j:
//   train, floss, diagnose   of the n training pictures, element p % n of permutation (seed, purpose, p / n)
//   test                     picture p % n of the t10k file, in the order of the file
//   validation               the same, of the last `validation` pictures of the training file, which are not among the
//   n
#include "core/error.hpp"
#include "tasks/factories.hpp"
#include "tasks/idx.hpp"
#include "tasks/permutation.hpp"
#include "tasks/sequence_random.hpp"

#include <algorithm>

namespace spikefloss {

namespace {

struct Pictures {
    IdxArray images, labels;  // [count, rows, columns], [count]
    Index count() const { return images.shape[0]; }
};

Pictures read_pictures(const std::string& folder, const std::string& prefix) {
    Pictures result{read_idx(folder, prefix + "-images-idx3-ubyte", 3),
                    read_idx(folder, prefix + "-labels-idx1-ubyte", 1)};
    require(result.labels.shape[0] == result.count(), Exit::bad_file,
            fmt::format("{}: expected {} labels, one for each picture of {}, found {}", result.labels.path,
                        result.count(), result.images.path, result.labels.shape[0]),
            idx_suggestion);
    return result;
}

class Images final : public Task {
public:
    explicit Images(const TaskSettings& settings)
        : seed_(settings.seed),
          train_(read_pictures(settings.images, "train")),
          test_(read_pictures(settings.images, "t10k")),
          training_pictures_(train_.count() - settings.validation) {
        const auto& a = train_.images.shape;
        const auto& b = test_.images.shape;
        require(a[1] == b[1] && a[2] == b[2], Exit::bad_file,
                fmt::format("{}: expected pictures of {} x {} as in {}, found {} x {}", test_.images.path, a[1], a[2],
                            train_.images.path, b[1], b[2]),
                idx_suggestion);
        require(training_pictures_ >= 1, Exit::usage,
                fmt::format("images: task.validation = {} leaves none of the {} training pictures", settings.validation,
                            train_.count()),
                "hold back fewer pictures");
        const bool rows = settings.order == PictureOrder::rows;
        steps_ = rows ? a[1] : a[1] * a[2];
        inputs_ = rows ? a[2] : 1;
        const auto largest = [](const Pictures& p) {
            return *std::max_element(p.labels.data.begin(), p.labels.data.end());
        };
        outputs_ = std::max(largest(train_), largest(test_)) + 1;
    }

    Index steps() const override { return steps_; }
    Index inputs() const override { return inputs_; }
    Index outputs() const override { return outputs_; }
    LossKind loss() const override { return LossKind::cross_entropy_mean; }
    Index dataset_size(Purpose purpose) const override {
        if (purpose == Purpose::test) return test_.count();
        return purpose == Purpose::validation ? train_.count() - training_pictures_ : training_pictures_;
    }

    std::string data_digest() const override {
        std::uint64_t digest = 0xCBF29CE484222325u;
        for (const IdxArray* array : {&train_.images, &train_.labels, &test_.images, &test_.labels})
            digest = digest_of(*array, digest);
        return fmt::format("{:016x}", digest);
    }

    Batch sample(Purpose purpose, std::int64_t step, Index batch, BlockRange sequences) const override {
        const Index T = steps_, b = sequences.size(), M = inputs_;
        const Pictures& pictures = purpose == Purpose::test ? test_ : train_;
        Batch result;
        result.steps = T, result.sequences = b, result.inputs = M, result.outputs = outputs_, result.loss = loss();
        result.x.resize(static_cast<std::size_t>(T * b * M));
        result.label.resize(static_cast<std::size_t>(b));
        result.mask = mask_from(T - std::max<Index>(1, T / 4), T, b);
        for (Index j = 0; j < b; ++j) {
            const Index picture = picture_at(purpose, step * batch + sequences.begin + j);
            result.label[j] = pictures.labels.data[picture];
            const std::uint8_t* pixel = &pictures.images.data[picture * T * M];
            for (Index t = 0; t < T; ++t)
                for (Index m = 0; m < M; ++m) result.x[(t * b + j) * M + m] = static_cast<float>(*pixel++) / 255.0f;
        }
        return result;
    }

private:
    Index picture_at(Purpose purpose, Index position) const {
        const Index size = dataset_size(purpose);
        if (purpose == Purpose::test) return position % size;
        if (purpose == Purpose::validation) return training_pictures_ + position % size;
        return permuted(seed_, purpose, static_cast<std::uint32_t>(position / size), size, position % size);
    }

    std::uint64_t seed_;
    Pictures train_, test_;
    Index training_pictures_, steps_, inputs_, outputs_;
};

}  // namespace

Index images_steps(const TaskSettings& settings) {
    require(!settings.images.empty(), Exit::usage,
            "task.images is empty, but task.name = \"images\" reads pictures from there",
            "name the folder of the four IDX files");
    return settings.order == PictureOrder::rows ? 28 : 28 * 28;
}

std::unique_ptr<Task> make_images(const TaskSettings& settings) { return std::make_unique<Images>(settings); }

}  // namespace spikefloss
