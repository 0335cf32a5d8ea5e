"""An independent tool: latency of an ONNX file in ONNX Runtime, as a person would measure it by hand.

    echo 1000 | python benchmarks/plain_loop.py MODEL.onnx [--threads 1] [--boundary engine|copies]

It imports nothing of this project. For each line of standard input, a number of samples, it prints them as JSON, in ns,
so that whoever compares can take turns and compute what they like. `engine`: input and output bound beforehand.
`copies`: `session.run` with a NumPy array.
"""

import argparse
import json
import sys
import time

import numpy as np
import onnxruntime as ort

TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warmup", type=float, default=0.02)
    parser.add_argument("--boundary", choices=("engine", "copies"), default="engine")
    arguments = parser.parse_args()

    options = ort.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(arguments.model, options, providers=["CPUExecutionProvider"])
    source, target = session.get_inputs()[0], session.get_outputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in source.shape]
    image = np.random.default_rng(0).integers(0, 255, shape).astype(TYPES[source.type])

    if arguments.boundary == "engine":
        logits = session.run([target.name], {source.name: image})[0]
        bound_input = ort.OrtValue.ortvalue_from_numpy(image)
        bound_output = ort.OrtValue.ortvalue_from_numpy(np.empty_like(logits))
        binding = session.io_binding()
        binding.bind_ortvalue_input(source.name, bound_input)
        binding.bind_ortvalue_output(target.name, bound_output)

        def run():
            session.run_with_iobinding(binding)
    else:

        def run():
            session.run([target.name], {source.name: image})

    for line in sys.stdin:
        until = time.perf_counter() + arguments.warmup
        while time.perf_counter() < until:
            run()
        samples = []
        for _ in range(int(line)):
            start = time.perf_counter_ns()
            run()
            samples.append(time.perf_counter_ns() - start)
        print(json.dumps(samples), flush=True)


if __name__ == "__main__":
    main()
