"""The engine in ONNX Runtime, for Triton's Python backend; the packages numpy and onnxruntime are needed there.

It lies as `1/model.py` in a model repository, with `model.onnx` beside it.
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """What Triton's Python backend calls."""

    def initialize(self, args: Dict[str, str]) -> None:
        """Load the engine; the configuration says its threads."""
        config = json.loads(args["model_config"])
        if np.__version__.split(".")[0] != "1" and "allow_numpy_2" not in config.get("parameters", {}):
            # Triton 2.51 answers with no bytes under numpy 2, and labels of that crash it.
            raise pb_utils.TritonModelException(
                f"numpy {np.__version__} is here: pip install 'numpy<2', or, if this Triton was made for numpy 2, add "
                'parameters { key: "allow_numpy_2" value { string_value: "1" } } to config.pbtxt'
            )
        options = onnxruntime.SessionOptions()
        threads = config.get("parameters", {}).get("intra_op_thread_count", {}).get("string_value")
        if threads:
            options.intra_op_num_threads = int(threads)
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session: Any = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input = config["input"][0]["name"]
        self.output = config["output"][0]["name"]

    def execute(self, requests: List[Any]) -> List[Any]:
        """Answer each request with the logits of its batch."""
        responses = []
        for request in requests:
            images = pb_utils.get_input_tensor_by_name(request, self.input).as_numpy()
            logits = self.session.run([self.output], {self.input: images})[0]
            tensor = pb_utils.Tensor(self.output, np.ascontiguousarray(logits))
            responses.append(pb_utils.InferenceResponse(output_tensors=[tensor]))
        return responses

    def finalize(self) -> None:
        """Release the engine."""
        self.session = None
