"""What a gateway's file says, checked: `[gateway]` and each cascade's `[cascade.gateway]`, as frozen records.

Every section is read by `Section`, which gathers what is wrong instead of stopping at the first problem.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar

from bisupervised.errors import ConfigError

T = TypeVar("T")


class Mode(StrEnum):
    """How a cascade treats a request."""

    OBSERVE = "observe"  #: the remote model answers, as before; the decision is made and logged beside it
    ENFORCE = "enforce"  #: the decision answers
    REMOTE_ONLY = "remote_only"  #: the remote model answers, and the local one is not asked


class Streaming(StrEnum):
    """When a streamed answer is decided."""

    BUFFER = "buffer"  #: at its end: nothing is sent before the whole answer is judged
    PREFIX = "prefix"  #: on its first tokens' evidence; then it is streamed live


class Scope(StrEnum):
    """What a client's key allows."""

    CALL = "call"
    LABEL = "label"
    ADMIN = "admin"


#: Why no supervisor can score a request as such, before anything is asked.
REQUEST_KINDS: Final = ("tools", "image", "audio", "many", "json_mode")
#: Why no supervisor can score a reply.
REPLY_KINDS: Final = ("tool_call", "refusal", "no_logprobs")
#: What becomes of them at the 1st level: ask the remote model; trust the local one unscored; reject; or ask the
#: local model and see what evidence its reply brings.
FIRST_LEVEL_RULES: Final = ("remote", "local", "reject", "score")
#: And at the 2nd: trust the remote model's reply unscored, or reject it.
SECOND_LEVEL_RULES: Final = ("trust", "reject")


@dataclass(frozen=True, slots=True)
class KeySettings:
    """A client's key: its SHA-256, never the key."""

    name: str
    sha256: str  #: 64 hexadecimal digits
    scopes: frozenset[Scope]
    daily_budget: float | None = None  #: currency units for each UTC day; None: no cap


@dataclass(frozen=True, slots=True)
class PassthroughSettings:
    """An OpenAI-compatible service to which other models and routes go, byte for byte."""

    name: str
    base_url: str
    api_key: str | None
    models: tuple[str, ...]  #: exact names, or prefixes that end in `*`
    timeout_s: float


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """`[gateway]`: what all cascades share."""

    host: str = "127.0.0.1"
    port: int = 8100
    log: str = "decisions.db"
    store_inputs: bool = False
    log_capacity: int = 50_000
    when_log_full: str = "drop"
    synchronous: str = "normal"
    max_body_bytes: int = 8 * 1024 * 1024
    max_header_bytes: int = 32 * 1024
    header_timeout_s: float = 20.0
    max_concurrency: int = 4096
    drain_s: float = 30.0
    daily_budget: float | None = None
    metrics_key: bool = False
    open_to_all: bool = False
    traces: bool = False
    keys: tuple[KeySettings, ...] = ()
    passthrough: tuple[PassthroughSettings, ...] = ()


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """One level's OpenAI-compatible endpoint, and how it is protected."""

    base_url: str
    model_name: str
    api_key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float = 60.0
    attempts: int = 2
    max_concurrency: int = 1024
    max_waiting: int = 1024
    breaker_failures: int = 5
    breaker_reset_s: float = 10.0
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class CascadeSettings:
    """`[cascade.gateway]`: how one cascade is served."""

    interface: str = "openai"  #: `openai` or `v2`
    mode: Mode = Mode.OBSERVE
    share: float = 1.0
    share_by: str = "random"
    streaming: Streaming = Streaming.BUFFER
    prefix_tokens: int = 16
    speculative: bool = False
    audit_share: float = 0.0
    audit_daily_budget: float | None = None
    daily_budget: float | None = None
    stick_to_remote: bool = False
    store_predictions: bool = True
    first_level_rules: Mapping[str, str] = field(default_factory=dict)
    second_level_rules: Mapping[str, str] = field(default_factory=dict)


class Section:
    """One table of a file: values are taken by name and kind, and what is left over is unknown."""

    def __init__(self, where: str, values: Any, problems: list[str]) -> None:
        self.where = where
        self.problems = problems
        if not isinstance(values, Mapping):
            problems.append(f"{where} is a table of settings, not {values!r}")
            values = {}
        self._left: dict[str, Any] = dict(values)
        self._known: set[str] = set()

    def _take(self, name: str, default: T, kinds: type | tuple[type, ...], what: str) -> Any | T:
        self._known.add(name)
        if name not in self._left:
            return default
        value = self._left.pop(name)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            self.problems.append(f"{self.where}: {name} is {what}, not {value!r}")
            return default
        return value

    def text(self, name: str, default: Any = None) -> Any:
        return self._take(name, default, str, "text")

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(self._take(name, default, bool, "true or false"))

    def number(self, name: str, default: Any = None, *, least: float = 0.0, most: float = math.inf) -> Any:
        what = f"a number from {least:g} on" if math.isinf(most) else f"a number from {least:g} to {most:g}"
        value = self._take(name, default, (int, float), what)
        if value is not None and not least <= value <= most:
            self.problems.append(f"{self.where}: {name} is {what}, not {value!r}")
            return default
        return value

    def whole(self, name: str, default: Any = None, *, least: int = 1, most: int = 2**53) -> Any:
        value = self._take(name, default, int, "a whole number")
        if value is not None and not least <= value <= most:
            self.problems.append(f"{self.where}: {name} is a whole number from {least} to {most}, not {value}")
            return default
        return value

    def choice(self, name: str, options: Iterable[str], default: str) -> str:
        options = list(options)
        value = self.text(name, default)
        if value not in options:
            self.problems.append(f"{self.where}: {name} is {', '.join(options)}; not {value!r}")
            return default
        return str(value)

    def texts(self, name: str, default: Sequence[str] = ()) -> tuple[str, ...]:
        value = self._take(name, list(default), list, "a list of texts")
        if not all(isinstance(one, str) for one in value):
            self.problems.append(f"{self.where}: {name} is a list of texts, not {value!r}")
            return tuple(default)
        return tuple(value)

    def table(self, name: str) -> Mapping[str, Any]:
        value: Mapping[str, Any] = self._take(name, {}, dict, "a table")
        return value

    def tables(self, name: str) -> list[Any]:
        value: list[Any] = self._take(name, [], list, f"a list of tables, [[{name}]]")
        return value

    def secret(self, name: str = "api_key") -> str | None:
        """A secret given as `NAME = "${VARIABLE}"`, by `NAME_env`, or by `NAME_file`."""
        given = self.text(name)
        variable, file = self.text(f"{name}_env"), self.text(f"{name}_file")
        if sum(one is not None for one in (given, variable, file)) > 1:
            self.problems.append(f"{self.where}: give only one of {name}, {name}_env and {name}_file")
        if variable is not None:
            given = os.environ.get(variable)
            if not given:
                self.problems.append(f"{self.where}: the environment variable {variable} is not set")
        if file is not None:
            try:
                with open(file, encoding="utf-8") as stream:
                    given = stream.read()
            except (OSError, UnicodeDecodeError) as error:
                self.problems.append(f"{self.where}: {name}_file {file} cannot be read: {error}")
        return given.strip() if given and given.strip() else None

    def done(self) -> None:
        """Whatever was not taken is a name that nobody knows."""
        if self._left:
            unknown = ", ".join(sorted(self._left))
            self.problems.append(f"{self.where}: unknown {unknown}; there are: {', '.join(sorted(self._known))}")


def read_gateway(values: Mapping[str, Any], problems: list[str]) -> GatewaySettings:
    """`[gateway]`; an empty one has every default."""
    section = Section("gateway", values, problems)
    default = GatewaySettings()
    settings = GatewaySettings(
        host=section.text("host", default.host),
        port=section.whole("port", default.port, least=0, most=65535),
        log=section.text("log", default.log),
        store_inputs=section.flag("store_inputs"),
        log_capacity=section.whole("log_capacity", default.log_capacity),
        when_log_full=section.choice("when_log_full", ("drop", "refuse"), default.when_log_full),
        synchronous=section.choice("synchronous", ("normal", "full"), default.synchronous),
        max_body_bytes=section.whole("max_body_bytes", default.max_body_bytes, least=1024),
        max_header_bytes=section.whole("max_header_bytes", default.max_header_bytes, least=1024),
        header_timeout_s=section.number("header_timeout_s", default.header_timeout_s, least=0.1),
        max_concurrency=section.whole("max_concurrency", default.max_concurrency),
        drain_s=section.number("drain_s", default.drain_s),
        daily_budget=section.number("daily_budget"),
        metrics_key=section.flag("metrics_key"),
        open_to_all=section.flag("open_to_all"),
        traces=section.flag("traces"),
        keys=tuple(_key(one, problems) for one in section.tables("key")),
        passthrough=tuple(_passthrough(one, problems) for one in section.tables("passthrough")),
    )
    section.done()
    for what, names in (("key", settings.keys), ("passthrough", settings.passthrough)):
        _unique(f"gateway.{what}", [one.name for one in names], problems)
    check_host(settings, problems)
    return settings


def check_host(settings: GatewaySettings, problems: list[str]) -> None:
    """Without keys nobody but this machine may call, unless the file says that anybody may."""
    if not settings.keys and not settings.open_to_all and settings.host not in ("127.0.0.1", "localhost", "::1"):
        problems.append(
            f"gateway: without keys it listens on this machine alone. Make keys with `bisupervised key NAME` and "
            f"list them as [[gateway.key]], or say open_to_all = true to let anybody who reaches {settings.host} call"
        )


def _unique(where: str, names: Sequence[str], problems: list[str]) -> None:
    problems += [f"{where}: two are called {name!r}" for name in sorted(set(names)) if names.count(name) > 1]


def _key(values: Any, problems: list[str]) -> KeySettings:
    section = Section("gateway.key", values, problems)
    name = section.text("name", "")
    section.where = f"gateway.key {name!r}"
    digest = section.text("sha256", "")
    scopes = section.texts("scopes", ["call"])
    budget = section.number("daily_budget")
    section.done()
    if not name:
        problems.append("gateway.key: every key needs a name: it is what logs and budgets call its client")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        problems.append(
            f"{section.where}: sha256 is 64 hexadecimal digits; `bisupervised key {name or 'NAME'}` makes one"
        )
    known = {str(scope) for scope in Scope}
    if unknown := sorted(set(scopes) - known):
        problems.append(
            f"{section.where}: unknown scopes {', '.join(unknown)}; there are: {', '.join(sorted(known))}"
        )
    return KeySettings(name, digest, frozenset(Scope(one) for one in scopes if one in known), budget)


def _passthrough(values: Any, problems: list[str]) -> PassthroughSettings:
    section = Section("gateway.passthrough", values, problems)
    name = section.text("name", "passthrough")
    section.where = f"gateway.passthrough {name!r}"
    url = checked_url(section.text("base_url", ""), section.where, problems)
    settings = PassthroughSettings(
        name, url, section.secret(), section.texts("models", ["*"]), section.number("timeout_s", 600.0, least=0.001)
    )
    section.done()
    return settings


def checked_url(url: str, where: str, problems: list[str]) -> str:
    """The URL without a slash at its end; a problem unless it is an http(s) one with a host and nothing secret."""
    if not re.fullmatch(r"https?://[^/?#@\s]+(/[^?#\s]*)?", url):
        problems.append(f"{where}: base_url is like https://host/v1, without a user, a query or a fragment")
    return url.rstrip("/")


def read_upstream(level: str, section: Mapping[str, Any], problems: list[str]) -> UpstreamSettings:
    """The endpoint of a level whose model is `openai`. Keys that are not the gateway's are the model's own."""
    values = {key: value for key, value in section.items() if key in _UPSTREAM_KEYS}
    taken = Section(level, values, problems)
    default = UpstreamSettings("", "")
    return UpstreamSettings(
        base_url=checked_url(taken.text("base_url", ""), level, problems),
        model_name=taken.text("model_name", ""),
        api_key=taken.secret(),
        headers=taken.table("headers"),
        extra=taken.table("extra"),
        timeout_s=taken.number("timeout_s", default.timeout_s, least=0.001),
        attempts=taken.whole("attempts", default.attempts),
        max_concurrency=taken.whole("max_concurrency", default.max_concurrency),
        max_waiting=taken.whole("max_waiting", default.max_waiting, least=0),
        breaker_failures=taken.whole("breaker_failures", default.breaker_failures),
        breaker_reset_s=taken.number("breaker_reset_s", default.breaker_reset_s, least=0.001),
        max_tokens=taken.whole("max_tokens"),
    )


_UPSTREAM_KEYS = {"base_url", "model_name", "api_key", "api_key_env", "api_key_file", "headers", "extra", "timeout_s"}
_UPSTREAM_KEYS |= {"attempts", "max_concurrency", "max_waiting", "breaker_failures", "breaker_reset_s", "max_tokens"}


def read_cascade(name: str, values: Mapping[str, Any], interface: str, problems: list[str]) -> CascadeSettings:
    """`[cascade.gateway]`. `interface` is the default: what the remote model speaks."""
    section = Section(f"cascade {name!r}, gateway", values, problems)
    default = CascadeSettings()
    settings = CascadeSettings(
        interface=section.choice("interface", ("openai", "v2"), interface),
        mode=Mode(section.choice("mode", list(Mode), default.mode)),
        share=section.number("share", default.share, most=1.0),
        share_by=section.choice("share_by", ("random", "key"), default.share_by),
        streaming=Streaming(section.choice("streaming", list(Streaming), default.streaming)),
        prefix_tokens=section.whole("prefix_tokens", default.prefix_tokens),
        speculative=section.flag("speculative"),
        audit_share=section.number("audit_share", 0.0, most=1.0),
        audit_daily_budget=section.number("audit_daily_budget"),
        daily_budget=section.number("daily_budget"),
        stick_to_remote=section.flag("stick_to_remote"),
        store_predictions=section.flag("store_predictions", True),
        first_level_rules=_rules(section, "unscorable", FIRST_LEVEL_RULES, problems),
        second_level_rules=_rules(section, "unscorable_remote", SECOND_LEVEL_RULES, problems),
    )
    section.done()
    return settings


def _rules(section: Section, name: str, rules: Sequence[str], problems: list[str]) -> Mapping[str, str]:
    given = section.table(name)
    for kind, rule in given.items():
        if kind not in (*REQUEST_KINDS, *REPLY_KINDS):
            known = ", ".join((*REQUEST_KINDS, *REPLY_KINDS))
            problems.append(f"{section.where}: {name} knows no {kind!r}; there are: {known}")
        elif kind == "many" and rule == "score":
            problems.append(f"{section.where}: {name}.many cannot be score: one answer would be judged, and all sent")
        elif rule not in rules:
            problems.append(f"{section.where}: {name}.{kind} is {', '.join(rules)}; not {rule!r}")
    return dict(given)


def raise_problems(path: object, problems: Sequence[str]) -> None:
    """Every problem of a file at once, or nothing."""
    if problems:
        raise ConfigError(f"{path}: " + f"\n{path}: ".join(problems))
