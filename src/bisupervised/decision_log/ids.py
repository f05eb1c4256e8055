"""Ids that rise with time: an index takes them at its end, where random ones touch all of its pages."""

from __future__ import annotations

import os
import threading
from random import Random
from time import time_ns
from typing import Final

_VERSION_7: Final = 0x7 << 76
_VARIANT: Final = 0x2 << 62

#: Ids must not collide, and need not be secret: a generator that the system seeds is enough, and asks it once.
_random = Random(os.urandom(32))
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(32)))
_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """32 hexadecimal digits in the layout of a UUID of version 7, above all that this process has made before.

    48 bits are Unix milliseconds, 12 their fraction (244 ns), 62 random. While the clock stands, or is behind
    what it has shown before, the fraction counts on. RFC 9562, 5.7 and 6.2, method 3.

    >>> first, second = new_id(), new_id()
    >>> first < second, len(first), first[12]
    (True, 32, '7')
    """
    global _last
    ticks = (time_ns() << 12) // 1_000_000
    with _lock:
        if ticks <= _last:
            ticks = _last + 1
        _last = ticks
        random = _random.getrandbits(62)
    return f"{ticks >> 12 << 80 | _VERSION_7 | (ticks & 0xFFF) << 64 | _VARIANT | random:032x}"
