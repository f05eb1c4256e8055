"""`cascade.toml` -> running systems: the only place where things are put together from a file.

    [[cascade]]
    name = "reviews"
    thresholds = "thresholds.toml"          # written by `bisupervised calibrate`

    [cascade.local]
    model = "onnx"                          # function | onnx | http_json | openai | open_inference | recorded
    path = "local.onnx"
    classes = ["negative", "positive"]
    prepare = "my_models:to_arrays"         # inputs -> arrays, in a file beside this one
    quantifier = "max_softmax"

    [cascade.remote]
    model = "openai"
    base_url = "https://example.com/v1"
    model_name = "large-1"
    api_key_env = "OPENAI_API_KEY"
    prompt = "Is this review positive or negative?\\n{input}\\nAnswer:"
    labels = { positive = ["positive", "pos"], negative = ["negative", "neg"] }
    quantifier = "label_probability"

    [cascade.fallback]
    kind = "default"                        # raise | default | local_untrusted | call | queue
    answer = "unknown"

    [cascade.log]
    path = "decisions.db"

`${NAME}` in any text is the environment variable NAME. Paths are relative to the file. Every problem of a file is
reported at once.
"""

from __future__ import annotations

import importlib
import math
import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bisupervised.calibration import Thresholds
from bisupervised.cascade import BiSupervised, Level
from bisupervised.decision_log import DecisionLog, PendingInputs
from bisupervised.errors import BiSupervisedError, ConfigError
from bisupervised.fallback import Call, Default, Fallback, HandOver, LocalUntrusted, Raise
from bisupervised.learned import LearnedConfidence, supervisors_of
from bisupervised.models import (
    CircuitBreaker,
    Concurrency,
    Ensemble,
    FunctionModel,
    HttpJsonModel,
    OnnxModel,
    OpenAIModel,
    OpenInferenceModel,
    RecordedModel,
    RecordingCache,
    Retry,
    Timeout,
)
from bisupervised.models.extra_calls import ExtraCalls
from bisupervised.models.port import Model
from bisupervised.probability_calibration import TemperatureScaling
from bisupervised.probability_calibration_file import confidence_calibration_from_file
from bisupervised.quantifiers import LabelProbability, Quantifier, quantifier_by_name, quantifier_from_file
from bisupervised.records import Evidence
from bisupervised.sources import read_table
from bisupervised.supervisor import Supervisor

_SYSTEM_KEYS = {"name", "thresholds", "local", "remote", "fallback", "log", "gateway"}
_LEVEL_KEYS = {
    "model",
    "quantifier",
    "temperature",
    "confidence_calibration",
    "never_trust",
    "cost_per_input",
    "labels",
    "normalise",
    "timeout_s",
    "attempts",
    "max_concurrency",
    "cache",
    "inline",
    "passes",
    "samples",
    "sample_temperature",
    "self_verification",
    "verification_prompt",
    "equivalence",
    "weighted",
    "similarity",
    "unlikely",
    "scale",
    "reconstruct",
    # read by the gateway alone: how it protects an upstream, and which text an in-process model is given
    "max_waiting",
    "breaker_failures",
    "breaker_reset_s",
    "input",
}


@dataclass(frozen=True, slots=True, eq=False)
class Configured:
    """One cascade of a configuration file, built."""

    name: str
    system: BiSupervised
    thresholds: Thresholds
    #: The section it was built from, variables expanded: the gateway reads its own part of it.
    section: Mapping[str, Any]

    def close(self) -> None:
        """Stop the system's event loop and close its log."""
        self.system.close()
        if isinstance(self.system.log, DecisionLog):
            self.system.log.close()


def load_config(path: str | Path, *, learned: bool = True) -> list[Configured]:
    """Build every cascade of a file; `learned` as in `load_file`. Raises `ConfigError` naming every problem found."""
    return load_file(path, learned=learned)[0]


def load_file(
    path: str | Path, *, logs: bool = True, learned: bool = True
) -> tuple[list[Configured], Mapping[str, Any]]:
    """Every cascade of a file, and its `[gateway]` section as it stands there (empty when there is none).

    `logs=False` opens none of the cascades' own decision logs. `learned=False` leaves out the learned supervisors
    that thresholds name, so that what is recorded is what the models and their quantifiers say. Raises `ConfigError`
    naming every problem found.
    """
    path = Path(path)
    builder = _Builder(path.parent, logs=logs, learned=learned)
    values = _read(path, builder.problems)
    unknown = sorted(set(values) - {"cascade", "gateway"})
    if unknown:
        builder.problems.append(f"unknown {', '.join(unknown)}; there are: [[cascade]], [gateway]")
    sections = values.get("cascade", [])
    if not isinstance(sections, list) or not sections:
        builder.problems.append("there is no [[cascade]] section")
        sections = []
    built = [one for section in sections if (one := builder.cascade(section)) is not None]
    names = [one.name for one in built]
    builder.problems += [f"two cascades are called {name!r}" for name in sorted(set(names)) if names.count(name) > 1]
    if builder.problems:
        for one in built:
            one.close()
        problems = dict.fromkeys(builder.problems)  # a quantifier's is the model's and the supervisor's
        raise ConfigError(f"{path}: " + f"\n{path}: ".join(problems))
    return built, values.get("gateway", {})


def read_sections(path: str | Path) -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
    """Every `[[cascade]]` and the `[gateway]` section as they stand in a file, variables expanded; nothing is built.

    Raises `ConfigError` for a file that is no TOML; what is wrong beyond that is `load_file`'s to say.
    """
    values = _read(Path(path), [])  # an unset variable is not what these readers ask for
    sections, gateway = values.get("cascade", []), values.get("gateway", {})
    if not isinstance(sections, list):
        sections = []
    return [section for section in sections if isinstance(section, Mapping)], gateway


def _read(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"there is no configuration file {path}") from error
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a readable TOML file: {error}") from error
    expanded: dict[str, Any] = _expand(values, problems)
    return expanded


def _expand(value: Any, problems: list[str]) -> Any:
    """Every `${NAME}` replaced by the environment variable of that name."""
    if isinstance(value, dict):
        return {key: _expand(item, problems) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, problems) for item in value]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            problems.append(f"the environment variable {match[1]} is not set")
        return os.environ.get(match[1], "")

    return re.sub(r"\$\{(\w+)\}", variable, value)


def thresholds_in(value: Any, folder: Path) -> Thresholds:
    """The thresholds that a cascade names: a file beside it, or a table. Raises `ConfigError` or its like."""
    if isinstance(value, Mapping):
        missing = [f"thresholds.{name}" for name in ("local", "remote") if name not in value]
        if missing:
            raise ConfigError(f"{', '.join(missing)} is missing: give {{ local = …, remote = … }}")
        return Thresholds(value["local"], value["remote"], abstain=value.get("abstain", -math.inf))
    if value is None:
        raise ConfigError(
            "thresholds are missing: name the file that `bisupervised calibrate` wrote, or give "
            "{ local = …, remote = … }"
        )
    return Thresholds.load(folder / str(value))


@dataclass(slots=True)
class _Builder:
    """Builds the parts of a file and gathers what is wrong with them."""

    folder: Path
    problems: list[str] = field(default_factory=list)
    logs: bool = True
    learned: bool = True

    def cascade(self, section: Mapping[str, Any]) -> Configured | None:
        name = str(section.get("name", ""))
        where = f"cascade {name!r}" if name else "a cascade without a name"
        before = len(self.problems)
        if not name:
            self.problems.append("every [[cascade]] needs a name")
        self._unknown_keys(where, section, _SYSTEM_KEYS)
        thresholds = self._try(where, lambda: self._thresholds(section.get("thresholds")))
        levels = {
            level: self._level(f"{where}, {level}", section.get(level), thresholds, level)
            for level in ("local", "remote")
        }
        fallback = self._try(f"{where}, fallback", lambda: self._fallback(section.get("fallback", {})))
        local, remote = levels["local"], levels["remote"]
        if len(self.problems) > before or local is None or remote is None or thresholds is None:
            return None
        log_section = section.get("log") if self.logs else None
        log = self._try(f"{where}, log", lambda: self._log(log_section, thresholds))
        if len(self.problems) > before:
            return None
        return Configured(name, BiSupervised(local, remote, fallback, log=log), thresholds, section)

    def _try(self, where: str, build: Callable[[], Any]) -> Any:
        try:
            return build()
        except KeyError as error:
            self.problems.append(f"{where}: {error.args[0]} is missing")
        except (BiSupervisedError, TypeError, ValueError, OSError) as error:
            self.problems.append(f"{where}: {error}")
        return None

    def _unknown_keys(self, where: str, section: Mapping[str, Any], known: set[str]) -> None:
        unknown = sorted(set(section) - known)
        if unknown:
            self.problems.append(f"{where}: unknown {', '.join(unknown)}; there are: {', '.join(sorted(known))}")

    def _thresholds(self, value: Any) -> Thresholds:
        return thresholds_in(value, self.folder)

    def _level(self, where: str, section: Any, thresholds: Thresholds | None, level: str) -> Level | None:
        if not isinstance(section, Mapping):
            self.problems.append(f"{where}: the section is missing")
            return None
        kind = section.get("model")
        if kind not in _MODELS:
            self.problems.append(f"{where}: model is one of {', '.join(_MODELS)}, not {kind!r}")
            return None
        build, keys = _MODELS[kind]
        self._unknown_keys(where, section, _LEVEL_KEYS | keys)
        model = self._try(where, lambda: self._wrapped(self._passed(build(self, section, level), section), section))
        threshold = getattr(thresholds, level, float("inf"))
        abstain = thresholds.abstain if thresholds is not None and level == "local" else -math.inf
        supervisor = self._try(where, lambda: self._supervisor(section, threshold, abstain, level))
        wanted = {} if thresholds is None else thresholds.evidence.get("confidences", {})
        calibration = wanted.get(f"{level}_confidence_calibration")
        if calibration is not None and "confidence_calibration" not in section:
            self.problems.append(
                f"{where}: the thresholds are of calibrated confidences: confidence_calibration = {calibration!r}"
            )
        if supervisor is not None and thresholds is not None and self.learned:
            supervisor = self._try(where, lambda: _with_learned(supervisor, thresholds, level))
        if model is None or supervisor is None:
            return None
        cost = section.get("cost_per_input")
        built: Level | None = self._try(
            where,
            lambda: Level(
                model,
                supervisor,
                cost=None if cost is None else float(cost),
                inline=bool(section.get("inline", False)),
            ),
        )
        return built

    def _passed(self, model: Model, section: Mapping[str, Any]) -> Model:
        """The model asked so many times, where the section says so."""
        return Ensemble.of_passes(model, section["passes"]) if "passes" in section else model

    def _wrapped(self, model: Model, section: Mapping[str, Any]) -> Model:
        """The model in its wrappers, the innermost first: one try is timed, then retried, left
        alone after too many failures, bounded, recorded."""
        if "timeout_s" in section:
            model = Timeout(model, float(section["timeout_s"]))
        if "attempts" in section:
            model = Retry(model, attempts=int(section["attempts"]))
        if "breaker_failures" in section:
            failures, reset_s = int(section["breaker_failures"]), float(section.get("breaker_reset_s", 10.0))
            model = CircuitBreaker(model, failures, reset_s)
        if "max_concurrency" in section:
            model = Concurrency(model, int(section["max_concurrency"]))
        if "cache" in section:
            model = RecordingCache(model, self.folder / section["cache"])
        return model

    def _supervisor(self, section: Mapping[str, Any], threshold: float, abstain: float, level: str) -> Supervisor:
        temperature = section.get("temperature")
        calibration = section.get("confidence_calibration")
        return Supervisor(
            self._quantifier(section, level),
            threshold,
            temperature=None if temperature is None else TemperatureScaling(float(temperature)),
            confidence_calibration=None
            if calibration is None
            else confidence_calibration_from_file(self.folder / str(calibration), level),
            never_trust=frozenset(section.get("never_trust", ())),
            abstain=abstain,
        )

    def _quantifier(self, section: Mapping[str, Any], level: str) -> Quantifier:
        """By its name, by a table `{ name = …, … }` of its name and settings, or from the file it was saved in."""
        setting = section.get("quantifier", "confidence" if section.get("model") == "recorded" else "max_softmax")
        own = dict(setting) if isinstance(setting, Mapping) else {}
        name = str(own.pop("name", "") if own else setting)
        if not name:
            raise ConfigError('a quantifier with settings is a table with its name: { name = "gen", gamma = 0.5 }')
        if name.endswith(".npz"):
            if own:
                raise ConfigError(f"{name} was fitted and holds its settings: it takes no {', '.join(sorted(own))}")
            return quantifier_from_file(self.folder / name, level)
        if name == LabelProbability.name:
            unknown = own.keys() - {"normalise"}
            if unknown:
                raise ConfigError(f"{name} takes no {', '.join(sorted(unknown))}; its settings: normalise")
            normalise = own.get("normalise", section.get("normalise", False))
            return LabelProbability(section["labels"], normalise=bool(normalise))
        return quantifier_by_name(name, section, self.load, own=own)

    def _fallback(self, section: Mapping[str, Any]) -> Fallback:
        kind = section.get("kind", "raise")
        if kind == "default":
            return Default(section["answer"])
        if kind == "call":
            return Call(self.load(section["function"]))
        if kind == "queue":
            queue = PendingInputs(self.folder / section["path"])
            return HandOver(queue, only_failures=bool(section.get("only_failures", False)))
        if kind == "raise":
            return Raise()
        if kind == "local_untrusted":
            return LocalUntrusted()
        raise ConfigError(f"kind is raise, default, local_untrusted, call or queue, not {kind!r}")

    def _log(self, section: Mapping[str, Any] | None, thresholds: Thresholds) -> DecisionLog | None:
        if section is None:
            return None
        return DecisionLog(
            self.folder / section["path"],
            store_inputs=bool(section.get("store_inputs", False)),
            thresholds_id=thresholds.id,
        )

    def load(self, name: str) -> Any:
        """`module:attribute`, from a file beside the configuration or an installed package."""
        module, _, attribute = str(name).partition(":")
        if not attribute:
            raise ConfigError(f"{name!r} must read module:attribute")
        folder = str(self.folder.resolve())
        sys.path.insert(0, folder)
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"{name} cannot be loaded: {error}") from error
        finally:
            sys.path.remove(folder)


def _with_learned(supervisor: Supervisor, thresholds: Thresholds, level: str) -> Supervisor:
    """The supervisor with what was learned for its level, if the thresholds were chosen with that."""
    if level == "remote":
        return replace(supervisor, pair=supervisors_of(thresholds).second)
    first = supervisors_of(thresholds).first
    return supervisor if first is None else replace(supervisor, learned=LearnedConfidence(first))


def _function(builder: _Builder, section: Mapping[str, Any], level: str) -> Model:
    loaded = builder.load(section["function"])
    if hasattr(loaded, "provides"):  # a model of any kind, built in the module
        model: Model = loaded
        return model
    given = section.get("provides", list(Evidence))
    unknown = sorted(set(given) - set(Evidence))
    if unknown:
        raise ConfigError(f"provides: there is no evidence {', '.join(unknown)}; there is: {', '.join(Evidence)}")
    provides = frozenset(map(Evidence, given))
    return FunctionModel(loaded, classes=section.get("classes"), name=section["function"], provides=provides)


def _onnx(builder: _Builder, section: Mapping[str, Any], level: str) -> Model:
    plain = ("classes", "output", "softmax", "renormalise", "logits", "features")
    given = {key: section[key] for key in plain if key in section}
    if "prepare" in section:
        given["prepare"] = builder.load(section["prepare"])
    return OnnxModel(builder.folder / section["path"], **given)


def _http_json(builder: _Builder, section: Mapping[str, Any], level: str) -> Model:
    given = {key: section[key] for key in ("headers", "max_batch", "cost_per_input", "provides") if key in section}
    for key in ("request", "read"):
        if key in section:
            given[key] = builder.load(section[key])
    return HttpJsonModel(section["url"], **given)


def _openai(builder: _Builder, section: Mapping[str, Any], level: str) -> Model:
    plain = ("route", "max_tokens", "temperature", "extra", "headers")
    prices = ("prompt_price", "completion_price", "cached_prompt_price")
    given = {key: section[key] for key in (*plain, *prices) if key in section}
    model_name, base_url = section["model_name"], section["base_url"]
    quantifier = builder._quantifier(section, level)
    if "labels" in section:
        given["read_label"] = LabelProbability(section["labels"]).label_of
    reads_alternatives = quantifier.needs in (Evidence.TOP_LOGPROBS, Evidence.TOKEN_ALTERNATIVES)
    if "labels" in section or reads_alternatives or getattr(quantifier, "unlikely", None) == "entropy":
        given["top_logprobs"] = 5
    if "top_logprobs" in section:
        given["top_logprobs"] = int(section["top_logprobs"])
    if "prompt" in section:
        given["prompt"] = _Template(section["prompt"])
    further = ExtraCalls.of(quantifier, section)
    given |= {name: getattr(further, name) for name in ("samples", "self_verification", "sample_temperature")}
    given["verification_prompt"] = further.verification_prompt
    return OpenAIModel(model_name, base_url, **given)


def _api_key(builder: _Builder, section: Mapping[str, Any]) -> dict[str, Any]:
    """The key given as `api_key` (from `${NAME}`), by `api_key_env`, or in a file: `api_key_file`."""
    given = {name: section[name] for name in ("api_key", "api_key_env") if name in section}
    if "api_key_file" in section:
        if given:
            raise ConfigError("give only one of api_key, api_key_env and api_key_file")
        given["api_key"] = (builder.folder / section["api_key_file"]).read_text(encoding="utf-8").strip()
    return given


def _open_inference(builder: _Builder, section: Mapping[str, Any], level: str) -> Model:
    plain = ("version", "input", "datatype", "output", "softmax", "renormalise", "classes", "binary", "parameters")
    further = ("logits", "features", "headers", "max_batch", "cost_per_input")
    given = {key: section[key] for key in (*plain, *further) if key in section}
    tensors = {"labels": "label_output", "confidence": "confidence_output"}
    given |= {name: section[key] for name, key in tensors.items() if key in section}
    given |= _api_key(builder, section)
    if "prepare" in section:
        given["prepare"] = builder.load(section["prepare"])
    return OpenInferenceModel(section["model_name"], section["base_url"], **given)


@dataclass(frozen=True, slots=True)
class _Template:
    """A prompt with `{input}` in it."""

    text: str

    def __post_init__(self) -> None:
        if "{input}" not in self.text:
            raise ConfigError("the prompt must contain {input}")

    def __call__(self, x: Any) -> str:
        return self.text.replace("{input}", str(x))


def _ensemble(builder: _Builder, section: Mapping[str, Any], level: str) -> Model:
    members = section["members"]
    if not isinstance(members, list) or not all(isinstance(member, Mapping) for member in members):
        raise ConfigError("members is a list of tables, each a model with its settings: [{ model = …, … }, …]")
    built = []
    for number, member in enumerate(members, start=1):
        kind = member.get("model")
        if kind not in _MODELS:
            raise ConfigError(f"member {number}: model is one of {', '.join(_MODELS)}, not {kind!r}")
        build, keys = _MODELS[kind]
        unknown = sorted(set(member) - keys - {"model"})
        if unknown:
            raise ConfigError(f"member {number}: unknown {', '.join(unknown)}; there are: {', '.join(sorted(keys))}")
        built.append(build(builder, member, level))
    return Ensemble(built)


def _recorded(builder: _Builder, section: Mapping[str, Any], level: str) -> Model:
    return RecordedModel.from_table(read_table(builder.folder / section["path"]), level)


_MODELS: dict[str, tuple[Callable[[_Builder, Mapping[str, Any], str], Model], set[str]]] = {
    "function": (_function, {"function", "classes", "provides"}),
    "onnx": (_onnx, {"path", "classes", "prepare", "output", "softmax", "renormalise", "logits", "features"}),
    "ensemble": (_ensemble, {"members"}),
    "http_json": (_http_json, {"url", "headers", "max_batch", "provides", "request", "read"}),
    "openai": (
        _openai,
        {
            "base_url",
            "model_name",
            "api_key",
            "api_key_env",
            "api_key_file",
            "route",
            "prompt",
            "top_logprobs",
            "max_tokens",
            "extra",
            "headers",
            "prompt_price",
            "completion_price",
            "cached_prompt_price",
        },
    ),
    "open_inference": (
        _open_inference,
        {
            *("base_url", "model_name", "api_key", "api_key_env", "api_key_file", "headers", "max_batch", "version"),
            *("input", "datatype", "output", "softmax", "renormalise", "classes", "binary", "parameters", "prepare"),
            *("label_output", "confidence_output", "logits", "features"),
        },
    ),
    "recorded": (_recorded, {"path"}),
}
