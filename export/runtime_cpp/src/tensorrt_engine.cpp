// TensorRT and TensorRT-RTX, which have the same interface; which of them is linked says FIGKD_TENSORRT.
#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <type_traits>

#include "engines.hpp"
#include "error.hpp"

namespace figkd {
namespace {

using nvinfer1::DataType;

// Keeps the last error; prints nothing.
class Log final : public nvinfer1::ILogger {
public:
    void log(Severity severity, const char* message) noexcept override {
        if (severity == Severity::kERROR || severity == Severity::kINTERNAL_ERROR) {
            const std::lock_guard<std::mutex> lock(mutex_);
            std::snprintf(last_, sizeof last_, "%s", message);
        }
    }
    std::string last() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return last_[0] != '\0' ? last_ : "it does not say why";
    }

private:
    std::mutex mutex_;
    char last_[300] = "";
};

void require(cudaError_t status, const char* what) {
    if (status != cudaSuccess) {
        throw Error(Code::cannot_run, std::string(what) + ": " + cudaGetErrorString(status));
    }
}

[[noreturn]] void fail(const std::string& what) { throw Error(Code::cannot_run, what, "build the engine again for this machine"); }

// Memory of the GPU.
class Buffer {
public:
    explicit Buffer(std::size_t bytes) { require(cudaMalloc(&data_, bytes), "the GPU has no memory left"); }
    ~Buffer() { cudaFree(data_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    void* get() const { return data_; }

private:
    void* data_ = nullptr;
};

class Stream {
public:
    Stream() { require(cudaStreamCreate(&stream_), "the GPU cannot be used"); }
    ~Stream() { cudaStreamDestroy(stream_); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    cudaStream_t get() const { return stream_; }

private:
    cudaStream_t stream_ = nullptr;
};

void check_gpu(const Needs& needs) {
    int count = 0;
    require(cudaGetDeviceCount(&count), "there is no GPU to use");
    int major = 0;
    int minor = 0;
    require(cudaSetDevice(0), "the GPU cannot be used");
    require(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "the GPU cannot be used");
    require(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0), "the GPU cannot be used");
    const std::string here = "SM" + std::to_string(major) + std::to_string(minor);
    const auto& wanted = needs.compute_capability;
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), here) == wanted.end()) {
        refuse_machine("GPUs of " + wanted.front(), "this one is " + here);
    }
}

// IEEE 754's 16 bits as 32.
float widened(std::uint16_t half) {
    const int exponent = half >> 10 & 31;
    const int fraction = half & 1023;
    const float size = exponent == 0    ? std::ldexp(static_cast<float>(fraction), -24)
                       : exponent == 31 ? (fraction != 0 ? NAN : INFINITY)
                                        : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
    return (half & 0x8000) != 0 ? -size : size;
}

// A batch size that the engine was built for, and the profile that holds it.
struct Profile {
    int index;
    std::size_t batch;
};

class TensorRTEngine final : public Engine {
public:
    explicit TensorRTEngine(const Bytes& data) : runtime_(nvinfer1::createInferRuntime(log_)) {
        if (!runtime_) {
            fail(std::string(FIGKD_TENSORRT) + " cannot be used: " + log_.last());
        }
        engine_.reset(runtime_->deserializeCudaEngine(data.data(), data.size()));
        if (!engine_) {
            fail(std::string(FIGKD_TENSORRT) + " cannot load the engine: " + log_.last());
        }
        context_.reset(engine_->createExecutionContext());
        if (!context_) {
            fail(std::string(FIGKD_TENSORRT) + " cannot run the engine: " + log_.last());
        }
        read_tensors();
        read_profiles();
        const std::size_t most = profiles_.back().batch;
        input_ = std::make_unique<Buffer>(most * bytes_);
        output_ = std::make_unique<Buffer>(most * classes_ * logit_bytes_);
        if (!context_->setTensorAddress(input_name_.c_str(), input_->get()) ||
            !context_->setTensorAddress(output_name_.c_str(), output_->get())) {
            fail(std::string(FIGKD_TENSORRT) + " cannot run the engine: " + log_.last());
        }
    }

    Dtype dtype() const override { return dtype_; }
    const std::vector<std::size_t>& shape() const override { return shape_; }
    std::size_t classes() const override { return classes_; }

    void run(const unsigned char* inputs, std::size_t count, float* logits) override {
        for (std::size_t done = 0; done < count;) {
            const std::size_t now = std::min(profiles_.back().batch, count - done);
            const auto profile = std::find_if(
                profiles_.begin(), profiles_.end(), [&](const Profile& each) { return each.batch >= now; });
            run_batch(inputs + done * bytes_, now, *profile, logits + done * classes_);
            done += now;
        }
    }

private:
    void read_tensors() {
        if (engine_->getNbIOTensors() != 2) {
            fail("the engine has other than one input and one output");
        }
        for (int at = 0; at < 2; ++at) {
            const char* name = engine_->getIOTensorName(at);
            const bool input = engine_->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
            (input ? input_name_ : output_name_) = name;
        }
        const auto image = engine_->getTensorShape(input_name_.c_str());
        const auto logits = engine_->getTensorShape(output_name_.c_str());
        const auto kind = engine_->getTensorDataType(input_name_.c_str());
        const auto answer = engine_->getTensorDataType(output_name_.c_str());
        if ((kind != DataType::kUINT8 && kind != DataType::kFLOAT) || image.nbDims != 4 ||
            std::any_of(image.d + 1, image.d + 4, [](auto size) { return size < 1; })) {
            fail("the engine's input is not a batch of images of uint8 or float32");
        }
        if ((answer != DataType::kFLOAT && answer != DataType::kHALF) || logits.nbDims != 2 || logits.d[1] < 1) {
            fail("the engine's output is not logits [N, classes] of float32 or float16");
        }
        dtype_ = kind == DataType::kUINT8 ? Dtype::uint8 : Dtype::float32;
        bytes_ = size_of(dtype_);
        for (int at = 1; at < 4; ++at) {
            shape_.push_back(static_cast<std::size_t>(image.d[at]));
            bytes_ *= shape_.back();
        }
        dims_ = image;
        classes_ = static_cast<std::size_t>(logits.d[1]);
        logit_bytes_ = answer == DataType::kFLOAT ? 4 : 2;
    }

    // A fixed batch, or the largest of each profile.
    void read_profiles() {
        if (dims_.d[0] > 0) {
            profiles_ = {{0, static_cast<std::size_t>(dims_.d[0])}};
            return;
        }
        for (int index = 0; index < engine_->getNbOptimizationProfiles(); ++index) {
            const auto most =
                engine_->getProfileShape(input_name_.c_str(), index, nvinfer1::OptProfileSelector::kMAX);
            if (most.nbDims == 4 && most.d[0] > 0) {
                profiles_.push_back({index, static_cast<std::size_t>(most.d[0])});
            }
        }
        if (profiles_.empty()) {
            fail("the engine was built for no batch size");
        }
        std::sort(profiles_.begin(), profiles_.end(), [](const Profile& one, const Profile& two) {
            return one.batch < two.batch;
        });
    }

    void choose(const Profile& profile) {
        if (chosen_ == profile.index) {
            return;
        }
        auto dims = dims_;
        dims.d[0] = static_cast<std::remove_reference_t<decltype(dims.d[0])>>(profile.batch);
        if (!context_->setOptimizationProfileAsync(profile.index, stream_.get()) ||
            !context_->setInputShape(input_name_.c_str(), dims)) {
            fail(std::string(FIGKD_TENSORRT) + " failed: " + log_.last());
        }
        chosen_ = profile.index;
    }

    // The profile's whole batch is run; inputs beyond the `count` that were given are copies of the last.
    void run_batch(const unsigned char* inputs, std::size_t count, const Profile& profile, float* logits) {
        choose(profile);
        Bytes padded;
        if (count < profile.batch) {
            padded.resize(profile.batch * bytes_);
            for (std::size_t at = 0; at < profile.batch; ++at) {
                std::memcpy(padded.data() + at * bytes_, inputs + std::min(at, count - 1) * bytes_, bytes_);
            }
            inputs = padded.data();
        }
        const std::size_t numbers = count * classes_;
        Bytes answer(numbers * logit_bytes_);
        require(
            cudaMemcpyAsync(
                input_->get(), inputs, profile.batch * bytes_, cudaMemcpyHostToDevice, stream_.get()),
            "the input cannot be copied to the GPU");
        if (!context_->enqueueV3(stream_.get())) {
            fail(std::string(FIGKD_TENSORRT) + " failed: " + log_.last());
        }
        require(
            cudaMemcpyAsync(answer.data(), output_->get(), answer.size(), cudaMemcpyDeviceToHost, stream_.get()),
            "the answer cannot be copied from the GPU");
        require(cudaStreamSynchronize(stream_.get()), "the GPU failed");
        for (std::size_t at = 0; at < numbers; ++at) {
            if (logit_bytes_ == 4) {
                std::memcpy(logits + at, answer.data() + at * 4, 4);
            } else {
                std::uint16_t half = 0;
                std::memcpy(&half, answer.data() + at * 2, 2);
                logits[at] = widened(half);
            }
        }
    }

    Log log_;  // outlives what writes to it
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    std::unique_ptr<nvinfer1::IExecutionContext> context_;
    Stream stream_;
    std::string input_name_;
    std::string output_name_;
    nvinfer1::Dims dims_{};
    Dtype dtype_ = Dtype::uint8;
    std::vector<std::size_t> shape_;
    std::size_t bytes_ = 0;  // of one input
    std::size_t classes_ = 0;
    std::size_t logit_bytes_ = 4;
    std::vector<Profile> profiles_;  // the smallest batch first
    int chosen_ = -1;
    std::unique_ptr<Buffer> input_;
    std::unique_ptr<Buffer> output_;
};

// `10.3.0` of a number of the library; before TensorRT 10 it was made in another way.
std::string spelled(int version) {
    const int major = version >= 100000 ? version / 10000 : version / 1000;
    const int minor = version >= 100000 ? version / 100 % 100 : version / 100 % 10;
    return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(version % 100);
}

// Of `10.3.0.26`, the build does not count: the library does not tell its own.
void check_release(const Needs& needs) {
    const auto wanted = needs.versions.find("tensorrt");
    const std::string here = spelled(getInferLibVersion());
    if (std::string(FIGKD_TENSORRT) == "tensorrt" && wanted != needs.versions.end() && wanted->second != here &&
        wanted->second.compare(0, here.size() + 1, here + ".") != 0) {
        refuse_machine("tensorrt " + wanted->second, "here is " + here);
    }
}

}  // namespace

void require_tensorrt(const Needs& needs) {
    check_release(needs);
    check_gpu(needs);
}

std::unique_ptr<Engine> load_tensorrt(const Bytes& data) { return std::make_unique<TensorRTEngine>(data); }

}  // namespace figkd
