"""`/v1/outcomes` and `/v1/stats`: what was logged, the truth that comes later, and what is not stored at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bisupervised.decision_log import read_log
from bisupervised.gateway.service import hashed, normalised
from gateway.running import InThread, Reply, cascade, endpoint, gateway, in_process, key_section, served, wait_until
from gateway.upstreams.handle import FaultyUpstream

SURE, UNSURE = -0.01, -2.0
#: Words that are nowhere else.
QUESTION, LOCAL, REMOTE, TRUTH = "Quokka habitats?", "Wombat burrows", "Numbat hollows", "Bilby warrens"


@pytest.fixture
def upstream(running_upstream: FaultyUpstream) -> FaultyUpstream:
    running_upstream.reset()
    running_upstream.models(
        small={"kind": "ok", "text": LOCAL, "logprob": SURE}, large={"kind": "ok", "text": REMOTE, "logprob": SURE}
    )
    return running_upstream


@pytest.fixture
def running(upstream: FaultyUpstream, tmp_path: Path) -> Iterator[InThread]:
    large = endpoint(upstream.base_url, "large", cost_per_input=0.5)
    with gateway(tmp_path, cascade(in_process(), large), cascade(in_process(), large, "another")) as one:
        yield one


def label(running: InThread, id_: str | Reply, value: Any) -> Reply:
    id_ = id_ if isinstance(id_, str) else id_.headers["x-bisupervised-id"]
    return running.request("POST", f"/v1/outcomes/{id_}/label", {"label": value})


def outcomes(running: InThread, query: str = "") -> list[dict[str, Any]]:
    reply = running.request("GET", f"/v1/outcomes{query}")
    assert reply.status == 200, reply.body
    found: list[dict[str, Any]] = reply.json["outcomes"]
    return found


# ---------------------------------------------------------------- labels


def test_the_truth_is_attached_and_outlives_a_restart(running: InThread, tmp_path: Path) -> None:
    reply = running.chat("easy")
    id_ = reply.headers["x-bisupervised-id"]
    assert label(running, reply, "positive").json == {"id": id_, "label": "positive"}
    assert running.request("GET", f"/v1/outcomes/{id_}").json["label"] == "positive"
    with served(tmp_path / "cascade.toml") as again:
        assert again.request("GET", f"/v1/outcomes/{id_}").json["label"] == "positive"
    assert read_log(running.log_path).labels.tolist() == ["positive"]


def test_a_label_may_come_at_once(running: InThread) -> None:
    for stream in (False, True):
        for _ in range(25):
            assert label(running, running.chat("easy", stream=stream), "positive").status == 200


@pytest.mark.parametrize("value", ["text", "", "Zürich \U0001f600", 3, -2.5, True, None, 2**62])
def test_a_label_is_text_a_number_or_a_truth_value(running: InThread, value: Any) -> None:
    reply = running.chat("easy")
    assert label(running, reply, "something else").status == 200
    assert label(running, reply, value).status == 200
    found = running.row(reply)["label"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "body", [{}, {"label": []}, {"label": {}}, {"label": 2**64}, {"labels": "x"}, {"label": "x" * 10_001}, [], "x", 3]
)
def test_other_labels_are_refused(running: InThread, body: Any) -> None:
    reply = running.chat("easy")
    path = f"/v1/outcomes/{reply.headers['x-bisupervised-id']}/label"
    given = running.request("POST", path, body if isinstance(body, dict | list) else str(body))
    assert (given.status, given.code) == (400, "invalid_request")
    assert running.row(reply)["label"] is None


@pytest.mark.parametrize("id_", ["0" * 32, "nobody", "x" * 5_000, "%00", "%ff", "..", "'; DROP TABLE decisions", "é"])
def test_an_id_that_there_is_not(running: InThread, id_: str) -> None:
    from urllib.parse import quote

    given = quote(id_, safe="%")
    for reply in (label(running, given, "x"), running.request("GET", f"/v1/outcomes/{given}")):
        assert (reply.status, reply.code) in ((404, "outcome_not_found"), (404, "model_not_found"))


def test_labels_say_how_often_the_trusted_answers_are_right(running: InThread) -> None:
    for text, truth in (("easy", "positive"), ("easy", "negative"), ("hard", REMOTE)):
        label(running, running.chat(text), truth)
    found = running.request("GET", "/v1/stats").json["labels"]
    assert (found["labelled"], found["compared"], found["correct"]) == (3, 3, 2)
    assert found["supervised_accuracy"] == pytest.approx(2 / 3)


# ---------------------------------------------------------------- the list


def test_the_newest_come_first_and_pages_follow_each_other(running: InThread) -> None:
    ids = [running.chat("easy").headers["x-bisupervised-id"] for _ in range(7)]
    running.rows(7)
    seen: list[str] = []
    query, pages = "?limit=3", 0
    while query:
        page = running.request("GET", f"/v1/outcomes{query}").json
        seen += [one["id"] for one in page["outcomes"]]
        pages += 1
        query = f"?limit=3&after={page['after_seq']}" if page["after_seq"] else ""
        if pages == 1:
            running.chat("easy")  # what comes meanwhile moves no page
            running.rows(8)
    assert (seen, pages) == (ids[::-1], 3)


def test_a_list_is_of_a_cascade_a_route_a_client_or_a_time(upstream: FaultyUpstream, tmp_path: Path) -> None:
    large = endpoint(upstream.base_url, "large")
    cascades = cascade(in_process(), large), cascade(in_process(), large, "another")
    keys = [key_section("a", "key-a"), key_section("b", "key-b"), key_section("root", "key-root", "admin")]
    with gateway(tmp_path, *cascades, key=keys, client_key="key-root") as running:
        for key, model, text in (("a", "assistant", "easy"), ("a", "another", "hard"), ("b", "another", "easy")):
            running.chat(text, model, headers={"Authorization": f"Bearer key-{key}"})
        rows = running.rows(3)

        def found(query: str) -> list[Any]:
            return [(row["key"], row["cascade"], row["route"]) for row in outcomes(running, query)[::-1]]

        assert found("?cascade=another") == [("a", "another", "remote"), ("b", "another", "local")]
        assert found("?route=local") == [("a", "assistant", "local"), ("b", "another", "local")]
        assert found("?key=a&cascade=another") == [("a", "another", "remote")]
        assert found(f"?since={rows[1]['time']}") == [("a", "another", "remote"), ("b", "another", "local")]
        assert found(f"?until={rows[1]['time']}&limit=5") == [("a", "assistant", "local")]
        assert found("?cascade=nobody") == []
        stats = running.request("GET", f"/v1/stats?cascade=another&until={rows[2]['time']}").json
        assert (stats["requests"], stats["routes"]) == (1, {"remote": 1})


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=1001", "limit=-1", "limit=x", "limit=1e2", "limit=٣", "limit=" + "9" * 400),
        *(
            "since=x",
            "since=nan",
            "until=inf",
            "since=",
            "route=elsewhere",
            "after=0",
            "after=x",
            "after=" + "9" * 30,
        ),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(running: InThread, query: str) -> None:
    from urllib.parse import quote

    running.chat("easy")
    reply = running.request("GET", f"/v1/outcomes?{quote(query, safe='=')}")
    assert (reply.status, reply.code) == (400, "invalid_request")
    name = query.partition("=")[0]
    assert name in reply.json["error"]["message"]


def test_a_page_after_a_row_that_there_is_not_is_refused(running: InThread) -> None:
    running.chat("easy")
    assert running.request("GET", "/v1/outcomes?after=99").status == 400


def test_an_empty_log_has_figures_too(running: InThread) -> None:
    stats = running.request("GET", "/v1/stats").json
    assert (stats["requests"], stats["request_rate"]) == (0, None)
    assert outcomes(running) == []


def test_the_figures_are_those_of_the_rows(running: InThread) -> None:
    for text in ("easy", "hard", "hard", "easy"):
        running.chat(text)
    running.rows(4)
    stats = running.request("GET", "/v1/stats").json
    assert (stats["requests"], stats["routes"]) == (4, {"local": 2, "remote": 2})
    assert (stats["request_rate"], stats["coverage"]) == (0.5, 1.0)
    assert (stats["cost"]["known"], stats["cost"]["remote"]) == (1.0, 1.0)
    assert stats["tokens"]["remote_completion"] == 4
    assert stats["latency_s"]["remote"]["n"] == 2
    assert stats["statuses"] == {"200": 4}
    assert stats["losses"]["lost"] == 0
    assert running.metric("cost_currency_units_total", level="remote") == 1.0
    assert running.metric("requests_total", route="remote", mode="enforce") == 2.0
    assert running.metric("tokens_total", level="remote", kind="completion") == 4.0
    assert running.metric("level_latency_seconds_count", level="remote") == 2.0
    assert running.metric("request_duration_seconds_count") == 4.0
    assert running.metric("confidence_count", level="local") == 4.0


# ---------------------------------------------------------------- what is stored


def test_inputs_are_stored_only_where_the_file_says_so(upstream: FaultyUpstream, tmp_path: Path) -> None:
    large = endpoint(upstream.base_url, "large")
    for store in (False, True):
        folder = tmp_path / str(store)
        folder.mkdir()
        with gateway(folder, cascade(in_process(), large), store_inputs=store) as running:
            reply = running.chat(QUESTION)
            found = running.request("GET", f"/v1/outcomes/{running.row(reply)['id']}").json["input"]
        if store:
            assert found["messages"] == [{"role": "user", "content": QUESTION}]
        else:
            assert found is None
        assert (QUESTION.encode() in stored(folder)) is store


def stored(folder: Path) -> bytes:
    """Every byte of a folder's databases, their write-ahead logs too."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.db*")) if path.is_file())


WORDS = [word.encode() for text in (QUESTION, LOCAL, REMOTE, TRUTH) for word in text.split()]


@pytest.mark.parametrize("by", ["the file", "the client"])
def test_nothing_of_the_content_is_in_the_file(upstream: FaultyUpstream, tmp_path: Path, by: str) -> None:
    """Answers, drafts, labels, audits, errors that quote them, fallbacks: whatever passes through."""
    small, large = endpoint(upstream.base_url, "small"), endpoint(upstream.base_url, "large")
    named = small | {"labels": {"yes": ["yes"], "no": ["no"]}, "quantifier": "label_probability"}
    hidden: dict[str, Any] = {"store_predictions": False} if by == "the file" else {}
    call = {"kind": "call", "function": "gateway.local_models:quoting"}
    queue = {"kind": "queue", "path": "waiting.db"}
    never = (2.0, 2.0)
    cascades = [
        cascade(small, large, audit_share=1.0, **hidden),
        cascade(named, large, "labels", **hidden),
        cascade(in_process("quoting_model"), large, "quoting", **hidden),
        cascade(small, large, "rejecting", thresholds=never, fallback=call, **hidden),
        cascade(small, large, "observed", mode="observe", **hidden),
        cascade(small, large, "queueing", thresholds=never, fallback=queue, **hidden),
    ]
    headers = {} if by == "the file" else {"x-bisupervised-store": "false"}
    with gateway(tmp_path, *cascades, store_inputs=by == "the client") as running:
        # The file that names a queue wants its inputs kept.
        models = [one["name"] for one in cascades if one["name"] != "queueing" or headers]
        replies = [running.chat(QUESTION, model, headers=headers) for model in models]
        replies += [running.chat(QUESTION, model, headers=headers, stream=True) for model in models]
        upstream.models(large={"kind": "503", "message": QUESTION}, small={"kind": "cut_json", "text": LOCAL})
        replies += [running.chat(QUESTION, model, headers=headers) for model in models]
        assert {reply.status for reply in replies} >= {200, 500, 502}
        for reply in replies:
            row = running.row(reply)
            # Whoever attaches a truth to a row without any answer wants it kept, unless the file says otherwise.
            if hidden or row["local_prediction"] or row["remote_prediction"]:
                assert label(running, reply, TRUTH).status == 200
        wait_until(lambda: running.request("GET", "/v1/stats").json["audits"]["audits"], lambda n: n >= 2)
        running.service.log.flush()
        here = stored(tmp_path)
        assert len(here) > 10_000
        assert [word for word in WORDS if word in here] == []
        assert len(running.rows()) == len(replies)
    assert [word for word in WORDS if word in stored(tmp_path)] == []


def test_the_same_requests_are_in_the_file_where_storing_is_allowed(upstream: FaultyUpstream, tmp_path: Path) -> None:
    small, large = endpoint(upstream.base_url, "small"), endpoint(upstream.base_url, "large")
    with gateway(tmp_path, cascade(small, large, "observed", mode="observe"), store_inputs=True) as running:
        label(running, running.row(running.chat(QUESTION, "observed"))["id"], TRUTH)
    assert [word for word in WORDS if word not in stored(tmp_path)] == []


def test_hashed_answers_and_labels_can_still_be_compared(upstream: FaultyUpstream, tmp_path: Path) -> None:
    small, large = endpoint(upstream.base_url, "small"), endpoint(upstream.base_url, "large")
    with gateway(tmp_path, cascade(small, large, store_predictions=False)) as running:
        right, wrong = running.chat("a"), running.chat("b")
        label(running, right, f" {LOCAL.upper()}.")
        label(running, wrong, TRUTH)
        found = running.request("GET", "/v1/stats").json["labels"]
        assert (found["compared"], found["correct"]) == (2, 1)
        row = running.row(right)
        assert row["answer"] == row["local_prediction"] == row["label"] == hashed(LOCAL)
        assert row["answer"].startswith("sha256:")
    table = read_log(running.log_path)
    assert table.correct("local").tolist() == [1.0, 0.0]


def test_the_outcome_itself_is_always_logged(running: InThread) -> None:
    reply = running.chat("easy", headers={"x-bisupervised-store": "false"})
    row = running.row(reply)
    assert (row["route"], row["local_confidence"], row["status"]) == ("local", 0.9375, 200)
    assert row["answer"] == hashed("positive")
    assert running.row(running.chat("easy"))["answer"] == "positive"


def test_a_hash_is_of_the_words_alone() -> None:
    assert hashed("Yes.") == hashed(" yes") != hashed("no")
    assert hashed(hashed("yes")) == hashed("yes")
    assert hashed(3) == 3
    assert hashed(None) is None
    assert "secret" not in hashed("sha256:secret"), "an answer that looks like a hash is none"
    assert normalised(" A\n b. ") == "a b"


def test_the_log_is_one_file_that_others_may_read_meanwhile(running: InThread) -> None:
    reply = running.chat("easy")
    running.row(reply)
    with closing(sqlite3.connect(f"file:{running.log_path}?mode=ro", uri=True)) as connection:
        assert connection.execute("SELECT count(*) FROM decisions").fetchone() == (1,)


def test_a_label_right_after_an_observed_answer_waits_for_its_row(
    upstream: FaultyUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = in_process("slowly", inline=False)
    with gateway(tmp_path, cascade(slow, endpoint(upstream.base_url, "large"), mode="observe")) as running:
        answer = running.chat(QUESTION)
        assert label(running, answer, TRUTH).status == 200  # though the local model is still at work
        assert running.row(answer)["label"] == TRUTH
        monkeypatch.setattr("bisupervised.gateway.service._WAIT_FOR_ROW_S", 0.0)
        early = label(running, running.chat(QUESTION), TRUTH)
        assert (early.status, early.code, early.headers["retry-after"]) == (409, "outcome_pending", "1")
