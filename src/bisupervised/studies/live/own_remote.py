"""A user's own models in the place of a study's: any OpenAI-compatible or v2 endpoint, or a model of the hub.

What that will cost is estimated before anything is asked; the answers are kept beside those of the study's models.
"""

from __future__ import annotations

import importlib
import ipaddress
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from bisupervised.errors import ConfigError, InputError
from bisupervised.models.open_inference import OpenInferenceModel
from bisupervised.models.openai import OpenAIModel
from bisupervised.models.openai_reply import Prices as TokenPrices
from bisupervised.models.openai_reply import Usage
from bisupervised.models.port import Model
from bisupervised.models.retry import Retry
from bisupervised.models.wrapper import Wrapper
from bisupervised.records import LevelName, ModelOutput
from bisupervised.studies.demo_prompt import tokens_in
from bisupervised.studies.live.prices import ModelPrice, Prices
from bisupervised.studies.live.prompts import MAX_TOKENS, PROMPTS, TOP_LOGPROBS, LabelledAnswers
from bisupervised.studies.live.recording import left_to_ask
from bisupervised.studies.live.study import LiveStudy, RunningModel

ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnModels:
    """The models that a user names. Raises `ConfigError` for names that do not go together."""

    remote_url: str | None = None  #: of an OpenAI-compatible endpoint, up to `/v1`
    remote_v2: str | None = None  #: of a server of the Open Inference Protocol v2, up to before `/v2`
    remote_model: str | None = None  #: its model
    remote_key_env: str | None = None  #: the environment variable that holds its key; None: no key is sent
    remote_hub: str | None = None  #: a model of the Hugging Face hub
    local_hub: str | None = None
    prompt_price: float | None = None  #: currency units per million tokens
    completion_price: float | None = None
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        remotes = [one for one in (self.remote_url, self.remote_v2, self.remote_hub) if one is not None]
        if len(remotes) > 1:
            raise ConfigError("name one remote model: --remote-url, --remote-v2 or --remote-hub")
        endpoint = self.remote_url or self.remote_v2
        if (endpoint is None) != (self.remote_model is None):
            raise ConfigError("give the model's name, --remote-model, together with --remote-url or --remote-v2")
        if endpoint is not None and urlsplit(endpoint).scheme not in ("http", "https"):
            raise ConfigError(f"the remote address {endpoint!r} does not begin with http:// or https://")
        if self.remote_key_env is not None and endpoint is None:
            raise ConfigError("--remote-key-env is for --remote-url or --remote-v2")
        if (self.prompt_price is None) != (self.completion_price is None):
            raise ConfigError("give the prices of prompt and answer tokens together, or neither")
        if self.prompt_price is not None and self.remote_url is None:
            raise ConfigError("prices per token are for --remote-url")
        if self.prompt_price is not None and self.completion_price is not None:
            TokenPrices(self.prompt_price, self.completion_price)  # refuses what is no price

    @property
    def remote(self) -> str | None:
        """The name of the remote model; None: the study's own."""
        return self.remote_model or self.remote_hub

    @property
    def kept_as(self) -> dict[str, str]:
        """The folders of the levels that are not the study's own: see `record_study`."""
        named = {LevelName.LOCAL: self.local_hub, LevelName.REMOTE: self.remote}
        return {level.value: f"{level.value}-{_slug(name)}" for level, name in named.items() if name is not None}

    def price(self, prices: Prices) -> ModelPrice | None:
        """What the endpoint's tokens cost: as given, or as listed for a model of that name; None: not known."""
        if self.remote_model is None:
            return None
        if self.prompt_price is not None and self.completion_price is not None:
            return ModelPrice(self.remote_model, self.prompt_price, self.completion_price)
        return next((one for one in (prices.small, prices.large) if one.model == self.remote_model), None)


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model"


def is_loopback(url: str) -> bool:
    """Whether an address is of this machine, where calls cost nothing.

    >>> is_loopback("http://localhost:8080/v1"), is_loopback("http://127.0.0.1.evil.example/v1")
    (True, False)
    """
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def with_own_models(study: LiveStudy, own: OwnModels, prices: Prices) -> LiveStudy:
    """The study with the user's models in the place of its own. Raises `ConfigError` where it cannot take one."""
    if own.local_hub is not None:
        study = replace(study, local=_from_hub(study, own.local_hub), truncated=_without(study, LevelName.LOCAL))
    if own.remote is None:
        return study
    remote: Callable[[], AbstractContextManager[RunningModel]]
    if own.remote_url is not None:
        remote = _running(_openai(study, own, prices))
    elif own.remote_v2 is not None:
        remote = _running(_v2(study, own))
    else:
        assert own.remote_hub is not None
        remote = _from_hub(study, own.remote_hub)
    return replace(study, remote=remote, truncated=_without(study, LevelName.REMOTE))


def _without(study: LiveStudy, level: LevelName) -> dict[str, Any]:
    """Which inputs are too long for each level; of the one that has another model now that is not known."""
    return {**study.truncated, level.value: np.full(len(study.ids), np.nan)}


def _running(make: Callable[[], Model]) -> Callable[[], AbstractContextManager[RunningModel]]:
    @contextmanager
    def running() -> Iterator[RunningModel]:
        yield RunningModel(make())

    return running


def _retried(model: Model, own: OwnModels) -> Model:
    return Retry(model, ATTEMPTS, timeout_s=2 * own.timeout_s)


def _openai(study: LiveStudy, own: OwnModels, prices: Prices) -> Callable[[], Model]:
    price = own.price(prices)
    assert own.remote_model is not None
    assert own.remote_url is not None
    name, url = own.remote_model, own.remote_url
    _messages_of(study)  # before anything is asked: can the study be asked so?

    def make() -> Model:
        asked: dict[str, Any] = {
            "api_key_env": own.remote_key_env,
            "prompt_price": None if price is None else price.prompt_per_million,
            "completion_price": None if price is None else price.completion_per_million,
            "timeout_s": own.timeout_s,
        }
        prompt = PROMPTS.get(study.name)
        if prompt is None:
            from bisupervised.studies.live import squadv2

            asked |= {"prompt": squadv2.messages, "read_label": squadv2.read_reply}
            asked |= {"top_logprobs": squadv2.ALTERNATIVES, "max_tokens": squadv2.MAX_TOKENS}
            return _retried(OpenAIModel(name, url, **asked), own)
        asked |= {"prompt": prompt.messages, "read_label": prompt.read_label}
        asked |= {"top_logprobs": TOP_LOGPROBS, "max_tokens": MAX_TOKENS}
        return _retried(LabelledAnswers(OpenAIModel(name, url, **asked), prompt), own)

    return make


def _messages_of(study: LiveStudy) -> tuple[Callable[[Any], list[dict[str, str]]], int]:
    """(the conversation about an input, the most tokens of an answer)."""
    if study.name in PROMPTS:
        return PROMPTS[study.name].messages, MAX_TOKENS
    if study.name == "squadv2":
        from bisupervised.studies.live import squadv2

        return squadv2.messages, squadv2.MAX_TOKENS
    raise ConfigError(
        f"a language model cannot be asked for the classes of {study.name}: an own remote of this study is a "
        f"classifier behind the v2 protocol, --remote-v2, or of the hub, --remote-hub"
    )


def _v2(study: LiveStudy, own: OwnModels) -> Callable[[], Model]:
    if study.labels is None:
        raise ConfigError(f"{study.name} has no classes: its own remote is a language model, --remote-url")
    assert own.remote_model is not None
    assert own.remote_v2 is not None
    name, url, classes = own.remote_model, own.remote_v2, classes_of(study)

    def make() -> Model:
        model = OpenInferenceModel(
            name,
            url,
            classes,
            datatype="BYTES",
            renormalise=True,
            api_key_env=own.remote_key_env,
            timeout_s=own.timeout_s,
        )
        return _retried(Reading(model, text_of(study.name)), own)

    return make


def classes_of(study: LiveStudy) -> list[Any]:
    """The classes in the order of a classifier's columns: of numbers up to the largest, of names by the alphabet."""
    if study.name == "imagenet":
        return list(range(1000))
    known = sorted({label for label in study.labels or () if label is not None})
    return list(range(max(known) + 1)) if known and all(isinstance(one, int) for one in known) else known


def text_of(study: str) -> Callable[[Any], Any]:
    """What a classifier of texts reads of an input; pictures stay the bytes that they are."""
    if study == "issues":
        from bisupervised.studies.live.issues import remote_text

        return remote_text
    return lambda x: x


def _from_hub(study: LiveStudy, name: str) -> Callable[[], AbstractContextManager[RunningModel]]:
    @contextmanager
    def running() -> Iterator[RunningModel]:
        import time

        try:
            module = importlib.import_module("bisupervised.models.hugging_face")
        except ModuleNotFoundError as error:
            if error.name != "bisupervised.models.hugging_face":
                raise
            raise InputError("this version of bisupervised loads no models of the hub") from error
        model: Model = module.HuggingFaceModel.load(name)
        yield RunningModel(Reading(model, text_of(study.name)), time.process_time)

    return running


class Reading(Wrapper):
    """A model that is given what `read` makes of an input."""

    def __init__(self, model: Model, read: Callable[[Any], Any]) -> None:
        super().__init__(model)
        self._read = read

    def _predict_now(self, inputs: Sequence[Any]) -> ModelOutput:
        return self._ask_now([self._read(x) for x in inputs])

    async def _predict_later(self, inputs: Sequence[Any]) -> ModelOutput:
        return await self._ask_later([self._read(x) for x in inputs])


# ---------------------------------------------------------------- what it will cost


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What a recording will ask of a user's endpoint, before anything is asked."""

    study: str
    calls: int  #: one for each input that is not answered yet; failed ones that are tried again come on top
    prompt_tokens: int  #: by the rule of thumb of four characters a token
    completion_tokens: int  #: at most
    cost: float  #: currency units, at most; NaN: not known
    currency: str
    loopback: bool  #: it is on this machine

    @property
    def needs_consent(self) -> bool:
        """Whether this may spend money."""
        return self.calls > 0 and not self.loopback and self.cost != 0.0

    def __str__(self) -> str:
        if self.calls == 0:
            return f"{self.study}: every answer is recorded already, nothing is asked"
        amount = f"{self.cost:,.2f}" if self.cost >= 1.0 or self.cost == 0.0 else f"{self.cost:.2g}"
        price = "cost not known (give both prices)" if math.isnan(self.cost) else f"at most {amount} {self.currency}"
        tokens = ""
        if self.prompt_tokens:
            tokens = f", about {self.prompt_tokens:,} prompt and at most {self.completion_tokens:,} answer tokens"
        return f"{self.study}: {self.calls:,} remote requests{tokens}; {price}"


def estimate(
    study: LiveStudy,
    own: OwnModels,
    folder: Path,
    prices: Prices,
    *,
    fresh: bool = False,
    retry_failed: bool = False,
) -> CostEstimate | None:
    """What a run will ask of the user's endpoint; None: there is none."""
    url = own.remote_url or own.remote_v2
    if url is None:
        return None
    rows = left_to_ask(
        study, folder, LevelName.REMOTE, fresh=fresh, retry_failed=retry_failed, kept_as=own.kept_as
    ).tolist()
    if own.remote_url is None:
        return CostEstimate(study.name, len(rows), 0, 0, math.nan, prices.currency, is_loopback(url))
    messages, answer = _messages_of(study)
    prompt, completion = sum(tokens_in(messages(study.inputs[row])) for row in rows), len(rows) * answer
    price = own.price(prices)
    cost = math.nan
    if price is not None:
        cost = TokenPrices(price.prompt_per_million, price.completion_per_million).cost(Usage(prompt, completion))
    return CostEstimate(study.name, len(rows), prompt, completion, cost, prices.currency, is_loopback(url))
