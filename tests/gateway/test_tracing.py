"""OpenTelemetry traces of requests through a gateway, gathered in memory and over the wire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bisupervised.gateway import tracing
from gateway.running import cascade, endpoint, gateway, in_process
from gateway.upstreams.handle import FaultyUpstream, faulty_upstream

otel = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def upstream() -> Iterator[FaultyUpstream]:
    with faulty_upstream() as running:
        yield running


def test_a_request_is_a_span_with_one_for_each_level_and_the_clients_as_its_parent(
    upstream: FaultyUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = otel.InMemorySpanExporter()
    plain = tracing.Tracing
    monkeypatch.setattr("bisupervised.gateway.service.Tracing", lambda: plain(exporter))
    with gateway(tmp_path, cascade(in_process(), endpoint(upstream.base_url, "ok")), traces=True) as running:
        with running.client() as client:
            client.chat.completions.create(
                model="assistant",
                messages=[{"role": "user", "content": "hard"}],
                extra_headers={"traceparent": PARENT},
            )
            client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": "hard"}])
        (asked, again) = upstream.state().requests
    spans = {span.name: span for span in exporter.get_finished_spans()[:3]}
    whole, remote = spans["bisupervised assistant"], spans["remote model"]
    assert f"{whole.context.trace_id:032x}" == PARENT.split("-")[1]
    assert f"{whole.parent.span_id:016x}" == PARENT.split("-")[2]
    assert spans["local model"].parent.span_id == remote.parent.span_id == whole.context.span_id
    assert whole.attributes["bisupervised.route"] == "remote"
    assert whole.attributes["http.response.status_code"] == 200
    sent = dict(asked["headers"])["traceparent"]
    assert sent.split("-")[1:3] == [f"{remote.context.trace_id:032x}", f"{remote.context.span_id:016x}"]
    assert PARENT.split("-")[1] not in dict(again["headers"])["traceparent"]  # another request, another trace
    shown = str([span.attributes for span in exporter.get_finished_spans()])
    assert "hard" not in shown
    assert "positive" not in shown


def test_without_traces_no_header_is_added(upstream: FaultyUpstream, tmp_path: Path) -> None:
    served = gateway(tmp_path, cascade(in_process(), endpoint(upstream.base_url, "ok")))
    with served as running, running.client() as client:
        client.chat.completions.create(
            model="assistant",
            messages=[{"role": "user", "content": "hard"}],
            extra_headers={"traceparent": PARENT},
        )
    assert all("traceparent" not in dict(request["headers"]) for request in upstream.state().requests)
