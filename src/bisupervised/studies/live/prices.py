"""What an answer costs: a dated list of prices that can be edited, and the tokens and seconds it is made of."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
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

    def remote_cost(self, table: Table, name: str) -> FloatArray:
        """(n,) what the remote answers would cost from the large model of the list.

        Tokens are those that the remote model counted itself; of a text classifier, those of the text by its own
        tokenizer, the instruction and the answer; of a photograph, those of the price table. NaN: not known.
        """
        prompt, completion = (table.extra.get(f"remote_{what}_tokens") for what in ("prompt", "completion"))
        if prompt is not None and completion is not None and not np.isnan(prompt).all():
            return self.large.cost(_floats(prompt), _floats(completion))
        n = len(table)
        text = table.extra.get("remote_text_tokens")
        tokens = np.full(n, np.nan) if text is None else _floats(text)
        if name.startswith("imagenet"):
            tokens = np.full(n, self.image_tokens)
        return self.large.cost(tokens + self.classification_tokens, np.full(n, self.answer_tokens))

    def local_cost(self, table: Table) -> FloatArray:
        """(n,) what the local answers cost: the processor's time."""
        cpu_s = table.extra.get("local_cpu_s")
        return np.full(len(table), np.nan) if cpu_s is None else _floats(cpu_s) / 3600.0 * self.usd_per_processor_hour


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
