"""`thresholds.toml`: the thresholds with their evidence. What a system runs on, and can be held to."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.decision import check_threshold
from bisupervised.errors import ThresholdError

ASSUMPTION = "Holds as far as future inputs come from where the calibration rows came from (exchangeability)."


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The thresholds of both levels, the target they were chosen for, and what they achieved.

    `abstain` is the second one of the 1st level, below which an input is rejected without asking the remote model;
    -inf: never.
    """

    local: float
    remote: float
    target: Mapping[str, Any] = field(default_factory=dict)  #: name and settings
    evidence: Mapping[str, Any] = field(default_factory=dict)  #: n, data hash, seed, date, split
    achieved: Mapping[str, Any] = field(default_factory=dict)  #: figures by glossary name, held out where said
    abstain: float = -math.inf
    #: the learned supervisors that they were chosen with: `file`, beside the thresholds' own, its `sha256` and
    #: `kind`; empty: none
    first_level: Mapping[str, Any] = field(default_factory=dict)
    second_level: Mapping[str, Any] = field(default_factory=dict)
    #: what the calibration rows looked like, for `drift` (`monitoring.reference_of`); no part of the id
    reference: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = field(default=None, compare=False)  #: where their file lies, and those that it names

    def __post_init__(self) -> None:
        object.__setattr__(self, "abstain", check_threshold(self.abstain, "abstain threshold"))
        object.__setattr__(self, "local", check_threshold(self.local, "local threshold"))
        object.__setattr__(self, "remote", check_threshold(self.remote, "remote threshold"))

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that name these thresholds in logs and headers."""
        content = [self.local, self.remote, _plain(self.target), _plain(self.evidence)]
        if self.abstain != -math.inf:
            content.append(self.abstain)
        content += [str(named.get("sha256")) for named in (self.first_level, self.second_level) if named]
        text = json.dumps(content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def promises(self) -> list[Mapping[str, Any]]:
        """The evidence of each promise they carry: `promise`, `guarantee`, `delta`, `assumption`, `bounds`."""
        guarantee = self.evidence.get("guarantee", {})
        parts = [guarantee, *guarantee.values()] if isinstance(guarantee, Mapping) else []
        return [part for part in parts if isinstance(part, Mapping) and "promise" in part]

    def to_toml(self) -> str:
        """The file's text."""
        sections = [
            "# Written by `bisupervised calibrate`. A prediction is trusted iff its confidence >= the threshold.",
            f"# {ASSUMPTION}",
            f'id = "{self.id}"',
            "",
            "[thresholds]",
            f"local = {_toml(self.local)}",
            f"remote = {_toml(self.remote)}",
        ]
        if self.abstain != -math.inf:
            sections += [
                "# Below this local confidence an input is rejected at once: the remote model is not asked.",
                f"abstain = {_toml(self.abstain)}",
            ]
        for name in _SECTIONS:
            values: Mapping[str, Any] = _plain(getattr(self, name))
            if values:
                lines = [f"{_key(key)} = {_toml(value)}" for key, value in values.items()]
                sections += ["", f"[{name}]", *lines]
        return "\n".join(sections) + "\n"

    def save(self, path: str | Path) -> None:
        """Write the file, replacing it in one step."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(path.name + ".part")
        draft.write_text(self.to_toml(), encoding="utf-8")
        draft.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> Thresholds:
        """Read a thresholds file. Raises `ThresholdError` with what is wrong and what to do."""
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ThresholdError(
                f"there is no thresholds file {path}; `bisupervised calibrate` writes one"
            ) from error
        except (OSError, ValueError, RecursionError) as error:  # no TOML, no UTF-8: ValueErrors
            raise ThresholdError(f"{path} cannot be read as a thresholds file: {error}") from error
        given = values.get("thresholds", {})
        if not isinstance(given, dict) or not {"local", "remote"} <= given.keys():
            raise ThresholdError(f"{path} needs a [thresholds] table with local = … and remote = …")
        given = {"abstain": -math.inf, **given}
        for name in _NAMES:
            if isinstance(given[name], bool) or not isinstance(given[name], int | float):
                raise ThresholdError(f"{path}: thresholds.{name} must be a number, not {given[name]!r}")
        sections = {name: values.get(name, {}) for name in _SECTIONS}
        for name, section in sections.items():
            if not isinstance(section, dict):
                raise ThresholdError(f"{path}: {name} must be a table [{name}], not {section!r}")
        try:
            local, remote, abstain = (check_threshold(given[name], f"{path}: thresholds.{name}") for name in _NAMES)
        except OverflowError as error:
            raise ThresholdError(f"{path}: a threshold is too large a number; write inf to accept none") from error
        loaded = cls(local, remote, abstain=abstain, folder=Path(path).parent, **sections)
        written = values.get("id")
        if written is not None and written != loaded.id and "guarantee" in loaded.evidence:
            # Somebody changed a number: what was promised was promised of the others.
            evidence = {name: value for name, value in loaded.evidence.items() if name != "guarantee"}
            return replace(loaded, evidence={**evidence, "changed_since": written})
        return loaded


_NAMES = ("local", "remote", "abstain")
_SECTIONS = ("first_level", "second_level", "target", "evidence", "achieved", "reference")


def _plain(value: Any) -> Any:
    """The value as reading the file gives it back, so that a file has the id of what was written."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items() if one is not None}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(one) for one in value if one is not None]
    if isinstance(value, np.generic):
        value = value.item()
    return value if type(value) in (bool, int, float, str) else str(value)


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "a").replace("-", "a").isalnum() else _toml(key)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if math.isnan(value):
            return "nan"
        return ("inf" if value > 0 else "-inf") if math.isinf(value) else repr(value)
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    # A JSON string is a TOML basic string, but for DEL, which JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
