"""What Prometheus reads: names and units by its conventions, one registry for each gateway.

Counting is a dictionary's work here, a fraction of a microsecond on the hot path; `prometheus_client` writes the
format when somebody asks.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from bisupervised.decision_log.details import Details
from bisupervised.errors import MissingExtra
from bisupervised.records import Outcome, Route

_LATENCIES: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_CONFIDENCES: Final = (0.01, 0.05, *(round(0.1 * k, 1) for k in range(1, 10)), 0.95, 0.98, 0.99, 0.999, 1.0)
_ROUTES: Final = tuple(route.label for route in Route)


class Counts(dict[tuple[str, ...], float]):
    """A counter: a number for each combination of its labels' values."""

    def __init__(self, name: str, what: str, *labels: str) -> None:
        super().__init__()
        self.name, self.what, self.labels = name, what, labels

    def __missing__(self, key: tuple[str, ...]) -> float:
        return 0.0


class Spread(dict[tuple[str, ...], list[float]]):
    """A histogram: for each combination of its labels' values, the counts of its buckets, and the sum at the end."""

    def __init__(self, name: str, what: str, bounds: Sequence[float], *labels: str) -> None:
        super().__init__()
        self.name, self.what, self.bounds, self.labels = name, what, bounds, labels

    def __missing__(self, key: tuple[str, ...]) -> list[float]:
        row = self[key] = [0.0] * (len(self.bounds) + 2)
        return row

    def observe(self, key: tuple[str, ...], value: float) -> None:
        row = self[key]
        row[bisect_left(self.bounds, value)] += 1.0
        row[-1] += value


class Metrics:
    """Counters and histograms of one gateway process."""

    def __init__(self) -> None:
        try:
            import prometheus_client as client
            from prometheus_client import core
        except ImportError as error:
            raise MissingExtra("prometheus_client", "gateway") from error
        self._core: Any = core
        self._text: Callable[[Any], bytes] = client.generate_latest
        self.content_type: str = client.CONTENT_TYPE_LATEST
        self._gauges: list[tuple[str, str, Callable[[], float]]] = []
        self._families: list[Counts | Spread] = []
        cascade, level = ("cascade",), ("cascade", "level")
        self._requests = self._counter(
            "requests",
            "Requests by the route that was decided and by what was served",
            *(*cascade, "route", "served", "mode"),
        )
        self._deferred = self._counter("deferred", "Requests whose local prediction was not trusted", *cascade)
        self._status = self._counter("responses", "Answers by HTTP status", *cascade, "status")
        self._duration = self._spread(
            "request_duration_seconds", "From the request to the end of its answer", _LATENCIES, *cascade, "served"
        )
        self._first_token = self._spread(
            "time_to_first_token_seconds", "From the request to the first token of its stream", _LATENCIES, *cascade
        )
        self._latency = self._spread("level_latency_seconds", "Latency of one level", _LATENCIES, *level)
        self._confidence = self._spread("confidence", "Confidence of one level", _CONFIDENCES, *level)
        self._cost = self._counter("cost_currency_units", "Spent, as far as it is known", *level)
        self._bound = self._counter(
            "cost_bound_currency_units", "The most that costs which nobody knows may have been", *cascade
        )
        self._tokens = self._counter("tokens", "Tokens", *level, "kind")
        self._failures = self._counter("failures", "Calls that failed, by kind", *level, "kind")
        self._unscorable = self._counter(
            "unscorable", "Requests and replies that no supervisor can score", *level, "kind"
        )
        self._extra_calls = self._counter("extra_remote_calls", "Remote calls that no verdict caused", *cascade)
        self._audits = self._counter("audits", "Audits by their result", *cascade, "result")
        self._refused = self._counter("refused", "Requests that were not accepted, by the error's code", "code")
        self._passed = self._counter("passed_through", "Requests passed through, by status", "upstream", "status")
        registry = self._registry = client.CollectorRegistry()
        registry.register(self)

    def _counter(self, name: str, what: str, *labels: str) -> Counts:
        counts = Counts(f"bisupervised_{name}", what, *labels)
        self._families.append(counts)
        return counts

    def _spread(self, name: str, what: str, bounds: Sequence[float], *labels: str) -> Spread:
        spread = Spread(f"bisupervised_{name}", what, bounds, *labels)
        self._families.append(spread)
        return spread

    def gauge(self, name: str, what: str, read: Callable[[], float]) -> None:
        """A number that is read when Prometheus asks."""
        self._gauges.append((f"bisupervised_{name}", what, read))

    # ------------------------------------------------------------ what Prometheus asks for

    def text(self) -> bytes:
        """Everything, in the format that Prometheus reads."""
        return self._text(self._registry)

    def describe(self) -> list[Any]:
        """Nothing is known before it happens: `prometheus_client` asks when a collector is registered."""
        return []

    def collect(self) -> Iterator[Any]:
        """Every metric as `prometheus_client` writes it."""
        for family in self._families:
            yield self._written(family)
        for name, what, read in self._gauges:
            yield self._core.GaugeMetricFamily(name, what, value=read())

    def _written(self, family: Counts | Spread) -> Any:
        if isinstance(family, Counts):
            counter = self._core.CounterMetricFamily(family.name, family.what, labels=family.labels)
            for labels, value in family.items():
                counter.add_metric(labels, value)
            return counter
        histogram = self._core.HistogramMetricFamily(family.name, family.what, labels=family.labels)
        for labels, row in family.items():
            so_far, buckets = 0.0, []
            for bound, count in zip((*family.bounds, math.inf), row, strict=False):
                so_far += count
                buckets.append(("+Inf" if math.isinf(bound) else repr(float(bound)), so_far))
            histogram.add_metric(labels, buckets, row[-1])
        return histogram

    # ------------------------------------------------------------ what happens

    def outcome(self, outcome: Outcome, details: Details) -> None:
        """One request has ended."""
        name, served = details.cascade, details.served
        self._requests[name, _ROUTES[outcome.route], served, details.mode] += 1.0
        self._status[name, str(details.status)] += 1.0
        self._duration.observe((name, served), details.total_s)
        if details.first_token_s == details.first_token_s:
            self._first_token.observe((name,), details.first_token_s)
        if outcome.deferred_because is not None:
            self._deferred[(name,)] += 1.0
        if details.extra_remote_calls:
            self._extra_calls[(name,)] += details.extra_remote_calls
        if 0.0 < details.extra_cost < math.inf:
            self._cost[name, "remote"] += details.extra_cost
        if details.cost_bound:
            self._bound[(name,)] += details.cost_bound
        self._level(
            (name, "local"),
            *(outcome.local_confidence, outcome.local_latency_s, outcome.local_cost, outcome.local_error),
        )
        self._count_tokens(name, "local", details.local_prompt_tokens, details.local_completion_tokens)
        if outcome.remote_requested or outcome.remote_error is not None:
            self._level(
                (name, "remote"),
                *(outcome.remote_confidence, outcome.remote_latency_s, outcome.remote_cost, outcome.remote_error),
            )
            self._count_tokens(name, "remote", details.remote_prompt_tokens, details.remote_completion_tokens)

    def _level(
        self, level: tuple[str, str], confidence: float, latency_s: float, cost: float, error: str | None
    ) -> None:
        if error is not None:
            self._failures[(*level, error.partition(":")[0])] += 1.0
        if latency_s > 0.0:
            self._latency.observe(level, latency_s)
        if confidence == confidence:
            self._confidence.observe(level, confidence)
        if 0.0 < cost < math.inf:
            self._cost[level] += cost

    def _count_tokens(self, cascade: str, level: str, prompt: float, completion: float) -> None:
        if prompt == prompt:
            self._tokens[cascade, level, "prompt"] += prompt
        if completion == completion:
            self._tokens[cascade, level, "completion"] += completion

    def unscorable(self, cascade: str, level: str, kind: str) -> None:
        """A request or a reply that no supervisor can score."""
        self._unscorable[cascade, level, kind] += 1.0

    def audit(self, cascade: str, result: str, cost: float) -> None:
        """An audit has ended: `agrees`, `disagrees` or `failed`."""
        self._audits[cascade, result] += 1.0
        if 0.0 < cost < math.inf:
            self._cost[cascade, "remote"] += cost

    def refused(self, code: str) -> None:
        """A request was not accepted."""
        self._refused[(code,)] += 1.0

    def passed_through(self, upstream: str, status: int) -> None:
        """A request went through byte for byte."""
        self._passed[upstream, str(status)] += 1.0
