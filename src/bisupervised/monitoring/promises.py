"""What was promised, as limits that rows can be held to; and which promises nothing here watches.

Only what was certified is a promise. The settings of a target are none: a naive request budget is exceeded by half
of all calibrations, though nothing moves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from bisupervised.calibration.thresholds import Thresholds
from bisupervised.errors import InputError
from bisupervised.monitoring.findings import Unknown
from bisupervised.monitoring.questions import Limit

#: Figures that are watched where they are promised.
WATCHED: Final = ("risk", "request_rate", "abstention")


def promises_of(thresholds: Thresholds) -> dict[str, Limit]:
    """The limits that thresholds were certified for, of those that are watched; the lowest of each."""
    promises: dict[str, Limit] = {}
    for name, most, delta in _certified(thresholds):
        if name in WATCHED and delta is not None and _is_share(most):
            known = promises.get(name)
            if known is None or most < known.most:
                promises[name] = Limit(float(most), delta)
    return promises


def promises_not_watched(thresholds: Thresholds, limited: Collection[str]) -> Iterator[Unknown]:
    """The others, each with the reason; `limited` are figures that are held to a limit."""
    seen = set(limited)
    for name, most, _ in _certified(thresholds):
        if name in seen:
            continue
        seen.add(name)
        if name in WATCHED:
            why = "it is promised on average over calibration rows; of one calibration nothing is promised"
            yield Unknown(name, why, f"Hold the rows to a limit of your own: --max-{name.replace('_', '-')}")
        else:
            yield Unknown(
                name,
                f"it is promised to be at most {most}, and nothing here tests that",
                "See what labelled recent rows say: `bisupervised evaluate RECENT --thresholds thresholds.toml`",
            )


def _certified(thresholds: Thresholds) -> Iterator[tuple[str, Any, float | None]]:
    """(figure, the most it may be, delta) of everything that was certified; no delta: on average only."""
    for part in thresholds.promises:
        certified, delta = part.get("guarantee"), _share_or_none(part.get("delta"))
        if isinstance(certified, Mapping):
            for name, most in certified.items():
                yield name, most, delta


def checked_limits(limits: Mapping[str, float]) -> dict[str, Limit]:
    """Limits that somebody gave. Raises `InputError` for what is no share, or of no figure that is watched."""
    for name, most in limits.items():
        if name not in WATCHED or not _is_share(most):
            raise InputError(f"a limit is a share in [0, 1] on {' or '.join(WATCHED)}, not {most!r} on {name}")
    return {name: Limit(float(most)) for name, most in limits.items()}


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= 1.0


def _share_or_none(value: Any) -> float | None:
    return float(value) if _is_share(value) else None
