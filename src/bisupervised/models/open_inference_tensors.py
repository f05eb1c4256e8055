"""Tensors of the Open Inference Protocol v2, and their data raw and in JSON.

Raw data is little-endian, in row-major order, without padding; an element of type BYTES has its length in 4 bytes
before it. Nothing is allocated for what a message only claims: sizes are compared with the bytes that are there.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, TypeAlias

import numpy as np

from bisupervised.errors import TensorError
from bisupervised.records import AnyArray

Parameters: TypeAlias = Mapping[str, Any]

_LENGTH = struct.Struct("<I")  # in front of every BYTES element

DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),  # the upper half of an FP32; NumPy has no such number
    "BYTES": np.dtype(object),
}
_DATATYPES = {(dtype.kind, dtype.itemsize): name for name, dtype in DTYPES.items() if name not in ("BF16", "BYTES")}
_LEAST_AND_MOST = {
    name: (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)) for name, dtype in DTYPES.items() if dtype.kind in "iu"
}
#: What the elements of a JSON list may be, by the kind of the datatype's dtype.
_JSON_TYPES: Mapping[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "u": frozenset({int}),
    "i": frozenset({int}),
    "f": frozenset({int, float, type(None)}),
    "O": frozenset({str}),
}
_JSON_WORDS = {"b": "true or false", "u": "whole numbers", "i": "whole numbers", "f": "numbers", "O": "strings"}


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A named array. `data` has the tensor's shape and the datatype's dtype, but for BF16, which is held as FP32,
    and BYTES: objects, `bytes` when they came raw and `str` when they came in JSON (`texts` reads both)."""

    name: str
    datatype: str
    data: AnyArray
    parameters: Parameters = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """The data's shape."""
        return self.data.shape


def numpy_dtype(datatype: str) -> np.dtype[Any]:
    """The dtype of the arrays that hold a datatype. Raises `TensorError` for an unknown one."""
    if datatype not in DTYPES:
        raise TensorError(f"the datatype is one of {', '.join(DTYPES)}; not {datatype!r}")
    return DTYPES["FP32" if datatype == "BF16" else datatype]


def tensor_of(name: str, array: Any) -> Tensor:
    """The tensor of an array of booleans, numbers, or texts (`str` and `bytes`), its datatype from the dtype."""
    data = np.asarray(array)
    datatype = _DATATYPES.get((data.dtype.kind, data.dtype.itemsize))
    if datatype is not None:
        return Tensor(name, datatype, data)
    if data.dtype.name == "bfloat16":  # ml_dtypes'
        return Tensor(name, "BF16", data.astype(np.float32))
    if data.dtype.kind in "US" or (data.dtype == object and all(isinstance(x, str | bytes) for x in data.flat)):
        return Tensor(name, "BYTES", data.astype(object))
    raise TensorError(f"the tensor {name!r} is an array of {data.dtype}: give booleans, numbers or texts")


# ---------------------------------------------------------------- reading


def from_raw(body: bytes, start: int, end: int, name: str, datatype: str, elements: int) -> AnyArray:
    """The flat array in `body[start:end]`, which must be of exactly the size that so many elements have."""
    if datatype == "BYTES":
        return _strings(body, start, end, name, elements)
    dtype = DTYPES[datatype]
    if end - start != elements * dtype.itemsize:
        raise TensorError(
            f"the tensor {name!r} has {end - start} bytes, and by its shape {elements} elements of {dtype.itemsize} "
            f"({datatype})"
        )
    if datatype == "BF16":
        return (np.frombuffer(body, dtype, elements, start).astype("<u4") << 16).view("<f4")
    if datatype == "BOOL":
        return np.frombuffer(body, np.uint8, elements, start).astype(np.bool_)
    # A copy: it is aligned, may be written to, and does not keep the body.
    return np.frombuffer(body, dtype, elements, start).copy()


def _strings(body: bytes, start: int, end: int, name: str, elements: int) -> AnyArray:
    """BYTES: every element has its length in 4 bytes before it."""
    if elements * _LENGTH.size > end - start:
        raise TensorError(
            f"the tensor {name!r} has {end - start} bytes, too few for {elements} elements of type BYTES"
        )
    strings = np.empty(elements, dtype=object)
    for index in range(elements):
        first = start + _LENGTH.size
        length = _LENGTH.unpack_from(body, start)[0] if first <= end else end
        start = first + length
        if start > end:
            raise TensorError(f"the tensor {name!r} is cut off in its element {index}")
        strings[index] = body[first:start]
    if start != end:
        raise TensorError(f"{end - start} bytes follow the {elements} elements of the tensor {name!r}")
    return strings


def from_json(data: Any, name: str, datatype: str, shape: tuple[int, ...], elements: int) -> AnyArray:
    """The flat array of a JSON list: flat itself, or nested as the shape says. In a list of numbers, null is NaN."""
    if datatype == "BF16":
        raise TensorError(f"the tensor {name!r}: JSON has no BF16; send it as binary data, or as FP32")
    if type(data) is not list:
        raise TensorError(f'the tensor {name!r} has neither a list "data" nor binary_data_size in its parameters')
    kinds = set(map(type, data))
    if list in kinds:
        data = _flattened(data, name, shape)
        kinds = set(map(type, data))
    if len(data) != elements:
        raise TensorError(f"the tensor {name!r} has {len(data)} elements, and {elements} by its shape {list(shape)}")
    dtype = DTYPES[datatype]
    if not kinds <= _JSON_TYPES[dtype.kind]:
        wrong = next(value for value in data if type(value) not in _JSON_TYPES[dtype.kind])
        raise TensorError(f"the tensor {name!r} holds {_JSON_WORDS[dtype.kind]} ({datatype}), not {_shown(wrong)}")
    return _array(data, name, datatype, dtype)


def _array(data: list[Any], name: str, datatype: str, dtype: np.dtype[Any]) -> AnyArray:
    if dtype.kind in "iu" and data:
        least, most = _LEAST_AND_MOST[datatype]
        if min(data) < least or max(data) > most:
            raise TensorError(f"the tensor {name!r} holds numbers outside {datatype}, {least} to {most}")
    if dtype.kind != "f":
        return np.array(data, dtype=dtype)
    try:
        with np.errstate(over="raise"):
            return np.array(data, dtype=dtype)  # null is NaN: not known
    except (OverflowError, FloatingPointError):
        raise TensorError(f"the tensor {name!r} holds numbers too large for {datatype}") from None


def _shown(value: Any) -> str:
    # Never a whole number: Python refuses to print very long ones.
    return repr(value[:40]) if isinstance(value, str) else repr(value) if type(value) is float else json_kind(value)


def _flattened(data: list[Any], name: str, shape: tuple[int, ...]) -> list[Any]:
    """The elements of nested lists, which must be those of the shape, in row-major order."""
    rows = [data]
    for size in shape[:-1]:
        if any(type(row) is not list or len(row) != size for row in rows):
            break
        rows = list(chain.from_iterable(rows))
    else:
        if shape and all(type(row) is list and len(row) == shape[-1] for row in rows):
            return list(chain.from_iterable(rows))
    raise TensorError(
        f'"data" of the tensor {name!r} is a flat list in row-major order, or lists nested as its shape '
        f"{list(shape)} says"
    )


def texts(tensor: Tensor) -> list[str]:
    """The elements of a BYTES tensor as text, in row-major order. Raises `TensorError` for what is not UTF-8."""
    try:
        return [one if isinstance(one, str) else one.decode() for one in tensor.data.ravel().tolist()]
    except UnicodeDecodeError:
        raise TensorError(f"the tensor {tensor.name!r} is read as text: send its elements in UTF-8") from None


def shaped(data: AnyArray, shape: tuple[int, ...], name: str) -> AnyArray:
    """A flat array of the right size in its shape."""
    try:
        return data.reshape(shape)
    except (ValueError, OverflowError):  # no elements, and dimensions whose product no machine can count
        raise TensorError(f"the tensor {name!r} has a shape that is too large, {list(shape)}") from None


# ---------------------------------------------------------------- writing


def to_raw(tensor: Tensor) -> bytes:
    """The tensor's raw data."""
    data = tensor.data
    if tensor.datatype == "BYTES":
        return b"".join([_with_length(one) for one in data.ravel().tolist()])
    if tensor.datatype == "BF16":
        return _rounded_to_bf16(data).tobytes()
    return data.astype(DTYPES[tensor.datatype], copy=False).tobytes()


def _with_length(element: str | bytes) -> bytes:
    # A lone surrogate, which JSON may bring, has no UTF-8: a question mark stands for it.
    content = element.encode(errors="replace") if isinstance(element, str) else element
    return _LENGTH.pack(len(content)) + content


def _rounded_to_bf16(data: AnyArray) -> AnyArray:
    """The upper halves of FP32 numbers, rounded to the nearest, ties to even."""
    bits = np.ascontiguousarray(data, dtype="<f4").view("<u4").astype("<u8")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(data), (bits >> 16) | 0x40, rounded).astype("<u2")


def to_json(tensor: Tensor) -> list[Any]:
    """The tensor's elements for JSON, flat. What is no number there (NaN, infinities) is null."""
    if tensor.datatype == "BYTES":
        return texts(tensor)
    if tensor.datatype == "BF16":
        raise TensorError(f"the tensor {tensor.name!r}: JSON has no BF16; ask for binary data")
    values: list[Any] = tensor.data.ravel().tolist()
    if tensor.data.dtype.kind == "f" and not math.isfinite(sum(values)):
        return [value if math.isfinite(value) else None for value in values]  # JSON has no NaN and no infinity
    return values


def classified(tensor: Tensor, k: int, labels: Sequence[Any] | None = None) -> Tensor:
    """The k largest numbers of each row as `value:index` or `value:index:label`: the classification extension.

    >>> classified(tensor_of("p", np.array([[0.25, 0.75]])), 1, ["no", "yes"]).data.tolist()
    [[b'0.75:1:yes']]
    """
    data = tensor.data
    if data.dtype.kind not in "iuf" or data.ndim == 0:
        raise TensorError(
            f"the output {tensor.name!r} holds no numbers of classes: ask for it without classification"
        )
    rows = data.reshape(-1, data.shape[-1])
    best = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :k]
    names = [f":{label}" for label in labels] if labels is not None else [""] * rows.shape[1]
    found = np.empty(best.shape, dtype=object)
    for row, columns in enumerate(best.tolist()):
        found[row] = [f"{rows[row, column]}:{column}{names[column]}".encode() for column in columns]
    return Tensor(tensor.name, "BYTES", found.reshape(*data.shape[:-1], best.shape[1]))


def json_kind(value: Any) -> str:
    """What a decoded value is, in words."""
    words = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return words.get(type(value), "a number")
