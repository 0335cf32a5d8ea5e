"""Run by the Python that has tritonclient: golden inputs to a server by HTTP and gRPC; prints what it answers as JSON.

triton_client.py HTTP GRPC MODEL INPUTS.npy
"""

import importlib
import json
import sys

import numpy as np


def main(http, grpc, model, inputs):
    """Ask for each image's logits, then for its two best labels."""
    views = np.load(inputs)
    found = {}
    for kind, url in (("http", http), ("grpc", grpc)):
        module = importlib.import_module("tritonclient." + kind)
        client = module.InferenceServerClient(url)
        rows = []
        for view in views:
            image = module.InferInput("image", [1, *view.shape], "UINT8")
            image.set_data_from_numpy(view[None])
            logits = client.infer(model, [image]).as_numpy("logits")
            wanted = [module.InferRequestedOutput("logits", class_count=2)]
            labels = client.infer(model, [image], outputs=wanted).as_numpy("logits")
            rows.append(
                {
                    "logits": [float(value) for value in logits.ravel()],
                    "labels": [text.decode().split(":")[2] for text in labels.ravel()],
                }
            )
        found[kind] = rows
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
