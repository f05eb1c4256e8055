"""What a replay takes from the options and from the cascade's section of the configuration."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bisupervised.cascade import Level
from bisupervised.config import Configured, load_file
from bisupervised.errors import ConfigError, InputError, MissingExtra
from bisupervised.evaluation.agreement import GRADES, label_reader
from bisupervised.evaluation.replayed import REQUEST_RATES, Question
from bisupervised.models.openai_reply import Prices, Usage
from bisupervised.models.port import Model
from bisupervised.replaying import RemotePrices
from bisupervised.request_logs import LoggedRequest
from bisupervised.request_logs.records import hash_of

#: Settings of a level that change nothing about what it answers, and how sure it is.
_OF_TRANSPORT = frozenset(
    (
        "api_key",
        "api_key_env",
        "api_key_file",
        "headers",
        "timeout_s",
        "attempts",
        "max_concurrency",
        "cache",
        "inline",
    )
) | {"max_waiting", "breaker_failures", "breaker_reset_s", "cost_per_input", "prompt_price", "completion_price"}
#: Which of a request's texts an in-process model is given.
_INPUTS = ("last_message", "messages", "body")
#: Characters of a token, by rule of thumb.
_CHARACTERS_A_TOKEN = 4
#: Tokens of an answer whose length the log does not say.
_ANSWER_TOKENS = 100


def cascade_of(args: argparse.Namespace) -> Configured | None:
    """The cascade that the options name, its own log unopened; None when local answers are recorded already."""
    if args.config is None and args.recorded is not None:
        return None
    path = args.config or Path("cascade.toml")
    cascades, _ = load_file(path, logs=False)
    chosen = [one for one in cascades if args.cascade in (None, one.name)]
    for one in cascades:
        if one not in chosen[:1]:
            one.close()
    names = ", ".join(one.name for one in cascades)
    if not chosen:
        raise ConfigError(f"{path} has no cascade {args.cascade!r}; it has: {names}")
    if len(chosen) > 1:
        raise ConfigError(f"{path} has several cascades; choose one with --cascade: {names}")
    return chosen[0]


def scored_by(section: Mapping[str, Any]) -> Callable[[str], bool]:
    """Which kinds of requests the gateway scores nevertheless, by the cascade's rules."""
    rules = section.get("gateway", {}).get("unscorable", {})
    return lambda kind: bool(rules.get(kind) == "score")


def prices_of(args: argparse.Namespace, section: Mapping[str, Any]) -> RemotePrices:
    """What requests cost where the log does not say: by the options, else by the remote level's settings."""
    given = (args.remote_prompt_price, args.remote_completion_price, args.remote_cached_prompt_price)
    if given == (None, None, None):
        remote = section.get("remote", {})
        given = tuple(remote.get(name) for name in ("prompt_price", "completion_price", "cached_prompt_price"))
        constant = remote.get("cost_per_input") if args.remote_cost is None else args.remote_cost
    else:
        constant = args.remote_cost
    prompt, completion, cached = given
    if (prompt is None) != (completion is None):
        raise InputError("give --remote-prompt-price and --remote-completion-price together (0 for what is free)")
    prices = None if prompt is None or completion is None else Prices(prompt, completion, cached)
    if args.remote_cost is not None and args.remote_prompt_price is None:
        prices = None  # whoever gives a cost of one request means it
    return RemotePrices(prices, constant)


def question_of(args: argparse.Namespace, section: Mapping[str, Any], cascade: Configured | None) -> Question:
    """How the replay is judged."""
    threshold = math.nan if cascade is None else cascade.thresholds.local
    labels = labels_of(args, section)
    return Question(
        grade=GRADES[args.agreement],
        read_label=label_reader(labels) if labels else None,
        request_rates=REQUEST_RATES if args.request_rate is None else args.request_rate,
        configured_threshold=math.nan if threshold == math.inf else threshold,
        max_disagreement=args.max_disagreement,
        margin=args.margin,
        seed=args.seed,
    )


def labels_of(args: argparse.Namespace, section: Mapping[str, Any]) -> Mapping[Any, Sequence[str]]:
    """The labels that answers are, with the spellings of each; empty where they are texts."""
    if args.labels is not None:
        return {label: [label] for part in args.labels.split(",") if (label := part.strip())}
    spellings: dict[Any, list[str]] = {}
    for level in ("local", "remote"):
        for label, words in section.get(level, {}).get("labels", {}).items():
            spellings.setdefault(label, []).extend(words)
    return spellings or {label: [str(label)] for label in section.get("local", {}).get("classes", ())}


def fingerprint(section: Mapping[str, Any]) -> str:
    """What names the local model with all that decides what it answers."""
    return hash_of({name: value for name, value in section.items() if name not in _OF_TRANSPORT})


def local_level(cascade: Configured, args: argparse.Namespace) -> tuple[Level, Callable[[LoggedRequest], Any]]:
    """The 1st level, and what its model is given of a request.

    An OpenAI-compatible one is asked as the gateway asks it: the whole request, with the client's settings; with a
    `prompt` of its own (which the gateway does not use), the last user message's text. A recording is given the id,
    any other model the text that `input` names.
    """
    section, level = cascade.section["local"], cascade.system.local
    if args.local_cost is not None:
        level = replace(level, cost=args.local_cost)
    if section["model"] == "recorded":
        return level, lambda request: request.id
    if section["model"] == "openai" and "prompt" not in section:
        return replace(level, model=_as_the_gateway(cascade)), lambda request: request
    which = str(section.get("input", "last_message"))
    if which not in _INPUTS:
        raise ConfigError(f"the local level's input is {', '.join(_INPUTS)}; not {which!r}")
    return level, lambda request: request.text(which)


def _as_the_gateway(cascade: Configured) -> Model:
    try:
        from bisupervised.gateway.level_model import LevelModel
    except ImportError as error:
        raise MissingExtra(error.name or "msgspec", "gateway") from error
    return LevelModel(cascade)


def local_spend(args: argparse.Namespace, section: Mapping[str, Any], missing: Sequence[LoggedRequest]) -> float:
    """About what the local model's answers will cost; 0 for one without a price."""
    if "prompt_price" not in section and "completion_price" not in section:
        one = section.get("cost_per_input", 0.0) if args.local_cost is None else args.local_cost
        return float(one) * len(missing)
    prices = Prices(section.get("prompt_price", 0.0), section.get("completion_price", 0.0))
    total = 0.0
    for request in missing:
        written = len(str(request.body)) / _CHARACTERS_A_TOKEN
        prompt = written if math.isnan(request.usage.prompt) else request.usage.prompt
        answer = _ANSWER_TOKENS if math.isnan(request.usage.completion) else request.usage.completion
        total += prices.cost(Usage(prompt, answer))
    return total
