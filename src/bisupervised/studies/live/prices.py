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

    def at(self, model: ModelPrice) -> ListPrice:
        """What answers cost where the remote ones are this model's."""
        return ListPrice(model, self.usd_per_processor_hour)

    def with_tokens(self, table: Table, study: str) -> Table:
        """The table with the tokens that a language model would be paid for, where the remote model counted none.

        Of a text, those that the encoder's tokenizer counted, and of a photograph those of the price table; the words
        around them and those of the answer are the price table's too. NaN stays where neither is known.
        """
        given = table.extra.get("remote_prompt_tokens")
        if given is not None and not np.isnan(_floats(given)).all():
            return table
        n = len(table)
        text = table.extra.get("remote_text_tokens")
        tokens = np.full(n, self.image_tokens if study == "imagenet" else np.nan) if text is None else _floats(text)
        counted = {
            "remote_prompt_tokens": tokens + self.classification_tokens,
            "remote_completion_tokens": np.where(np.isnan(tokens), np.nan, self.answer_tokens),
        }
        return replace(table, extra={**table.extra, **counted})


@dataclass(frozen=True, slots=True)
class ListPrice:
    """The price of one model's tokens and of a processor's time."""

    model: ModelPrice
    usd_per_processor_hour: float

    def cost_of(self, prompt_tokens: Any, completion_tokens: Any) -> FloatArray:
        """(n,) the price of requests of so many tokens; NaN where they are not known.

        >>> ListPrice(ModelPrice("m", 2.0, 8.0), 0.05).cost_of([1000.0, np.nan], [100.0, 1.0])
        array([0.0028,    nan])
        """
        return self.model.cost(_floats(prompt_tokens), _floats(completion_tokens))

    def local_cost(self, cpu_s: Any) -> FloatArray:
        """(n,) the price of so many processor seconds; NaN where they are not known."""
        return _floats(cpu_s) / 3600.0 * self.usd_per_processor_hour


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
