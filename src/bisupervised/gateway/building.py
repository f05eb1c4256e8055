"""From `cascade.toml` to a service: the gateway's part of the composition root."""

from __future__ import annotations

import asyncio
import math
import os
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from time import time
from typing import Any

from bisupervised.calibration import Thresholds
from bisupervised.config import Configured, load_file, read_sections, thresholds_in
from bisupervised.decision_log import DecisionLog
from bisupervised.decision_log.changes import Changes
from bisupervised.decision_log.ledger import Ledger
from bisupervised.decision_log.sequence import Sequences
from bisupervised.errors import BiSupervisedError, ConfigError
from bisupervised.fallback import Call, Fallback, HandOver, Pending
from bisupervised.gateway.judging import ENDPOINT_DEFAULTS
from bisupervised.gateway.levels import Backend, InProcess, OverHttp
from bisupervised.gateway.modes import State
from bisupervised.gateway.service import Cascade, Service
from bisupervised.gateway.settings import (
    CascadeSettings,
    GatewaySettings,
    raise_problems,
    read_cascade,
    read_gateway,
    read_upstream,
)
from bisupervised.gateway.switching import Switchboard
from bisupervised.gateway.upstream import Pool, Upstream
from bisupervised.models.extra_calls import ExtraCalls
from bisupervised.models.openai_reply import Prices
from bisupervised.quantifiers import LabelProbability, Quantifier
from bisupervised.records import LevelName

#: Which of a request's texts an in-process model is given.
_INPUTS = ("last_message", "messages", "body")


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked file: what `build_service` puts together."""

    path: Path
    gateway: GatewaySettings
    cascades: tuple[Configured, ...]
    settings: Mapping[str, CascadeSettings]

    @property
    def log_path(self) -> Path:
        """Where the decision log is; relative to the file."""
        return self.path.parent / self.gateway.log

    def close(self) -> None:
        for one in self.cascades:
            one.close()


def read_plan(path: str | Path) -> Plan:
    """Everything a file says, checked; nothing is opened. Raises `ConfigError` naming every problem."""
    path = Path(path)
    problems: list[str] = []
    sections, gateway = read_sections(path)
    cascades: list[Configured] = []
    try:
        cascades, _ = load_file(path, logs=False)
    except BiSupervisedError as error:  # what is wrong with the gateway's part is said as well
        problems += [line.removeprefix(f"{path}: ") for line in str(error).splitlines()]
    settings = read_gateway(gateway, problems)
    per_cascade = {}
    for section in sections:
        name = str(section.get("name", ""))
        per_cascade[name] = read_cascade(name, section.get("gateway", {}), _interface(section), problems)
        _check_levels(name, section, settings, per_cascade[name], problems)
    problems = list(dict.fromkeys(problems))
    if problems:
        for one in cascades:
            one.close()
        raise_problems(path, problems)
    return Plan(path, settings, tuple(cascades), per_cascade)


def _interface(cascade: Mapping[str, Any]) -> str:
    return "openai" if _level(cascade, LevelName.REMOTE).get("model") == "openai" else "v2"


def _level(cascade: Mapping[str, Any], level: str) -> Mapping[str, Any]:
    section = cascade.get(level)
    return section if isinstance(section, Mapping) else {}


def _check_levels(
    name: str,
    cascade: Mapping[str, Any],
    gateway: GatewaySettings,
    settings: CascadeSettings,
    problems: list[str],
) -> None:
    capped = settings.daily_budget is not None or gateway.daily_budget is not None
    capped = capped or any(key.daily_budget is not None for key in gateway.keys)
    for level in LevelName:
        section, where = _level(cascade, level), f"cascade {name!r}, {level}"
        if section.get("input", "last_message") not in _INPUTS:
            problems.append(f"{where}: input is {', '.join(_INPUTS)}; not {section['input']!r}")
        if section.get("model") != "openai" or settings.interface == "v2":
            if capped and level is LevelName.REMOTE and section.get("cost_per_input") is None:
                problems.append(f"{where}: a daily budget needs cost_per_input, the most that one input costs")
            continue
        read_upstream(where, section, problems)
        priced = section.get("prompt_price") is not None or section.get("cost_per_input") is not None
        if capped and level is LevelName.REMOTE and not priced:
            problems.append(
                f"{where}: a daily budget needs prices: prompt_price and completion_price, or cost_per_input"
            )
        if capped and section.get("prompt_price") is not None and section.get("max_tokens") is None:
            problems.append(f"{where}: a daily budget needs max_tokens: without it a call has no highest cost")


# ---------------------------------------------------------------- the service


def build_service(plan: Plan, *, process: str | None = None) -> Service:
    """Open the store and put the service together. Raises `LogError` where the store cannot be opened."""
    process = process or f"{os.getpid()}-{secrets.token_hex(4)}"
    settings, path = plan.gateway, plan.log_path
    pool = Pool()
    log = DecisionLog(
        path,
        store_inputs=settings.store_inputs,
        capacity=settings.log_capacity,
        when_full="drop",
        synchronous="full" if settings.synchronous == "full" else "normal",
    )
    ledger = Ledger(path, _caps(plan), process=process)
    sequences = Sequences(path, process=process)
    cascades = [_cascade(plan, one, pool) for one in plan.cascades]
    return Service(settings, cascades, pool, log, ledger, sequences, switchboard(plan), path)


def switchboard(plan: Plan) -> Switchboard:
    """What holds for a plan's cascades, as its store knows it."""
    return Switchboard(Changes(plan.log_path), {one.name: _declared(plan, one) for one in plan.cascades})


def switchboard_of(path: str | Path) -> Switchboard:
    """What holds for the cascades of a file, as its store knows it; no model is built and no secret is read.

    Whoever throws a kill switch may have neither. Raises `ConfigError` for a file without a readable cascade.
    """
    path = Path(path)
    sections, gateway = read_sections(path)
    log = path.parent / str(gateway.get("log", GatewaySettings().log))
    if not log.exists():
        raise ConfigError(
            f"there is no decision log {log} yet: name the file that the gateway serves, or serve it once"
        )
    states = {}
    for section in sections:
        name = str(section.get("name", ""))
        if not name:
            raise ConfigError(f"{path}: every [[cascade]] needs a name")
        settings = read_cascade(name, section.get("gateway", {}), "openai", [])
        try:
            thresholds = thresholds_in(section.get("thresholds"), path.parent)
        except (BiSupervisedError, KeyError):
            thresholds = Thresholds(math.inf, math.inf)
        states[name] = State(settings.mode, settings.share, settings.share_by, thresholds, thresholds.id)
    if not states:
        raise ConfigError(f"{path}: there is no [[cascade]] section")
    return Switchboard(Changes(log), states)


def _declared(plan: Plan, one: Configured) -> State:
    settings, thresholds = plan.settings[one.name], one.thresholds
    return State(settings.mode, settings.share, settings.share_by, thresholds, thresholds.id)


def _caps(plan: Plan) -> dict[str, float]:
    caps = {"total": plan.gateway.daily_budget}
    caps |= {f"key:{key.name}": key.daily_budget for key in plan.gateway.keys}
    for name, settings in plan.settings.items():
        caps[f"cascade:{name}"] = settings.daily_budget
        caps[f"audit:{name}"] = settings.audit_daily_budget
    return {scope: cap for scope, cap in caps.items() if cap is not None}


def _cascade(plan: Plan, one: Configured, pool: Pool) -> Cascade:
    backends = {level: _backend(one, level, pool) for level in LevelName}
    supervisors = one.system.local.supervisor, one.system.remote.supervisor
    return Cascade(
        name=one.name,
        settings=_with_rules(plan.settings[one.name], backends[LevelName.LOCAL]),
        backends=backends,
        levels={LevelName.LOCAL: one.system.local, LevelName.REMOTE: one.system.remote},
        base_supervisors=supervisors,
        fallback=_in_loop(one.system.fallback),
        costs=one.system.costs,
        state=_declared(plan, one),
        supervisors=supervisors,
        created=int(time()),
    )


def _with_rules(settings: CascadeSettings, local: Backend) -> CascadeSettings:
    """The 1st level's rules, with the defaults that depend on what its model is."""
    defaults = ENDPOINT_DEFAULTS if isinstance(local, OverHttp) else {}
    return replace(settings, first_level_rules={**defaults, **settings.first_level_rules})


def _backend(one: Configured, level: LevelName, pool: Pool) -> Backend:
    section = one.section[level]
    if section["model"] == "openai":
        return endpoint_of(one, level, pool)
    built = one.system.local if level is LevelName.LOCAL else one.system.remote
    return InProcess(built, section.get("input", "last_message"))


def endpoint_of(one: Configured, level: str, pool: Pool) -> OverHttp:
    """A level's endpoint as the gateway asks it; its model must be `openai`."""
    section: Mapping[str, Any] = one.section[level]
    built = one.system.local if level == LevelName.LOCAL else one.system.remote
    cost = section.get("cost_per_input")
    if cost is None and level == LevelName.LOCAL and section.get("prompt_price") is None:
        cost = 0.0  # it is at hand
    return OverHttp(
        Upstream(read_upstream("", section, []), pool),
        built.supervisor.quantifier,
        prices=_prices(section),
        cost=None if cost is None else float(cost),
        label_of=_label_of(section),
        extra_calls=_extra_calls(built.supervisor.quantifier, section),
    )


def _prices(section: Mapping[str, Any]) -> Prices | None:
    if section.get("prompt_price") is None:
        return None
    cached = section.get("cached_prompt_price")
    return Prices(
        float(section["prompt_price"]),
        float(section.get("completion_price", 0.0)),
        None if cached is None else float(cached),
    )


def _label_of(section: Mapping[str, Any]) -> Callable[[str], Any] | None:
    return LabelProbability(section["labels"]).label_of if "labels" in section else None


def _extra_calls(quantifier: Quantifier, section: Mapping[str, Any]) -> ExtraCalls | None:
    calls = ExtraCalls.of(quantifier, section)
    return calls if calls.count else None


def _in_loop(fallback: Fallback) -> Fallback:
    """A fallback for the event loop: a plain function runs in a thread, and holds nobody up."""
    if isinstance(fallback, Call) and not asyncio.iscoroutinefunction(fallback.function):
        function, threads = fallback.function, ThreadPoolExecutor(thread_name_prefix="bisupervised-fallback")
        return Call(lambda x, outcome: asyncio.get_running_loop().run_in_executor(threads, function, x, outcome))
    if isinstance(fallback, HandOver):
        return replace(fallback, queue=_QueueInThread(fallback.queue), otherwise=_in_loop(fallback.otherwise))
    return fallback


class _QueueInThread:
    """A queue whose `put` may wait for a disk: it does so in a thread."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="bisupervised-queue")

    def put(self, item: Pending, /) -> Any:
        """An awaitable: done when the item is in the queue."""
        return asyncio.get_running_loop().run_in_executor(self._threads, self._queue.put, item)
