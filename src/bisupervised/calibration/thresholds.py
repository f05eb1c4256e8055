"""`thresholds.toml`: the two thresholds with their evidence. What a system runs on, and can be held to."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bisupervised.decision import check_threshold
from bisupervised.errors import ThresholdError

ASSUMPTION = "Holds as far as future inputs come from where the calibration rows came from (exchangeability)."


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Two thresholds, the target they were chosen for, and what they achieved."""

    local: float
    remote: float
    target: Mapping[str, Any] = field(default_factory=dict)  #: name and settings
    evidence: Mapping[str, Any] = field(default_factory=dict)  #: n, data hash, seed, date, split
    achieved: Mapping[str, Any] = field(default_factory=dict)  #: figures by glossary name, held out where said

    def __post_init__(self) -> None:
        check_threshold(self.local, "local threshold")
        check_threshold(self.remote, "remote threshold")

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that name these thresholds in logs and headers."""
        text = json.dumps(
            [self.local, self.remote, dict(self.target), dict(self.evidence)], sort_keys=True, default=str
        )
        return hashlib.sha256(text.encode()).hexdigest()[:12]

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
        for name in ("target", "evidence", "achieved"):
            values: Mapping[str, Any] = getattr(self, name)
            if values:
                lines = [f"{key} = {_toml(value)}" for key, value in values.items() if value is not None]
                sections += ["", f"[{name}]", *lines]
        return "\n".join(sections) + "\n"

    def save(self, path: str | Path) -> None:
        """Write the file, replacing it in one step."""
        path = Path(path)
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
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ThresholdError(f"{path} cannot be read as a thresholds file: {error}") from error
        given = values.get("thresholds", {})
        if not isinstance(given, dict) or not {"local", "remote"} <= given.keys():
            raise ThresholdError(f"{path} needs a [thresholds] table with local = … and remote = …")
        return cls(
            local=check_threshold(given["local"], f"{path}: thresholds.local"),
            remote=check_threshold(given["remote"], f"{path}: thresholds.remote"),
            target=values.get("target", {}),
            evidence=values.get("evidence", {}),
            achieved=values.get("achieved", {}),
        )


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if math.isnan(value):
            return "nan"
        return ("inf" if value > 0 else "-inf") if math.isinf(value) else repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    # A JSON string is a TOML basic string, but for DEL, which JSON leaves as it is.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
