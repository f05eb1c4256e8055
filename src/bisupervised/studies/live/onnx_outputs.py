"""Further outputs for an ONNX graph: its inner tensors by name, without a library and without a file.

A serialised graph is a protocol-buffers message. Where such a message is followed by a second one of the same kind,
the two are merged when they are read, and lists are joined (protobuf's rules of encoding, "last one wins"): a model
file followed by a model that consists of a graph of nothing but outputs is the model with those outputs added.
ONNX Runtime finds their types by itself, and refuses a name that no tensor of the graph has.
"""

from __future__ import annotations

from collections.abc import Iterable

# Field numbers of onnx.proto3: ModelProto.graph, GraphProto.output, ValueInfoProto.name.
_GRAPH, _OUTPUT, _NAME = 7, 12, 1


def with_outputs(model: bytes, names: Iterable[str]) -> bytes:
    """The bytes of a model file whose graph also gives the tensors called `names`, after its own outputs.

    >>> with_outputs(b"", ["x"])
    b':\\x05b\\x03\\n\\x01x'
    """
    outputs = b"".join(_field(_OUTPUT, _field(_NAME, name.encode())) for name in names)
    return model + _field(_GRAPH, outputs) if outputs else model


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited field: its number and kind (2), the length, the bytes."""
    return bytes([number << 3 | 2]) + _varint(len(payload)) + payload


def _varint(n: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more follow."""
    if n < 0x80:
        return bytes([n])
    return bytes([n & 0x7F | 0x80]) + _varint(n >> 7)
