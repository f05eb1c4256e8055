"""Values on their way into a cell and back, and inputs as a hash.

A cell holds text, integers and floats as they are, and NULL for None and NaN. Anything else (truth values,
lists, mappings, integers of more than 64 bits) is JSON in a BLOB, which keeps it apart from text: its type
comes back, JSON's limits apply (a tuple comes back as a list). What is no JSON is stored as `{"repr": …}`.
None of these functions raises: one odd value must not hold up the rows around it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final, TypeAlias

import numpy as np

Cell: TypeAlias = str | int | float | bytes | None
#: What stands for NULL in rows to write. SQLite stores NaN as NULL, and takes it at once, while the sqlite3 module
#: looks for an adapter of every None: with many columns that would be most of the time that a row takes.
NULL: Final = float("nan")


def encode_value(value: Any) -> Cell:
    """A prediction, an answer or a label as a cell."""
    kind = type(value)
    if kind is str:
        return value if _is_utf8(value) else json.dumps(value).encode()
    if value is None:
        return NULL
    if kind is float:
        return value  # type: ignore[no-any-return]
    if kind is int and -(2**63) <= value < 2**63:
        return value  # type: ignore[no-any-return]
    if isinstance(value, np.generic):
        plain = value.item()
        if not isinstance(plain, np.generic):
            return encode_value(plain)
    if isinstance(value, str):
        return encode_value(str.__str__(value))
    return to_json(value).encode()


def decode_value(cell: Cell) -> Any:
    """The value that a cell holds; None for NULL."""
    return json.loads(cell) if type(cell) is bytes else cell


def encode_text(value: Any) -> str | float:
    """Text that is surely UTF-8 (an error message may hold half a character); NULL for None."""
    if type(value) is str and value.isascii():
        return value
    if value is None:
        return NULL
    return str.__str__(value if isinstance(value, str) else str(value)).encode("utf-8", "backslashreplace").decode()


def encode_number(value: Any) -> float:
    """A float; NaN when it is not known."""
    if type(value) is float:
        return value
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return NULL


def to_json(value: Any) -> str:
    """JSON text; `{"repr": …}` of what is no JSON."""
    text = _json_or_none(value)
    return json.dumps({"repr": _repr(value)}) if text is None else text


def encode_input(x: Any) -> str | float:
    """An input as JSON text; NULL when it is no JSON (bytes, for one). Arrays become lists."""
    text = _json_or_none(x)
    return NULL if text is None else text


def hash_input(x: Any) -> str:
    """The SHA-256 of an input, in hexadecimal.

    Hashed are: the UTF-8 bytes of text, bytes as they are, an array's dtype, shape and bytes; of anything else
    its JSON with sorted keys and no spaces or, where there is none, its `repr`. A hash tells repeated inputs
    without storing them; it does not hide short ones from somebody who guesses.

    >>> hash_input("hello")[:16], hash_input({"b": 1, "a": 2}) == hash_input('{"a":2,"b":1}')
    ('2cf24dba5fb0a30e', True)
    """
    return hashlib.sha256(_input_bytes(x)).hexdigest()


def _input_bytes(x: Any) -> bytes:
    if isinstance(x, str):
        return x.encode("utf-8", "surrogatepass")
    if isinstance(x, bytes | bytearray | memoryview):
        return bytes(x)
    if isinstance(x, np.ndarray) and x.dtype.kind != "O":
        return f"{x.dtype.str}{x.shape}".encode() + x.tobytes()
    text = _json_or_none(x, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return (_repr(x) if text is None else text).encode("utf-8", "surrogatepass")


def _json_or_none(value: Any, **style: Any) -> str | None:
    try:
        return json.dumps(value, default=_plain, **style)
    except Exception:  # too deep, circular, or somebody's own class
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON")


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _is_utf8(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
