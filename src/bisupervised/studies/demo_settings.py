"""What the demo is asked to do, and what that will cost."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bisupervised.calibration import RemoteEven, Target
from bisupervised.errors import ConfigError, InputError
from bisupervised.models.openai_reply import Prices, Usage
from bisupervised.studies.demo_prompt import MAX_ANSWER_TOKENS, messages_of, tokens_in
from bisupervised.studies.demo_reviews import ReviewParts

#: US dollars per million tokens, for the demo's own remote model, which costs nothing: what the same tokens would
#: cost at the list price of a hosted model. For illustration; look the price of your model up.
ILLUSTRATIVE_PRICES: Mapping[str, Any] = {
    "as_of": "2026-04",
    "list_price_of": "GPT-4.1",
    "prompt": 2.0,
    "completion": 8.0,
}
PRICE_NOTE = (
    f"Costs are illustrative: the demo's remote model is free; its tokens (four characters each) are counted at the "
    f"list price of {ILLUSTRATIVE_PRICES['list_price_of']} as of {ILLUSTRATIVE_PRICES['as_of']}, "
    f"${ILLUSTRATIVE_PRICES['prompt']:g} per million prompt tokens and ${ILLUSTRATIVE_PRICES['completion']:g} per "
    f"million answer tokens."
)
DEFAULT_KEY_ENV = "OPENAI_API_KEY"
ROWS = 8_000
REMOTE_ROWS = 600
MIN_ROWS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings:
    """What to run. Raises `ConfigError` or `InputError` for settings that do not fit together."""

    rows: int | None = None  #: reviews that the remote model is asked about; None: 8,000, or 600 with `remote_url`
    calibration_share: float = 0.375  #: of `rows`; the others are the test
    train_rows: int | None = None  #: None: all other reviews
    seed: int = 0
    target: Target = field(default_factory=RemoteEven)
    delay_s: float = 0.03  #: seconds that the demo's own remote model waits besides computing
    concurrency: int = 12  #: the most remote requests at a time
    remote_url: str | None = None  #: an OpenAI-compatible endpoint, up to `/v1`; None: the demo's own
    remote_model: str | None = None  #: its model
    remote_key_env: str | None = None  #: variable with the key; None: OPENAI_API_KEY if it is set, else no key
    remote_prompt_price: float | None = None  #: currency units per million tokens; None: not known
    remote_completion_price: float | None = None
    remote_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if (self.remote_url is None) != (self.remote_model is None):
            raise ConfigError("give the remote URL and the remote model together, or neither")
        if self.remote_url is None and self.remote_key_env is not None:
            raise ConfigError("a key is for a remote URL; the demo's own remote model needs none")
        if (self.remote_prompt_price is None) != (self.remote_completion_price is None):
            raise ConfigError("give the prices of prompt and answer tokens together, or neither")
        if self.rows is not None and self.rows < MIN_ROWS:
            raise InputError(f"rows must be at least {MIN_ROWS}, not {self.rows}: figures of fewer say nothing")
        if not 0.0 < self.calibration_share < 1.0:
            raise InputError(f"the calibration share lies between 0 and 1, not at {self.calibration_share}")
        if self.concurrency < 1 or not 0.0 <= self.delay_s < math.inf:
            raise InputError("concurrency is at least 1, and the delay a number of seconds, 0 or more")
        if self.remote_url is None and self.remote_prompt_price is not None:
            raise ConfigError("prices are for a remote URL; the demo's own remote model has illustrative ones")

    @property
    def asked_rows(self) -> int:
        """Reviews that the remote model is asked about, each once."""
        return self.rows or (ROWS if self.remote_url is None else REMOTE_ROWS)

    @property
    def calibration_rows(self) -> int:
        """Reviews that choose the thresholds."""
        return round(self.asked_rows * self.calibration_share)

    @property
    def test_rows(self) -> int:
        """Reviews that the system is judged on."""
        return self.asked_rows - self.calibration_rows

    @property
    def prices(self) -> Prices | None:
        """Prices of the remote model in use, per million tokens; None: not known."""
        if self.remote_url is None:
            return Prices(ILLUSTRATIVE_PRICES["prompt"], ILLUSTRATIVE_PRICES["completion"])
        if self.remote_prompt_price is None or self.remote_completion_price is None:
            return None
        return Prices(self.remote_prompt_price, self.remote_completion_price)

    @property
    def key_env(self) -> str | None:
        """The environment variable that the key is read from; None: no key is sent."""
        if self.remote_url is None or self.remote_key_env is not None:
            return self.remote_key_env
        return DEFAULT_KEY_ENV if os.environ.get(DEFAULT_KEY_ENV) else None


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What a run will ask of the remote model, before anything is asked."""

    calls: int  #: one for each review, and one to see whether the endpoint gives what is needed
    prompt_tokens: int  #: by the rule of thumb of four characters a token
    completion_tokens: int  #: at most
    cost: float  #: currency units; NaN: prices not known
    real_money: bool  #: False for the demo's own remote model, whose prices are illustrative


def estimate(settings: DemoSettings, parts: ReviewParts) -> CostEstimate:
    """Calls, tokens and cost of the run; failed requests that are asked again come on top."""
    asked = [parts.train.texts[0], *parts.calibration.texts, *parts.test.texts]
    prompt = sum(tokens_in(messages_of(text)) for text in asked)
    completion = len(asked) * (MAX_ANSWER_TOKENS if settings.remote_url else 1)
    cost = math.nan if settings.prices is None else settings.prices.cost(Usage(prompt, completion))
    return CostEstimate(len(asked), prompt, completion, cost, real_money=settings.remote_url is not None)
