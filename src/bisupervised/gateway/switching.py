"""Modes, thresholds and the kill switch, as changes in the store that every gateway process follows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bisupervised.calibration import Thresholds
from bisupervised.decision_log.changes import Change, Changes
from bisupervised.errors import InputError
from bisupervised.gateway.modes import State, checked_mode, checked_thresholds, thresholds_value
from bisupervised.gateway.settings import Mode

logger = logging.getLogger("bisupervised.gateway")

#: The "cascade" of a change that is for all of them.
EVERYWHERE: Final = "*"
_FILE: Final = "the configuration file"


class Switchboard:
    """What holds for each cascade now. Its methods read and write the store: call them off the event loop."""

    def __init__(self, changes: Changes, declared: Mapping[str, State]) -> None:
        self._changes = changes
        self._declared = dict(declared)
        self._states = dict(declared)
        self._seen = -1
        self._lock = threading.Lock()
        self.kill_switch = False

    @property
    def names(self) -> list[str]:
        """The cascades of the file."""
        return list(self._declared)

    def state(self, cascade: str) -> State:
        """As of the last `refresh`."""
        return self._states[cascade]

    def declare(self) -> None:
        """What the file says, as changes where it says something else than at the last start; then `refresh`."""
        for name, declared in self._declared.items():
            mode = {"mode": str(declared.mode), "share": float(declared.share), "share_by": declared.share_by}
            for kind, value in (("mode", mode), ("thresholds", thresholds_value(declared.thresholds))):
                if value != self._last_declared(name, kind):
                    self._changes.append(name, kind, value, by=_FILE)
        self.refresh()

    def _last_declared(self, cascade: str, kind: str) -> Mapping[str, Any] | None:
        for change in self._changes.history(cascade, limit=1_000_000):
            if change.kind == kind and change.by == _FILE:
                return change.value
        return None

    def refresh(self) -> bool:
        """Take up what has changed in the store; whether anything has."""
        with self._lock:
            newest = self._changes.newest()
            if newest == self._seen:
                return False
            everywhere = self._changes.current(EVERYWHERE)
            self.kill_switch = "kill_switch" in everywhere and bool(everywhere["kill_switch"].value["on"])
            for name, declared in self._declared.items():
                self._states[name] = self._taken_up(name, declared)
            self._seen = newest
            return True

    def _taken_up(self, name: str, declared: State) -> State:
        """A cascade's state; where a newer version wrote what this one cannot read, the last one, but for the kill
        switch."""
        state = replace(self._states[name], kill_switch=self.kill_switch)
        current = self._changes.current(name)
        # Each by itself: thresholds that cannot be read must not stand between an operator and the mode.
        for kind, taken in (("mode", _with_mode), ("thresholds", _with_thresholds)):
            try:
                state = taken(state, current.get(kind), declared)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                logger.warning("the %s of %s cannot be read, and what held before holds on: %s", kind, name, error)
        return state

    def change(self, cascade: str, kind: str, value: Any, by: str, note: str = "") -> Change:
        """Make a change, which holds from now on. Raises `InputError`."""
        self.refresh()
        id_ = self._changes.append(cascade, kind, self._checked(cascade, kind, value), by, note)
        self.refresh()
        return next(change for change in self._changes.since(id_ - 1) if change.id == id_)

    def use_thresholds(self, cascade: str, path: Path, by: str, note: str = "") -> Change:
        """Use a thresholds file's from now on. Raises `ThresholdError`."""
        return self.change(cascade, "thresholds", thresholds_value(Thresholds.load(path)), by, note)

    def roll_back(self, change_id: int, by: str) -> Change:
        """What held before a change holds again, as a change of its own. Raises `InputError`, also for thresholds of
        another supervisor than the gateway was started with."""
        change = self._changes.rollback(change_id, by, self._check_again)
        self.refresh()
        return change

    def _check_again(self, before: Change) -> None:
        if before.kind == "thresholds" and before.cascade in self._declared:
            _of_same_supervisors(checked_thresholds(before.value), self._declared[before.cascade])

    def close(self) -> None:
        """Let go of the store."""
        self._changes.close()

    def history(self, limit: int, cascade: str | None = None) -> list[Change]:
        """The newest changes, the latest first."""
        return self._changes.history(cascade, limit)

    def _checked(self, cascade: str, kind: str, value: Any) -> Mapping[str, Any]:
        if kind == "kill_switch":
            if not isinstance(value, Mapping) or not isinstance(value.get("on"), bool):
                raise InputError('the kill switch is {"on": true} or {"on": false}')
            return {"on": value["on"]}
        if cascade not in self._states:
            raise InputError(f"there is no cascade {cascade!r}; there are: {', '.join(self._states)}")
        if kind == "mode":
            return checked_mode(value, self._states[cascade])
        return thresholds_value(_of_same_supervisors(checked_thresholds(value), self._declared[cascade]))


def _of_same_supervisors(thresholds: Thresholds, declared: State) -> Thresholds:
    """The thresholds, which must be of the learned supervisors that the gateway was started with: a threshold's scale
    is its supervisor's."""
    for level in ("first_level", "second_level"):
        wanted, there = (getattr(one, level).get("sha256") for one in (thresholds, declared.thresholds))
        if wanted != there:
            theirs = "a learned supervisor" if wanted else "no learned supervisor"
            ours = "another one" if wanted and there else "one" if there else "none"
            raise InputError(
                f"these thresholds were chosen with {theirs} at the {level.replace('_', ' ')}, and the gateway was "
                f"started with {ours}: put their file in the place of the cascade's, and start again"
            )
    return thresholds


def _with_mode(state: State, stored: Change | None, declared: State) -> State:
    mode: Mapping[str, Any] = {} if stored is None else stored.value
    return replace(
        state,
        mode=Mode(mode.get("mode", declared.mode)),
        share=float(mode.get("share", declared.share)),
        share_by=str(mode.get("share_by", declared.share_by)),
    )


def _with_thresholds(state: State, stored: Change | None, declared: State) -> State:
    thresholds = declared.thresholds
    if stored is not None:
        thresholds = _of_same_supervisors(checked_thresholds(stored.value), declared)
    return replace(state, thresholds=thresholds, thresholds_id=thresholds.id)
