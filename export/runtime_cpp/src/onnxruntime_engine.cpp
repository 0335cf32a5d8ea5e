#define ORT_API_MANUAL_INIT  // the library may be older than the headers: that is looked at before anything is called
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include "engines.hpp"
#include "error.hpp"

namespace figkd {
namespace {

// Quantises the bias of FP16 Q/DQ convolutions with an FP16 scale that underflows: outputs become garbage.
constexpr const char* kDisabledOptimizers = "WeightBiasQuantization";
// Images a call where the engine takes any number; as in Python, since a sum's order may depend on it.
constexpr std::size_t kFreeBatch = 32;

[[noreturn]] void fail(const std::string& what, const char* reason, const std::string& fix = "") {
    const std::string text(reason);
    throw Error(Code::cannot_run, what + ": " + text.substr(0, text.find('\n')), fix);
}

[[noreturn]] void refuse_tensor(const char* name, const std::string& needed) {
    throw Error(Code::cannot_run, std::string("the engine's ") + name + " is not " + needed, "build it again");
}

void init_library() {
    static std::once_flag once;
    std::call_once(once, [] {
        const OrtApi* api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
        if (api == nullptr) {
            throw Error(
                Code::cannot_run,
                std::string("ONNX Runtime ") + OrtGetApiBase()->GetVersionString() +
                    " is older than the headers that this library was compiled with, 1." +
                    std::to_string(ORT_API_VERSION),
                "compile it with the headers of the library that is installed");
        }
        Ort::InitApi(api);
    });
}

Ort::SessionOptions options_of(int threads) {
    Ort::SessionOptions options;
    options.SetLogSeverityLevel(ORT_LOGGING_LEVEL_FATAL);
    options.SetInterOpNumThreads(1);
    options.SetIntraOpNumThreads(threads);
    options.AddConfigEntry("session.intra_op.allow_spinning", "1");
    options.AddConfigEntry("session.set_denormal_as_zero", "0");
    options.AddConfigEntry("optimization.disable_specified_optimizers", kDisabledOptimizers);
    return options;
}

class OnnxRuntimeEngine final : public Engine {
public:
    OnnxRuntimeEngine(const Bytes& data, int threads)
        : env_(ORT_LOGGING_LEVEL_FATAL, "figkd"), session_(env_, data.data(), data.size(), options_of(threads)) {
        if (session_.GetInputCount() != 1 || session_.GetOutputCount() < 1) {
            refuse_tensor("input", "one batch of images");
        }
        Ort::AllocatorWithDefaultOptions allocator;
        input_ = session_.GetInputNameAllocated(0, allocator).get();
        output_ = session_.GetOutputNameAllocated(0, allocator).get();
        read_input();
        const Ort::TypeInfo type = session_.GetOutputTypeInfo(0);
        const auto logits = type.GetTensorTypeAndShapeInfo().GetShape();
        if (logits.size() != 2 || logits[1] < 1) {
            refuse_tensor("output", "logits [N, classes]");
        }
        classes_ = static_cast<std::size_t>(logits[1]);
    }

    Dtype dtype() const override { return dtype_; }
    const std::vector<std::size_t>& shape() const override { return shape_; }
    std::size_t classes() const override { return classes_; }

    void run(const unsigned char* inputs, std::size_t count, float* logits) override {
        try {
            const std::size_t most = batch_ > 0 ? batch_ : kFreeBatch;
            for (std::size_t done = 0; done < count; done += most) {
                const std::size_t now = std::min(most, count - done);
                run_batch(inputs + done * bytes_, now, batch_ > 0 ? batch_ : now, logits + done * classes_);
            }
        } catch (const Ort::Exception& error) {
            fail("ONNX Runtime failed", error.what());
        }
    }

private:
    void read_input() {
        const Ort::TypeInfo type = session_.GetInputTypeInfo(0);
        const auto info = type.GetTensorTypeAndShapeInfo();
        const auto kind = info.GetElementType();
        const auto shape = info.GetShape();
        if (kind != ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 && kind != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
            refuse_tensor("input", "of uint8 or float32");
        }
        if (shape.size() != 4 || std::any_of(shape.begin() + 1, shape.end(), [](auto size) { return size < 1; })) {
            refuse_tensor("input", "a batch of images of fixed sizes");
        }
        element_ = kind;
        dtype_ = kind == ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8 ? Dtype::uint8 : Dtype::float32;
        batch_ = shape[0] > 0 ? static_cast<std::size_t>(shape[0]) : 0;
        bytes_ = size_of(dtype_);
        for (auto size = shape.begin() + 1; size != shape.end(); ++size) {
            shape_.push_back(static_cast<std::size_t>(*size));
            bytes_ *= shape_.back();
        }
    }

    // `together` inputs are run; those beyond the `count` that were given are copies of the last.
    void run_batch(const unsigned char* inputs, std::size_t count, std::size_t together, float* logits) {
        if (count < together) {
            padded_.resize(together * bytes_);
            for (std::size_t at = 0; at < together; ++at) {
                std::memcpy(padded_.data() + at * bytes_, inputs + std::min(at, count - 1) * bytes_, bytes_);
            }
            inputs = padded_.data();
        }
        std::vector<std::int64_t> shape = {static_cast<std::int64_t>(together)};
        shape.insert(shape.end(), shape_.begin(), shape_.end());
        const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
        // The interface takes no const pointer; ONNX Runtime writes to no input.
        const auto source = Ort::Value::CreateTensor(
            memory, const_cast<unsigned char*>(inputs), together * bytes_, shape.data(), shape.size(), element_);
        const char* names[] = {input_.c_str(), output_.c_str()};
        const auto found = session_.Run(Ort::RunOptions{nullptr}, names, &source, 1, names + 1, 1);
        const auto info = found[0].GetTensorTypeAndShapeInfo();
        if (info.GetElementCount() != together * classes_) {
            refuse_tensor("output", "logits of every image");
        }
        copy_logits(found[0], info.GetElementType(), count * classes_, logits);
    }

    static void copy_logits(
        const Ort::Value& found, ONNXTensorElementDataType kind, std::size_t count, float* logits) {
        if (kind == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
            std::copy_n(found.GetTensorData<float>(), count, logits);
        } else if (kind == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16) {
            std::transform(
                found.GetTensorData<Ort::Float16_t>(), found.GetTensorData<Ort::Float16_t>() + count, logits,
                [](Ort::Float16_t value) { return value.ToFloat(); });
        } else {
            refuse_tensor("output", "of float32 or float16");
        }
    }

    Ort::Env env_;
    Ort::Session session_;
    std::string input_;
    std::string output_;
    Dtype dtype_ = Dtype::uint8;
    ONNXTensorElementDataType element_ = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    std::vector<std::size_t> shape_;
    std::size_t batch_ = 0;  // 0: any
    std::size_t bytes_ = 0;  // of one input
    std::size_t classes_ = 0;
    Bytes padded_;
};

}  // namespace

void require_onnxruntime(const Needs& needs) {
    check_version(needs, "onnxruntime", OrtGetApiBase()->GetVersionString());
}

std::unique_ptr<Engine> load_onnxruntime(const Bytes& data, int threads) {
    init_library();
    try {
        return std::make_unique<OnnxRuntimeEngine>(data, threads);
    } catch (const Ort::Exception& error) {
        fail("ONNX Runtime cannot load the engine", error.what(), "install a newer ONNX Runtime");
    }
}

}  // namespace figkd
