"""What a request asks for: an answer at once, or work for the engine. Pure."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Tuple, Union
from urllib.parse import parse_qsl, unquote

from ..bundle.errors import CannotRun, ImageRefused
from .bodies import decoded, is_encoded
from .http import HttpError, Request, Response
from .tensors import DATATYPES, LENGTH_HEADER, inference_response, parse_inference, to_json

if TYPE_CHECKING:
    from ..arrays import Array
    from .served import Served
    from .tensors import Signature

EXTENSIONS = ("classification", "binary_tensor_data", "model_configuration")
_SMALL = 64 << 10
_SHORT = 200
MOST_PIXELS = 1 << 25
"""Of a photo as it is decoded; a JPEG is decoded at a smaller scale where that is enough."""
_CONFIG_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32", "float16": "TYPE_FP16"}

Render = Callable[["Array"], Response]
Prepare = Callable[[], Tuple["Array", Render]]


@dataclass(frozen=True)
class Work:
    """What the engine is to do."""

    endpoint: str
    prepare: Prepare
    """The engine's input, and what makes an answer of its logits. Raises HttpError."""
    is_quick: bool
    """Whether preparing takes less time than to hand it to another thread."""


@dataclass(frozen=True)
class State:
    """What serves now."""

    served: Optional[Served]
    is_ready: bool
    metrics: Callable[[], str]
    most_body: int


def endpoint_of(path: str) -> str:
    """What a path is counted as."""
    if path.startswith("/v2"):
        if path.endswith("/infer"):
            return "infer"
        return "health" if path.endswith(("/live", "/ready")) else "metadata"
    return {"/classify": "classify", "/metrics": "metrics"}.get(path, "other")


def route(request: Request, state: State) -> Union[Response, Work]:
    """Answer a request, or say what the engine has to do for it.

    Raises:
        HttpError: there is no such thing, or the request is wrong.
    """
    path = request.head.path
    parts = _split(path) if len(path) <= _SHORT else _parts(path)
    if parts == ("classify",):
        _method(request, "POST")
        return _classify(request, state)
    if parts == ("metrics",):
        _method(request, "GET")
        from .metrics import TYPE

        return Response(200, state.metrics().encode("utf-8"), TYPE)
    if parts == ("",):
        _method(request, "GET")
        return Response(200, to_json({"endpoints": ["/v2", "/classify", "/metrics"], **_facts(state)}))
    if parts[0] != "v2":
        raise _not_found()
    return _protocol(request, parts[1:], state)


def _parts(path: str) -> Tuple[str, ...]:
    return tuple(unquote(part) for part in path.split("/")[1:])


_split = functools.lru_cache(maxsize=256)(_parts)


def _protocol(request: Request, parts: Tuple[str, ...], state: State) -> Union[Response, Work]:
    if parts in ((), ("",)):
        _method(request, "GET")
        found = {"name": "figkd-pipeline", "version": "1", "extensions": list(EXTENSIONS)}
        return Response(200, to_json(found))
    if parts == ("health", "live"):
        _method(request, "GET")
        return Response(200)
    if parts == ("health", "ready"):
        _method(request, "GET")
        return Response(200 if state.is_ready else 503)
    if parts[0] != "models" or len(parts) < 2:
        raise _not_found()
    served, rest = _model(parts[1:], state)
    if rest == ("infer",):
        _method(request, "POST")
        return _infer(request, served, state.most_body)
    if rest not in ((), ("ready",), ("config",)):
        raise _not_found()
    _method(request, "GET")
    if rest == ("ready",):
        return Response(200 if state.is_ready else 503)
    describe = _configuration if rest else _metadata
    return Response(200, to_json(describe(served.signature, served.release)))


def _model(parts: Tuple[str, ...], state: State) -> Tuple[Served, Tuple[str, ...]]:
    served = _served(state)
    name, rest = parts[0], parts[1:]
    version = served.signature.version
    if rest[:1] == ("versions",) and len(rest) >= 2:
        version, rest = rest[1], rest[2:]
    if (name, version) != (served.signature.name, served.signature.version):
        raise HttpError(
            404,
            "the model here is %s, version %s" % (served.signature.name, served.signature.version),
            "not_found",
        )
    return served, rest


def _served(state: State) -> Served:
    if state.served is None:
        raise HttpError(503, "no release serves", "unavailable", headers=(("Retry-After", "1"),))
    return state.served


def _facts(state: State) -> Dict[str, Any]:
    return state.served.facts() if state.served else {"release": None}


def _metadata(model: Signature, release: str) -> Dict[str, Any]:
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": model.platform,
        "inputs": [{"name": model.input, "datatype": DATATYPES[model.dtype], "shape": [-1, *model.shape]}],
        "outputs": [{"name": model.output, "datatype": "FP32", "shape": [-1, len(model.classes)]}],
        "parameters": {"release": release},
    }


def _configuration(model: Signature, release: str) -> Dict[str, Any]:
    return {
        "name": model.name,
        "platform": model.platform,
        "max_batch_size": model.most_images,
        "input": [{"name": model.input, "data_type": _CONFIG_TYPES[model.dtype], "dims": list(model.shape)}],
        "output": [{"name": model.output, "data_type": "TYPE_FP32", "dims": [len(model.classes)]}],
        "parameters": {"release": {"string_value": release}},
    }


def _infer(request: Request, served: Served, most_body: int) -> Work:
    headers = request.head.headers
    _media(headers.get("content-type", ""), ("application/json", "application/octet-stream"))
    encoding = headers.get("content-encoding", "")
    length = headers.get(LENGTH_HEADER.lower())
    if length is not None and not (length.isascii() and length.isdigit() and len(length) <= 15):
        raise HttpError(400, "%s is no number" % LENGTH_HEADER)
    model, split = served.signature, None if length is None else int(length)

    def prepare() -> Tuple[Array, Render]:
        asked = parse_inference(decoded(request.body, encoding, most_body), split, model)
        return asked.batch, lambda logits: inference_response(asked, logits, model)

    json_bytes = split if split is not None else len(request.body)
    is_quick = not is_encoded(encoding) and json_bytes <= _SMALL
    return Work("infer", prepare, is_quick)


def _classify(request: Request, state: State) -> Work:
    served, headers = _served(state), request.head.headers
    _media(headers.get("content-type", ""), ("image/", "application/octet-stream"))
    encoding = headers.get("content-encoding", "")
    top = _top(request.head.query, len(served.model.classes))
    model = served.model

    def prepare() -> Tuple[Array, Render]:
        body = decoded(request.body, encoding, state.most_body)
        try:
            view = model.preprocessing.view(bytes(body), MOST_PIXELS)
        except ImageRefused as error:
            raise HttpError(400, _sentence(error), "bad_image") from None
        except CannotRun as error:
            raise HttpError(501, _sentence(error), "no_decoder") from None
        return model.preprocessing.batch([view]), render

    def render(logits: Array) -> Response:
        labels = [vars(label) for label in model.labels(logits[0], top)]
        return Response(200, to_json({**served.facts(), "labels": labels}))

    return Work("classify", prepare, is_quick=False)


def _top(query: str, classes: int) -> int:
    words = (
        dict(parse_qsl(query, keep_blank_values=True, max_num_fields=10))
        if query.count("&") < 10
        else {"": ""}
    )
    if set(words) - {"top"}:
        raise HttpError(400, "the only parameter is top, as in /classify?top=3")
    text = words.get("top", "1")
    if not (text.isascii() and text.isdigit() and len(text) <= 7 and int(text) >= 1):
        raise HttpError(400, "top is a number of classes, 1 or more")
    return min(int(text), classes)


def _media(given: str, taken: Tuple[str, ...]) -> None:
    """What curl says of any data is taken for no word at all."""
    word = given.partition(";")[0].strip().lower()
    if word not in ("", "application/x-www-form-urlencoded") and not word.startswith(taken):
        raise HttpError(
            415,
            "Content-Type is %s; with curl: --data-binary @FILE"
            % " or ".join(name.rstrip("/") for name in taken),
        )


def _method(request: Request, wanted: str) -> None:
    allowed = ("GET", "HEAD") if wanted == "GET" else (wanted,)
    if request.head.method not in allowed:
        raise HttpError(405, "only %s here" % " and ".join(allowed), headers=(("Allow", ", ".join(allowed)),))


def _not_found() -> HttpError:
    return HttpError(404, "there is no such path; see / for those that there are", "not_found")


def _sentence(error: Union[ImageRefused, CannotRun]) -> str:
    return "%s (%s)" % (error.what, error.fix) if error.fix else error.what
