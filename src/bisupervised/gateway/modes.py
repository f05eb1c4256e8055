"""How a cascade treats requests now: its mode, share and thresholds, which change without a restart."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bisupervised.calibration import Thresholds
from bisupervised.errors import InputError
from bisupervised.gateway.settings import Mode


@dataclass(frozen=True, slots=True)
class State:
    """One cascade's settings at a moment. A request keeps the one it began with."""

    mode: Mode
    share: float  #: of the requests that are enforced when the mode is `enforce`, in [0, 1]; the others are observed
    share_by: str  #: `random`, or `key`: a client is enforced or observed as a whole
    thresholds: Thresholds
    thresholds_id: str
    kill_switch: bool = False  #: everything goes to the remote model

    def mode_for(self, cascade: str, key: str | None) -> Mode:
        """The mode of one request of this client."""
        if self.kill_switch:
            return Mode.REMOTE_ONLY
        if self.mode is not Mode.ENFORCE or self.share >= 1.0:
            return self.mode
        drawn = random.random() if self.share_by == "random" else place_of(cascade, key)
        return Mode.ENFORCE if drawn < self.share else Mode.OBSERVE


def place_of(cascade: str, key: str | None) -> float:
    """A client's fixed place in [0, 1): those below the share are enforced, so a growing share only adds clients.

    >>> place_of("a", "team-1") == place_of("a", "team-1"), 0.0 <= place_of("a", None) < 1.0
    (True, True)
    """
    digest = hashlib.sha256(f"{cascade}\0{key or ''}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def checked_mode(value: Any, now: State) -> dict[str, Any]:
    """A change of mode as it is stored. What it does not name stays. Raises `InputError`."""
    if not isinstance(value, Mapping):
        raise InputError('a mode is an object like {"mode": "enforce", "share": 0.05, "share_by": "key"}')
    unknown = sorted(set(value) - {"mode", "share", "share_by", "note"})
    if unknown:
        raise InputError(f"unknown {', '.join(unknown)}; there are: mode, share, share_by, note")
    mode, share = value.get("mode", str(now.mode)), value.get("share", now.share)
    share_by = value.get("share_by", now.share_by)
    if mode not in list(Mode):
        raise InputError(f"mode is {', '.join(Mode)}; not {mode!r}")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0.0 <= share <= 1.0:
        raise InputError(f"share is a number from 0 to 1 (0.05 for 5 %), not {share!r}")
    if share_by not in ("random", "key"):
        raise InputError(f"share_by is random or key, not {share_by!r}")
    return {"mode": str(mode), "share": float(share), "share_by": share_by}


def thresholds_value(thresholds: Thresholds) -> dict[str, Any]:
    """Thresholds with their evidence, as a change stores them."""
    return {
        "local": _stored(thresholds.local),
        "remote": _stored(thresholds.remote),
        **({} if thresholds.abstain == -math.inf else {"abstain": _stored(thresholds.abstain)}),
        "id": thresholds.id,
        "target": dict(thresholds.target),
        "evidence": dict(thresholds.evidence),
        "achieved": dict(thresholds.achieved),
        **{name: dict(section) for name in _LEARNED if (section := getattr(thresholds, name))},
    }


def _stored(threshold: float) -> float | str:
    return threshold if math.isfinite(threshold) else str(threshold)


_LEARNED = ("first_level", "second_level")
_SECTIONS = ("target", "evidence", "achieved", *_LEARNED)


def checked_thresholds(value: Any) -> Thresholds:
    """Thresholds from a change, or from a client. Raises `InputError` (`ThresholdError` is one)."""
    if not isinstance(value, Mapping) or not {"local", "remote"} <= set(value):
        raise InputError(
            'thresholds are an object like {"local": 0.83, "remote": 0.6}, as a thresholds file has them'
        )
    unknown = sorted(set(value) - {"local", "remote", "abstain", "id", "note", *_SECTIONS})
    if unknown:
        raise InputError(
            f"unknown {', '.join(unknown)}; there are: local, remote, abstain, target, evidence, "
            f"achieved, first_level, second_level, note"
        )
    sections = {name: value.get(name, {}) for name in _SECTIONS}
    for name, section in sections.items():
        if not isinstance(section, Mapping):
            raise InputError(f"{name} is an object, as in a thresholds file")
    abstain = _number(value.get("abstain", -math.inf))
    return Thresholds(_number(value["local"]), _number(value["remote"]), abstain=abstain, **sections)


def _number(value: Any) -> float:
    """JSON has no infinities: `"inf"` and `"-inf"` stand for them."""
    if isinstance(value, str) and value in ("inf", "-inf", "+inf"):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f'a threshold is a number, or "inf" or "-inf", not {value!r}')
    return float(value)
