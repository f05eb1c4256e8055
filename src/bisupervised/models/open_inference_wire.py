"""The Open Inference Protocol v2 on the wire: bodies <-> tensors, JSON and the binary tensor data extension.

No transport and no I/O: a body is bytes, beside it the value of the header `Inference-Header-Content-Length`, which
says how many of its bytes are JSON when raw tensors follow them. Nothing is allocated for what a body only claims:
sizes are compared with the bytes that are there. JSON is read and written by `decode` and `encode`, the standard
library's unless a faster one is handed in.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from bisupervised.errors import TensorError
from bisupervised.models.open_inference_tensors import (
    DTYPES,
    Parameters,
    Tensor,
    from_json,
    from_raw,
    json_kind,
    shaped,
    to_json,
    to_raw,
)

Decode: TypeAlias = Callable[[bytes], Any]
Encode: TypeAlias = Callable[[Any], bytes]

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
#: NumPy 1 knows no more dimensions.
_MOST_DIMENSIONS = 32
_MOST_NAME = 256  # characters
_MOST_SIZE = 2**63 - 1


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that a request asks for."""

    name: str
    binary_data: bool = False  #: raw, not in JSON
    classification: int | None = None  #: as the k likeliest classes; None: as it is


@dataclass(frozen=True, slots=True, eq=False)
class InferRequest:
    """A request for an inference."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[RequestedOutput, ...] = ()  #: empty: all of them
    id: str | None = None
    parameters: Parameters = field(default_factory=dict)

    @property
    def binary_data_output(self) -> bool:
        """Whether outputs are sent raw where the request does not say it for the single one."""
        return self.parameters.get("binary_data_output") is True


@dataclass(frozen=True, slots=True, eq=False)
class InferResponse:
    """The response to one. As read, a name or version that it did not hold is empty."""

    model_name: str
    outputs: tuple[Tensor, ...]
    model_version: str = ""
    id: str | None = None
    parameters: Parameters = field(default_factory=dict)


class Message(NamedTuple):
    """A body, and how many of its first bytes are JSON; None when all are."""

    body: bytes
    header_length: int | None = None

    @property
    def content_type(self) -> str:
        """JSON, or octets when raw tensors follow it."""
        return "application/json" if self.header_length is None else "application/octet-stream"


def encode_json(value: Any) -> bytes:
    """The standard library's JSON, as short as it gets."""
    return _ENCODER.encode(value).encode("ascii")


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


# ---------------------------------------------------------------- reading


def parse_request(
    body: bytes, header_length: str | int | None = None, *, decode: Decode = json.loads
) -> InferRequest:
    """The request in a body. Raises `TensorError`, with words for whoever sent it."""
    decoded, start = _decoded(body, header_length, decode)
    return request_from(decoded, body, start)


def request_from(decoded: Any, body: bytes = b"", start: int | None = None) -> InferRequest:
    """The request in an object decoded from JSON, whose raw tensors are `body[start:]`."""
    fields = _object(decoded, "the request")
    parameters = _parameters(fields, "the request")
    inputs = _tensors(fields, "inputs", body, start)
    if not inputs:
        raise TensorError('the request has no input tensors: send at least one in "inputs"')
    outputs = _list(fields, "outputs", "the request") if fields.get("outputs") is not None else ()
    by_default = parameters.get("binary_data_output") is True
    return InferRequest(
        inputs, tuple(_requested(one, by_default) for one in outputs), _text(fields, "id", "the request"), parameters
    )


def parse_response(
    body: bytes, header_length: str | int | None = None, *, decode: Decode = json.loads
) -> InferResponse:
    """The response in a body. Raises `TensorError`."""
    decoded, start = _decoded(body, header_length, decode)
    fields = _object(decoded, "the response")
    return InferResponse(
        model_name=_text(fields, "model_name", "the response") or "",
        outputs=_tensors(fields, "outputs", body, start),
        model_version=_text(fields, "model_version", "the response") or "",
        id=_text(fields, "id", "the response"),
        parameters=_parameters(fields, "the response"),
    )


def _decoded(body: bytes, header_length: str | int | None, decode: Decode) -> tuple[Any, int | None]:
    """What the JSON of a body says, and where its raw tensors begin; None when it cannot have any."""
    start = None if header_length is None else _header_length(header_length, len(body))
    try:
        return decode(body if start is None or start == len(body) else body[:start]), start
    except (ValueError, RecursionError) as error:
        raise TensorError(
            f"the body{'' if start is None else f', up to {HEADER_LENGTH},'} is no JSON: {error}"
        ) from None


def _header_length(value: str | int, size: int) -> int:
    # isdecimal alone takes other scripts' digits, and a long text would take long to become a number.
    text = str(value)
    length = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
    if not 0 < length <= size:
        raise TensorError(
            f"{HEADER_LENGTH} is the number of bytes of the JSON at the beginning of the body, 1 to {size}, "
            f"not {text[:40]!r}"
        )
    return length


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TensorError(f"{what} is a JSON object, not {json_kind(value)}")
    return value


def _parameters(fields: Mapping[str, Any], what: str) -> Parameters:
    value = fields.get("parameters")
    return {} if value is None else _object(value, f'"parameters" of {what}')


def _text(fields: Mapping[str, Any], name: str, what: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise TensorError(f'"{name}" of {what} is a string, not {json_kind(value)}')
    return value


def _list(fields: Mapping[str, Any], name: str, what: str) -> list[Any]:
    value = fields.get(name)
    if not isinstance(value, list):
        raise TensorError(f'"{name}" of {what} is a list, not {json_kind(value) if name in fields else "missing"}')
    return value


def _name(fields: Mapping[str, Any], what: str) -> str:
    name = _text(fields, "name", what)
    if not name:
        raise TensorError(f'{what} has no "name"')
    if len(name) > _MOST_NAME:
        raise TensorError(f'"name" of {what} has {len(name)} characters; at most {_MOST_NAME} are read')
    return name


def _requested(value: Any, binary_by_default: bool) -> RequestedOutput:
    fields = _object(value, "a requested output")
    name = _name(fields, "a requested output")
    parameters = _parameters(fields, f"the output {name!r}")
    _no_shared_memory(parameters, name)
    binary = parameters.get("binary_data", binary_by_default)
    if not isinstance(binary, bool):
        raise TensorError(f'"binary_data" of the output {name!r} is true or false, not {json_kind(binary)}')
    k = parameters.get("classification")
    if k is not None and (type(k) is not int or k < 1):
        raise TensorError(f'"classification" of the output {name!r} is a number of classes, at least 1')
    return RequestedOutput(name, binary, k)


def _no_shared_memory(parameters: Parameters, name: str) -> None:
    if "shared_memory_region" in parameters:
        raise TensorError(f"the tensor {name!r} is in shared memory, which is not offered: send it in the body")


def _tensors(fields: Mapping[str, Any], key: str, body: bytes, start: int | None) -> tuple[Tensor, ...]:
    """The tensors of a list of them; together they use up the raw bytes."""
    tensors = []
    position = len(body) if start is None else start
    for value in _list(fields, key, "the message"):
        tensor, position = _tensor(value, body, position, start is not None)
        tensors.append(tensor)
    if position != len(body):
        raise TensorError(
            f"{len(body) - position} bytes follow the last tensor: the sum of all binary_data_size is the number of "
            f"bytes behind the JSON"
        )
    if len(tensors) > 1 and len({tensor.name for tensor in tensors}) != len(tensors):
        raise TensorError(f'two tensors of "{key}" have the same name')
    return tuple(tensors)


def _tensor(value: Any, body: bytes, position: int, may_be_raw: bool) -> tuple[Tensor, int]:
    """One tensor, and the position in the body behind its raw bytes."""
    fields = _object(value, "a tensor")
    name = _name(fields, "a tensor")
    datatype = fields.get("datatype")
    if type(datatype) is not str or datatype not in DTYPES:
        shown = repr(datatype[:40]) if isinstance(datatype, str) else json_kind(datatype)
        raise TensorError(f'"datatype" of the tensor {name!r} is one of {", ".join(DTYPES)}; not {shown}')
    shape, elements = _shape(fields.get("shape"), name)
    parameters = _parameters(fields, f"the tensor {name!r}")
    size = parameters.get("binary_data_size") if parameters else None
    if size is None:
        _no_shared_memory(parameters, name)
        data = from_json(fields.get("data"), name, datatype, shape, elements)
    elif fields.get("data") is not None:
        raise TensorError(f'the tensor {name!r} has both "data" and binary_data_size: send one of them')
    else:
        end = _end(size, name, position, len(body), may_be_raw)
        data = from_raw(body, position, end, name, datatype, elements)
        position = end
    return Tensor(name, datatype, shaped(data, shape, name), parameters), position


def _shape(value: Any, name: str) -> tuple[tuple[int, ...], int]:
    """The shape, and the number of elements that it claims."""
    if (
        type(value) is not list
        or not set(map(type, value)) <= {int}
        or not all(0 <= size <= _MOST_SIZE for size in value)
    ):
        raise TensorError(f'"shape" of the tensor {name!r} is a list of whole numbers from 0 on, like [1, 4]')
    if len(value) > _MOST_DIMENSIONS:
        raise TensorError(f"the tensor {name!r} has {len(value)} dimensions; at most {_MOST_DIMENSIONS} are read")
    return tuple(value), math.prod(value)


def _end(size: Any, name: str, position: int, length: int, may_be_raw: bool) -> int:
    if type(size) is not int or not 0 <= size <= _MOST_SIZE:
        raise TensorError(f"binary_data_size of the tensor {name!r} is a whole number of bytes from 0 on")
    if not may_be_raw:
        raise TensorError(
            f"the tensor {name!r} is announced as binary data: say with the header {HEADER_LENGTH} how many bytes of "
            f"the body are JSON"
        )
    if size > length - position:
        raise TensorError(
            f"the body is cut off: the tensor {name!r} is announced with {size} bytes, and {length - position} came"
        )
    return position + size


# ---------------------------------------------------------------- writing


def build_request(request: InferRequest, *, binary: bool = True, encode: Encode = encode_json) -> Message:
    """The body of a request, its inputs raw or in JSON."""
    header, raw = _header(request.inputs, [binary] * len(request.inputs))
    message: dict[str, Any] = {} if request.id is None else {"id": request.id}
    message["inputs"] = header
    if request.outputs:
        message["outputs"] = [_requested_header(one) for one in request.outputs]
    if request.parameters:
        message["parameters"] = request.parameters
    return _message(message, raw, encode)


def _requested_header(output: RequestedOutput) -> Mapping[str, Any]:
    k = {} if output.classification is None else {"classification": output.classification}
    return {"name": output.name, "parameters": {**k, "binary_data": output.binary_data}}


def build_response(
    response: InferResponse, request: InferRequest | None = None, *, encode: Encode = encode_json
) -> Message:
    """The body of a response: the outputs that the request asks for, each raw or in JSON as it wants it.

    Raises `TensorError` for an output that there is not, and for what JSON cannot hold.
    """
    outputs: Sequence[Tensor] = response.outputs
    raw_by_default = request is not None and request.binary_data_output
    wants_raw = [raw_by_default] * len(outputs)
    if request is not None and request.outputs:
        outputs = [_output(response, one.name) for one in request.outputs]
        wants_raw = [one.binary_data for one in request.outputs]
    header, raw = _header(outputs, wants_raw)
    message: dict[str, Any] = {"model_name": response.model_name, "model_version": response.model_version}
    if response.id is not None:
        message["id"] = response.id
    if response.parameters:
        message["parameters"] = response.parameters
    message["outputs"] = header
    return _message(message, raw, encode)


def _output(response: InferResponse, name: str) -> Tensor:
    for tensor in response.outputs:
        if tensor.name == name:
            return tensor
    there = ", ".join(tensor.name for tensor in response.outputs)
    raise TensorError(f"there is no output {name[:80]!r}; there are: {there}")


def _header(tensors: Iterable[Tensor], wants_raw: Iterable[bool]) -> tuple[list[dict[str, Any]], list[bytes] | None]:
    """What JSON says of the tensors, and the raw bytes to follow it; None when no tensor is raw."""
    header = []
    raw: list[bytes] | None = None
    for tensor, is_raw in zip(tensors, wants_raw, strict=True):
        said: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.data.shape}
        parameters = tensor.parameters
        if is_raw:
            content = to_raw(tensor)
            said["parameters"] = {**parameters, "binary_data_size": len(content)}
            raw = raw or []
            raw.append(content)
        else:
            if parameters:
                said["parameters"] = {k: v for k, v in parameters.items() if k != "binary_data_size"}
            said["data"] = to_json(tensor)
        header.append(said)
    return header, raw


def _message(message: Mapping[str, Any], raw: list[bytes] | None, encode: Encode) -> Message:
    header = encode(message)
    return Message(header) if raw is None else Message(b"".join([header, *raw]), len(header))
