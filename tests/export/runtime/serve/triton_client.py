"""Run by a Python that has tritonclient: everything that it asks a server, compared with known logits."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

url, folder = sys.argv[1:]
images, logits = np.load(folder + "/images.npy"), np.load(folder + "/logits.npy")
names = Path(folder, "names.txt").read_text(encoding="utf-8").split("\n")
client = triton.InferenceServerClient(url)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("tiny")
assert "classification" in client.get_server_metadata()["extensions"]
found = client.get_model_metadata("tiny")
assert found["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8, 3]}], found
assert client.get_model_config("tiny")["input"][0]["dims"] == [8, 8, 3]
asked = 0
for count in (1, 3, len(images)):
    for sent_binary in (True, False):
        source = triton.InferInput("image", [count, 8, 8, 3], "UINT8")
        source.set_data_from_numpy(images[:count], binary_data=sent_binary)
        for outputs in (None, True, False):
            wanted = None if outputs is None else [triton.InferRequestedOutput("logits", binary_data=outputs)]
            for packed in (None, "gzip", "deflate"):
                answer = client.infer(
                    "tiny", [source], model_version="3", outputs=wanted, request_id="id-1",
                    request_compression_algorithm=packed, response_compression_algorithm=packed,
                )  # fmt: skip
                assert np.allclose(answer.as_numpy("logits"), logits[:count], rtol=1e-5, atol=1e-6)
                assert answer.get_response()["id"] == "id-1"
                asked += 1
        for binary in (True, False):
            wanted = [triton.InferRequestedOutput("logits", binary_data=binary, class_count=2)]
            rows = client.infer("tiny", [source], outputs=wanted).as_numpy("logits")
            assert rows.shape == (count, 2)
            for row, expected in zip(rows, logits[:count], strict=True):
                texts = [text.decode() if isinstance(text, bytes) else text for text in row]
                order = np.argsort(-expected)[:2]
                assert [text.split(":", 2)[1:] for text in texts] == [[str(i), names[i]] for i in order], (
                    texts
                )
                asked += 1
futures = [client.async_infer("tiny", [source]) for _ in range(8)]
assert all(one.get_result().as_numpy("logits").shape == (len(images), 5) for one in futures)
for bad in ({"model_name": "other"}, {"model_name": "tiny", "model_version": "9"}):
    try:
        client.infer(inputs=[source], **bad)
    except InferenceServerException as error:
        assert "the model here is tiny" in str(error), error
    else:
        raise AssertionError(bad)
print(asked)
