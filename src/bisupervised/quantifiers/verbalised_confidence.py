"""Verbalised confidence: the number that a language model writes when it is asked how sure it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from bisupervised.errors import EvidenceError
from bisupervised.quantifiers.port import CostClass
from bisupervised.records import Evidence, FloatArray, ModelOutput

# Every repetition is bounded: a reply is text from outside, and must not take time that grows with its square.
#: A number that is not a part of another one: of 0,95 and of 1.000.000 nothing is read.
_NUMBER: Final = r"(?<![\w.,-])(?P<number>\d{1,9}(?:\.\d{1,20})?|\.\d{1,20})(?![.,]?\d)"
#: What it is a part of; what follows must not be another whole, as in 9/10.
_UNIT: Final = (
    r"\s{0,3}(?P<unit>%|percent\b|per\s{1,3}cent\b|/\s{0,3}100\b|out\s{1,3}of\s{1,3}100\b"
    r"|/\s{0,3}1(?:\.0{1,3})?(?![\d.]))?"
    r"(?!\w)(?!\s{0,3}(?:/|out\s{1,3}of\b))"
)
_ASIDE: Final = r"(?:[\s_-]{1,3}(?:score|level|rating))?[\"'*_]{0,3}(?:\s{0,3}\([^()\n]{0,40}\))?\s{0,3}"
_QUOTES: Final = r"[\s\"'*_~]{0,9}(?:about\s{1,3}|around\s{1,3})?"
#: `Confidence: 85 %`, `"confidence": 0.85`, `with a confidence of 85`; a probability of 3 heads is none.
_PATTERNS: Final = (
    re.compile(rf"\b(?:confidence|certainty){_ASIDE}(?:[:=]|\bis\b|\bof\b)?{_QUOTES}{_NUMBER}{_UNIT}", re.I),
    re.compile(rf"\bprobability{_ASIDE}(?:[:=]|\bis\b){_QUOTES}{_NUMBER}{_UNIT}", re.I),
    re.compile(rf"{_NUMBER}{_UNIT}\s{{1,3}}(?:confident|certain|sure)\b", re.I),
    re.compile(rf"\A{_NUMBER}{_UNIT}\.?\Z", re.I),
)


@dataclass(frozen=True, slots=True)
class VerbalisedConfidence:
    """confidence = the number that the reply states, from 0 to 100 or from 0 to 1, as one in [0, 1]; NaN without one.

    For prompts that ask for the answer and the confidence in one reply (one stage: Tian et al., EMNLP 2023). Read are
    `Confidence: 85`, `"confidence": 0.85` in JSON, `85% confident`, `85/100` after such a word, and a reply that is
    nothing but a number; of several the last. `scale` is `"percent"`, `"unit"`, or `"auto"`: above 1 the number is
    one of a hundred, below 1 one of one, and a bare `1`, which may be either, is no evidence. A number outside its
    scale is none either. Models tend to be too sure of themselves: calibrate.

    >>> replies = ["Rome. Confidence: 90%", '{"answer": "Oslo", "confidence": 0.4}', "Bern, I think"]
    >>> VerbalisedConfidence()(ModelOutput(np.array(["Rome", "Oslo", "Bern"]), texts=replies))
    array([0.9, 0.4, nan])
    """

    scale: str = "auto"
    name: ClassVar[str] = "verbalised_confidence"
    needs: ClassVar[Evidence] = Evidence.TEXT
    cost_class: ClassVar[CostClass] = CostClass.C0
    extra_calls: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if self.scale not in ("auto", "percent", "unit"):
            raise EvidenceError(f"scale is 'auto', 'percent' or 'unit', not {self.scale!r}")

    def __call__(self, output: ModelOutput) -> FloatArray:
        if output.texts is None:
            raise EvidenceError(
                "the model output holds no text of the replies; use a quantifier that needs what the model gives, or "
                "a model that returns `texts`"
            )
        if len(output.texts) != len(output):
            raise EvidenceError(f"texts has {len(output.texts)} rows for {len(output)} predictions")
        return np.array([self.read(text) for text in output.texts], dtype=np.float64)

    def read(self, text: str | None) -> float:
        """The confidence that a reply states, in [0, 1]; NaN when it states none."""
        if text is None:
            return float("nan")
        if not isinstance(text, str):
            raise EvidenceError(f"a reply must be a text, not {type(text).__name__}")
        found = [match for pattern in _PATTERNS for match in pattern.finditer(text.strip())]
        if not found:
            return float("nan")
        last = max(found, key=lambda match: match.start("number"))
        confidence = self._in_unit(last["number"], last["unit"])
        return confidence if 0.0 <= confidence <= 1.0 else float("nan")

    def _in_unit(self, written: str, unit: str | None) -> float:
        number = float(written)
        if unit is not None:
            return number if unit.startswith("/") and "100" not in unit else number / 100.0
        if self.scale != "auto":
            return number if self.scale == "unit" else number / 100.0
        if written == "1":
            return float("nan")
        return number if number <= 1.0 else number / 100.0
