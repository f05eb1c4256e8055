"""Goals beside figures: rows of the table, printed as they are measured and kept for the JSON file."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: the median of its rounds."""

    section: str
    what: str
    rounds: tuple[float, ...]
    unit: str
    goal: float | None = None  #: None: for information
    more_is_better: bool = False

    @property
    def figure(self) -> float:
        return statistics.median(self.rounds)

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.figure >= self.goal if self.more_is_better else self.figure < self.goal

    def shown(self) -> str:
        goal = "" if self.goal is None else f"goal {'>=' if self.more_is_better else '<'} {_number(self.goal)}"
        met = {None: "", True: "ok", False: "MISSED"}[self.met]
        spread = f"[{_number(min(self.rounds))}, {_number(max(self.rounds))}]" if len(self.rounds) > 1 else ""
        return f"  {self.what:<58} {_number(self.figure):>9} {self.unit:<6} {spread:<20} {goal:<16} {met}".rstrip()

    def as_json(self) -> dict[str, Any]:
        known = {"section": self.section, "what": self.what, "figure": self.figure, "unit": self.unit}
        return known | {"rounds": list(self.rounds), "goal": self.goal, "met": self.met}


@dataclass(slots=True)
class Table:
    """The rows of a run, and what could not be measured."""

    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  #: what makes figures doubtful
    _section: str = ""

    def section(self, name: str) -> None:
        self._section = name
        print(f"\n{name}", flush=True)

    def add(
        self,
        what: str,
        rounds: Sequence[float],
        unit: str,
        goal: float | None = None,
        *,
        more_is_better: bool = False,
    ) -> None:
        row = Row(self._section, what, tuple(map(float, rounds)), unit, goal, more_is_better)
        self.rows.append(row)
        print(row.shown(), flush=True)

    def note(self, what: str) -> None:
        self.notes.append(f"{self._section}: {what}")
        print(f"  NOTE: {what}", flush=True)

    def problem(self, what: str) -> None:
        self.problems.append(f"{self._section}: {what}")
        print(f"  NOT MEASURED: {what}", flush=True)


def _number(value: float) -> str:
    """Three digits or more.

    >>> _number(12345.6), _number(0.04567), _number(8.25)
    ('12,346', '0.046', '8.25')
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"
