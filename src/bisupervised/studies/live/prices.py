"""What an answer costs: a dated list of prices that can be edited, and the tokens and seconds it is made of."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from bisupervised.errors import InputError
from bisupervised.records import FloatArray
from bisupervised.table import Table

_MILLION = 1e6


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """One API model's list price, in currency units per million tokens."""

    model: str
    prompt_per_million: float
    completion_per_million: float

    def cost(self, prompt: FloatArray, completion: FloatArray) -> FloatArray:
        """(n,) currency units; NaN where tokens are not known."""
        return (prompt * self.prompt_per_million + completion * self.completion_per_million) / _MILLION


@dataclass(frozen=True, slots=True)
class Prices:
    """A price table."""

    date: str
    currency: str
    small: ModelPrice
    large: ModelPrice
    image_tokens: float
    classification_tokens: float
    answer_tokens: float
    usd_per_processor_hour: float

    @classmethod
    def load(cls, path: Path | None = None) -> Prices:
        """A user's table, or the one that comes along. Raises `InputError` for one that lacks something."""
        text = (
            files("bisupervised.studies.live").joinpath("prices.toml").read_text(encoding="utf-8")
            if path is None
            else path.read_text(encoding="utf-8")
        )
        try:
            table = tomllib.loads(text)
            small, large = (_model(table[name]) for name in ("small", "large"))
            return cls(
                date=str(table["date"]),
                currency=str(table["currency"]),
                small=small,
                large=large,
                image_tokens=_price(table["image"]["tokens"]),
                classification_tokens=_price(table["prompt"]["classification_tokens"]),
                answer_tokens=_price(table["prompt"]["answer_tokens"]),
                usd_per_processor_hour=_price(table["local"]["usd_per_processor_hour"]),
            )
        except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError) as error:
            where = "the price table" if path is None else str(path)
            raise InputError(
                f"{where} is not complete ({type(error).__name__}: {error}); it has the form of "
                f"bisupervised/studies/live/prices.toml"
            ) from error

    def cost_of(self, prompt_tokens: FloatArray, completion_tokens: FloatArray) -> FloatArray:
        """(n,) what requests of so many tokens cost at the large model's prices; NaN where tokens are not known."""
        return self.large.cost(prompt_tokens, completion_tokens)

    def local_cost(self, cpu_s: FloatArray) -> FloatArray:
        """(n,) what so many processor seconds cost."""
        return cpu_s / 3600.0 * self.usd_per_processor_hour

    def with_tokens(self, table: Table, name: str) -> Table:
        """The table with the tokens that a commercial model would be sent, where the remote model counts none.

        Of a text classifier: those of the text by its own tokenizer, the instruction and the answer; of a photograph,
        those of the price table.
        """
        counted = table.extra.get("remote_prompt_tokens")
        if counted is not None and not np.isnan(_floats(counted)).all():
            return table
        n = len(table)
        text = table.extra.get("remote_text_tokens")
        tokens = np.full(n, np.nan) if text is None else _floats(text)
        if name.startswith("imagenet"):
            tokens = np.full(n, self.image_tokens)
        sent = {
            "remote_prompt_tokens": tokens + self.classification_tokens,
            "remote_completion_tokens": np.full(n, self.answer_tokens),
        }
        return replace(table, extra={**table.extra, **sent})


def _floats(column: Any) -> FloatArray:
    return np.asarray(column, dtype=np.float64)


def _model(entry: dict[str, Any]) -> ModelPrice:
    return ModelPrice(
        str(entry["model"]), _price(entry["prompt_per_million"]), _price(entry["completion_per_million"])
    )


def _price(value: Any) -> float:
    number = float(value)
    if not 0.0 <= number < float("inf"):
        raise ValueError(f"{value!r} is no price")
    return number
