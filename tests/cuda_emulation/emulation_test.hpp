// Common code of the tests of the emulation: a fresh device per test, buffers, launches.
#pragma once

#include "emulated_device.hpp"

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

class Emulation : public testing::Test {
protected:
    void SetUp() override {
        unset();
        cudaDeviceReset();
        ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    }
    void TearDown() override {
        cudaDeviceReset();
        unset();
    }

    template <class T>
    T* buffer(std::size_t count) {
        T* data = nullptr;
        EXPECT_EQ(cudaMalloc(&data, count * sizeof(T)), cudaSuccess);
        return data;
    }
    template <class T>
    T* buffer(const std::vector<T>& values) {
        T* data = buffer<T>(values.size());
        EXPECT_EQ(cudaMemcpyAsync(data, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice, stream_),
                  cudaSuccess);
        return data;
    }
    template <class T>
    std::vector<T> read(const T* data, std::size_t count) {
        std::vector<T> values(count);
        EXPECT_EQ(cudaMemcpyAsync(values.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost, stream_),
                  cudaSuccess);
        return values;
    }

    struct Shape {
        dim3 grid, block;
        std::size_t shared = 0;
        unsigned cluster = 1;
        bool cooperative = false;
    };
    template <class... P, class... A>
    cudaError_t launch(Shape shape, void (*kernel)(P...), A... arguments) {
        cudaLaunchAttribute attributes[2] = {};
        cudaLaunchConfig_t config;
        config.gridDim = shape.grid;
        config.blockDim = shape.block;
        config.dynamicSmemBytes = shape.shared;
        config.stream = stream_;
        config.attrs = attributes;
        if (shape.cluster > 1) {
            attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
            attributes[config.numAttrs++].val.clusterDim = {shape.cluster, 1, 1};
        }
        if (shape.cooperative) {
            attributes[config.numAttrs].id = cudaLaunchAttributeCooperative;
            attributes[config.numAttrs++].val.cooperative = 1;
        }
        return cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...);
    }

    // Runs the queued work. Its report must contain each of `words`.
    void expect_fault(cudaError_t error, std::vector<std::string> words) {
        testing::internal::CaptureStderr();
        EXPECT_EQ(cudaStreamSynchronize(stream_), error);
        const std::string report = testing::internal::GetCapturedStderr();
        for (const std::string& word : words) EXPECT_NE(report.find(word), std::string::npos) << report;
        float* data;
        EXPECT_EQ(cudaMalloc(&data, 4), error) << "the error must stay";
    }

    static void set(const char* name, const char* value) {
        setenv((std::string("SPIKEFLOSS_EMULATION_") + name).c_str(), value, 1);
    }
    static void unset() {
        for (const char* name :
             {"SEED", "MULTIPROCESSORS", "MEMORY", "DEVICES", "CAPABILITY", "PLACE", "HIDE", "PREEMPT"})
            unsetenv((std::string("SPIKEFLOSS_EMULATION_") + name).c_str());
    }

    cudaStream_t stream_ = nullptr;
};
