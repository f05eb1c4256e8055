"""Reading a team's log of requests: every shape, every bad row told, none fatal."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisupervised.errors import InputError, TableError
from bisupervised.models.openai_request import kinds_of, route_of
from bisupervised.request_logs import LoggedRequest, RequestLog, read_request_log
from bisupervised.request_logs.replies import read_reply
from bisupervised.request_logs.rows import unix_seconds

ASKED = [{"role": "system", "content": "Yes or no?"}, {"role": "user", "content": "Is it good?"}]
BODY = {"model": "large", "messages": ASKED, "temperature": 0}
REPLY = {
    "id": "chatcmpl-1",
    "model": "large-2026",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 8}},
}


def json_lines(folder: Path, *rows: Any, name: str = "log.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def table(folder: Path, *rows: dict[str, Any], name: str = "log.csv") -> Path:
    path = folder / name
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def only(log: RequestLog) -> LoggedRequest:
    assert log.problems == []
    assert len(log) == 1
    return log.requests[0]


# ---------------------------------------------------------------- shapes


PAIRS = [
    {"request": BODY, "response": REPLY},
    {"request": json.dumps(BODY), "response": json.dumps(REPLY)},
    {"request": {"url": "/v1/chat/completions", "body": BODY}, "response": {"status_code": 200, "body": REPLY}},
    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": BODY, "response": {"body": REPLY}},
    {"body": BODY, "completion": REPLY},
    {"messages": ASKED, "response": REPLY},
    {"messages": ASKED, "completion": "Yes."},
    {"messages": json.dumps(ASKED), "response": " Yes.\n"},
    {"messages": [*ASKED, {"role": "assistant", "content": "Yes."}]},
    {**REPLY, "messages": ASKED},
    {"system": "Yes or no?", "prompt": "Is it good?", "completion": "Yes."},
    {"request": BODY, "response": {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]}},
]


@pytest.mark.parametrize("row", PAIRS)
def test_a_request_and_its_answer_are_found_in_every_usual_shape(tmp_path: Path, row: dict[str, Any]) -> None:
    request = only(read_request_log(json_lines(tmp_path, row)))
    assert request.text("messages") == ASKED
    assert request.text("last_message") == "Is it good?"
    assert (request.answer, request.unscorable, request.route) == ("Yes.", (), "chat")


def test_what_the_log_says_of_a_request_comes_along(tmp_path: Path) -> None:
    more = {"id": "r1", "cost": 0.004, "latency_ms": 730, "timestamp": "2026-03-01T00:00:10Z", "label": "yes"}
    request = only(read_request_log(json_lines(tmp_path, {**more, "request": BODY, "response": REPLY})))
    assert (request.id, request.cost, request.latency_s, request.label) == ("r1", 0.004, 0.73, "yes")
    assert request.time == 1_772_323_210.0
    assert (request.usage.prompt, request.usage.completion, request.usage.cached) == (12, 2, 8)
    assert request.model == "large-2026"
    assert request.text("body") == BODY


def test_what_the_log_does_not_say_is_not_known(tmp_path: Path) -> None:
    log = read_request_log(json_lines(tmp_path, {"messages": ASKED, "completion": "Yes."}))
    request = only(log)
    assert all(map(math.isnan, (request.cost, request.latency_s, request.time, request.usage.prompt, log.days)))
    assert (request.label, request.model, request.id) == (None, None, "row 1")


def test_a_batch_is_read_from_its_two_files_in_either_order(tmp_path: Path) -> None:
    given = [{"custom_id": f"q{n}", "url": "/v1/chat/completions", "body": BODY} for n in range(3)]
    answered = {
        "id": "batch_req_1",
        "custom_id": "q1",
        "response": {"status_code": 200, "body": REPLY},
        "error": None,
    }
    failed = {"custom_id": "q0", "response": {"status_code": 500, "body": {}}, "error": None}
    asked = json_lines(tmp_path, *given, name="in.jsonl")
    said = json_lines(tmp_path, failed, answered, name="out.jsonl")
    for files in ((asked, said), (said, asked)):
        log = read_request_log(*files)
        assert [(one.id, one.answer, one.unscorable) for one in log.requests] == [
            ("q0", None, ("no_answer",)),
            ("q1", "Yes.", ()),
        ]
        assert [str(problem) for problem in log.problems] == [
            "row 3: the answers' file has no row with its id 'q2'; add it"
        ]


def test_a_text_completion_keeps_its_prompt(tmp_path: Path) -> None:
    row = {"request": {"prompt": "2 + 2 =", "max_tokens": 1}, "response": {"choices": [{"text": " 4"}]}}
    request = only(read_request_log(json_lines(tmp_path, row)))
    assert (request.route, request.text("messages"), request.answer) == ("completions", "2 + 2 =", "4")


def test_a_streamed_answer_is_put_together(tmp_path: Path) -> None:
    chunks = [{"choices": [{"index": 0, "delta": {"content": part}}]} for part in ("Ye", "s.")]
    chunks.append({"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 2}})
    events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    for response in (chunks, events):
        request = only(
            read_request_log(json_lines(tmp_path, {"request": {**BODY, "stream": True}, "response": response}))
        )
        assert (request.answer, request.unscorable, request.usage.completion) == ("Yes.", (), 2)


def test_json_answers_and_numbers_are_answers() -> None:
    assert read_reply({"label": "a"}).text == '{"label": "a"}'
    assert read_reply([1, 2]).text == "[1, 2]"
    assert read_reply(3).text == "3"


@pytest.mark.parametrize(
    ("body", "reply", "reasons"),
    [
        ({"tools": [{"type": "function"}]}, REPLY, ("tools",)),
        ({"n": 3}, REPLY, ("many",)),
        ({"response_format": {"type": "json_object"}}, REPLY, ("json_mode",)),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, REPLY, ("image",)),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, REPLY, ("audio",)),
        ({}, {"choices": [{"message": {"content": None, "tool_calls": [{}]}}]}, ("tool_call",)),
        ({}, {"choices": [{"message": {"content": None, "refusal": "No."}}]}, ("refusal",)),
        ({}, {"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]}, ("many",)),
        ({}, {"choices": [{"message": {"content": " "}}]}, ("no_answer",)),
        ({}, {"choices": []}, ("no_answer",)),
        ({}, {"error": {"message": "overloaded"}}, ("no_answer",)),
        ({}, None, ("no_answer",)),
        ({"tools": [{}]}, {"choices": [{"message": {"content": None, "tool_calls": [{}]}}]}, ("tools", "tool_call")),
    ],
)
def test_what_no_supervisor_can_score_is_kept_with_its_reason(
    tmp_path: Path, body: dict[str, Any], reply: Any, reasons: tuple[str, ...]
) -> None:
    assert (
        only(read_request_log(json_lines(tmp_path, {"request": BODY | body, "response": reply}))).unscorable
        == reasons
    )


@pytest.mark.parametrize("body", [{"input": "a text"}, {"prompt": "a cat", "size": "1024x1024"}, {"file": "x"}])
def test_a_request_of_another_route_is_counted_and_not_read(tmp_path: Path, body: dict[str, Any]) -> None:
    assert only(read_request_log(json_lines(tmp_path, {"request": body, "response": {}}))).unscorable == (
        "other_route",
    )


# ---------------------------------------------------------------- LiteLLM

#: A row as LiteLLM 1.108 makes it (`get_logging_payload`), with `store_prompts_in_spend_logs: true`; shortened.
SPEND = {
    "request_id": "chatcmpl-2c46a5b7",
    "call_type": "acompletion",
    "api_key": "8254c329a928",
    "cache_hit": "None",
    "startTime": "2026-11-24 22:31:13.859951+00:00",
    "endTime": "2026-11-24 22:31:14.109951+00:00",
    "completionStartTime": "2026-11-24 22:31:13.893029+00:00",
    "model": "gpt-4o",
    "metadata": '{"status": null, "usage_object": {"completion_tokens": 20, "prompt_tokens": 10}}',
    "spend": 0.000225,
    "total_tokens": 30,
    "prompt_tokens": 10,
    "completion_tokens": 20,
    "request_tags": "[]",
    "messages": "{}",
    "response": '{"id": "chatcmpl-2c46a5b7", "created": 1795559473, "model": "gpt-4o", "object": "chat.completion", '
    '"choices": [{"finish_reason": "stop", "index": 0, "message": {"content": "Yes.", "role": "assistant", '
    '"tool_calls": null, "function_call": null}}], "usage": {"completion_tokens": 20, "prompt_tokens": 10, '
    '"total_tokens": 30, "completion_tokens_details": null, "prompt_tokens_details": null}}',
    "proxy_server_request": '{"model": "gpt-4o", "messages": [{"role": "user", "content": "Is it good?"}]}',
    "request_duration_ms": 250,
    "status": "success",
}


@pytest.mark.parametrize("write", [json_lines, table])
def test_a_spend_log_is_read_from_json_and_from_csv(tmp_path: Path, write: Any) -> None:
    log = read_request_log(write(tmp_path, SPEND))
    request = only(log)
    assert (request.text("last_message"), request.answer, request.unscorable) == ("Is it good?", "Yes.", ())
    assert (request.cost, request.latency_s, request.usage.prompt) == (0.000225, 0.25, 10)
    assert request.time == pytest.approx(1_795_559_473.859951)
    assert (request.model, log.formats) == ("gpt-4o", {"LiteLLM spend log": 1})


def test_a_spend_log_may_come_as_the_interface_gives_it(tmp_path: Path) -> None:
    decoded = SPEND | {
        name: json.loads(str(SPEND[name])) for name in ("response", "proxy_server_request", "messages")
    }
    wrapped = decoded | {
        "proxy_server_request": {"body": decoded["proxy_server_request"], "url": "/chat/completions"}
    }
    path = tmp_path / "logs.json"
    for document in ([decoded], {"data": [wrapped], "total": 1}):
        path.write_text(json.dumps(document, indent=2))
        assert only(read_request_log(path)).answer == "Yes."


def asking(text: str) -> str:
    return json.dumps({"messages": [{"role": "user", "content": text}]})


CUT = "x" * 700 + "... (litellm_truncated skipped 953 chars. …) ..." + "y" * 1300


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"proxy_server_request": "{}", "response": "{}"}, "not_stored"),
        ({"response": "{}"}, "not_stored"),
        ({"proxy_server_request": asking("redacted-by-litellm")}, "not_stored"),
        ({"proxy_server_request": asking(CUT)}, "cut"),
        ({"response": json.dumps({"choices": [{"message": {"role": "assistant", "content": CUT}}]})}, "cut"),
        ({"status": "failure", "response": "{}"}, "no_answer"),
        ({"call_type": "aembedding"}, "other_route"),
        ({"call_type": "anthropic_messages"}, "other_route"),
    ],
)  # fmt: skip
def test_a_spend_log_row_that_cannot_be_replayed_says_why_and_keeps_its_cost(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    request = only(read_request_log(json_lines(tmp_path, SPEND | change)))
    assert (request.unscorable, request.cost, request.answer) == ((reason,), 0.000225, None)


def test_a_spend_of_zero_everywhere_is_not_known_rather_than_nothing(tmp_path: Path) -> None:
    rows = [SPEND | {"request_id": str(n), "spend": 0.0} for n in range(2)]
    log = read_request_log(json_lines(tmp_path, *rows))
    assert all(math.isnan(one.cost) for one in log.requests)
    assert "--remote-cost" in log.notes[0]
    some = read_request_log(json_lines(tmp_path, *rows, SPEND))
    assert [one.cost for one in some.requests] == [0.0, 0.0, 0.000225]  # those were cache hits, say


# ---------------------------------------------------------------- CSV


def test_csv_with_usual_names_and_with_ones_own(tmp_path: Path) -> None:
    row = {"id": "7", "input": "Is it good?", "answer": "Yes.", "label": "no", "cost": "0.002", "latency_s": "1.5"}
    request = only(read_request_log(table(tmp_path, row)))
    assert (request.id, request.text("last_message"), request.answer) == ("7", "Is it good?", "Yes.")
    assert (request.label, request.cost, request.latency_s) == ("no", 0.002, 1.5)
    own = table(tmp_path, {"frage": "Gut?", "antwort": "Ja", "messages": "12"})
    assert only(read_request_log(own, columns={"input": "frage", "answer": "antwort"})).answer == "Ja"


def test_a_column_may_be_a_path_into_json_lines(tmp_path: Path) -> None:
    log = read_request_log(
        json_lines(tmp_path, {"q": {"text": "Good?"}, "a": {"out": "Yes"}}),
        columns={"input": "q.text", "answer": "a.out"},
    )
    assert (only(log).text("last_message"), only(log).answer) == ("Good?", "Yes")


@pytest.mark.parametrize(
    ("columns", "words"),
    [({"input": "nope"}, "nope (for input)"), ({"question": "input"}, "--columns knows no question")],
)
def test_a_column_that_is_not_there_is_told(tmp_path: Path, columns: dict[str, str], words: str) -> None:
    with pytest.raises(InputError) as refused:
        read_request_log(table(tmp_path, {"input": "a", "answer": "b"}), columns=columns)
    assert words in str(refused.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_of_every_delimiter_with_line_breaks_a_bom_and_long_cells(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "log.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([["input", "answer"], ["a\nb", "é" * 200_000], ["c", ""]])
    log = read_request_log(path)
    assert [one.text("last_message") for one in log.requests] == ["a\nb", "c"]
    assert [one.row for one in log.requests] == [2, 3]
    assert log.requests[0].answer == "é" * 200_000
    assert log.requests[1].unscorable == ("no_answer",)


# ---------------------------------------------------------------- bad rows


GOOD = {"messages": ASKED, "completion": "Yes."}
BAD_ROWS = [
    ('{"messages": [{"role": "us', "no JSON"),
    ('[1, 2]', "a JSON object is expected, not list"),
    ('"text"', "a JSON object is expected, not str"),
    ("[" * 100_000, "nested too deeply"),
    ('{"a": ' * 100_000, "nested too deeply"),
    ("{}", "there is no request in it; it has: nothing"),
    ('{"foo": 1}', "it has: foo. Name the columns, as in --columns input=YOURS"),
    ('{"messages": []}', "no list of {role, content}"),
    ('{"messages": "hello"}', "no list of {role, content}"),
    ('{"messages": "[{bad", "answer": "x"}', "no JSON; write a list"),
    ('{"request": {"messages": [{"content": "no role"}]}}', "`messages[0]` is an object with a `role`"),
    ('{"request": {"messages": [{"role": "user", "content": 5}]}}', "content` is "),
    ('{"request": {"messages": [{"role": "user", "content": ["x"]}]}}', "parts of `messages[0].content` are obj"),
    ('{"request": {"prompt": ""}}', "`prompt` is text"),
    ('{"input": "a", "answer": "b", "cost": "cheap"}', "cost is 'cheap'; write a number from 0 on"),
    ('{"input": "a", "answer": "b", "cost": -1}', "cost is '-1'"),
    ('{"input": "a", "answer": "b", "prompt_tokens": true}', "prompt_tokens is 'True'"),
    ('{"input": "a", "answer": "b", "latency_s": Infinity}', "latency_s is 'inf'"),
    ('{"input": {"a": 1}, "answer": "b"}', "its input is dict; it must be text"),
    ('{"input": "a", "answer": "b", "id": {"a": 1}}', "its id is no text"),
    ('{"input": "a", "answer": "data: {cut"}', "its streamed answer is cut"),
    ('{"input": "a", "answer": {"role": "assistant", "content": 5}}', "the content of its answer is int"),
    ('{"messages": [{"role": "assistant", "content": "Yes."}]}', "nothing that was asked"),
    ('{"input": "a", "cost": 1' + "0" * 5000 + "}", ""),
]  # fmt: skip


@pytest.mark.parametrize(("line", "words"), BAD_ROWS, ids=range(len(BAD_ROWS)))
def test_a_bad_row_is_told_with_its_number_and_loses_no_other(tmp_path: Path, line: str, words: str) -> None:
    log = read_request_log(json_lines(tmp_path, GOOD, line, GOOD))
    assert len(log) == 2
    assert [problem.row for problem in log.problems] == [2]
    assert words in str(log.problems[0])
    assert len(str(log.problems[0])) < 400


def test_a_line_that_is_no_utf8_is_one_bad_row(tmp_path: Path) -> None:
    path = json_lines(tmp_path, GOOD)
    path.write_bytes(
        path.read_bytes() * 2 + '{"input": "café", "answer": "x"}\n'.encode("latin-1") + path.read_bytes()
    )
    log = read_request_log(path)
    assert len(log) == 3
    assert str(log.problems[0]) == "row 3: byte 15 is no UTF-8 text; save the file as UTF-8"


def test_a_csv_row_of_another_encoding_or_length_is_one_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes("input,answer\na,b\ncafé,b\na\n\na,b,c\nd,e\n".encode("latin-1"))
    log = read_request_log(path)
    assert [one.text("last_message") for one in log.requests] == ["a", "d"]
    assert [str(problem)[:30] for problem in log.problems] == [
        "row 3: it is no UTF-8 text; sa",
        "row 4: 1 cells under 2 column ",
        "row 6: 3 cells under 2 column ",
    ]


def test_a_quote_that_is_never_closed_says_what_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text('input,answer\na,b\n"c,d\ne,f\n')
    log = read_request_log(path)
    assert len(log) == 1
    assert "row 3" in str(log.problems[0])
    assert "never closed" in str(log.problems[0])


def test_a_file_that_was_cut_says_so(tmp_path: Path) -> None:
    path = json_lines(tmp_path, GOOD, GOOD)
    path.write_text(path.read_text()[:-20])
    log = read_request_log(path)
    assert len(log) == 1
    assert "was the file cut?" in str(log.problems[0])


def test_a_huge_row_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bisupervised.request_logs import reading

    monkeypatch.setattr(reading, "MAX_ROW_BYTES", 1000)
    log = read_request_log(json_lines(tmp_path, GOOD, {"input": "x" * 5000, "answer": "y"}, GOOD))
    assert len(log) == 2
    assert log.problems[0].row == 2
    assert "longer than" in str(log.problems[0])


def test_halves_of_characters_become_text_that_can_be_written(tmp_path: Path) -> None:
    row = '{"input": "a", "answer": "caf\\u00e9 \\ud83d", "id": "\\udc00", "label": "\\ud83d\\ude00"}'
    request = only(read_request_log(json_lines(tmp_path, row)))
    assert (request.answer, request.id, request.label) == ("café �", "�", "😀")


def test_rows_that_share_an_id_are_told_apart(tmp_path: Path) -> None:
    log = read_request_log(json_lines(tmp_path, *({"id": id_, **GOOD} for id_ in ("a", "b", "a"))))
    assert [one.id for one in log.requests] == ["a (row 1)", "b", "a (row 3)"]
    assert "2 rows share their id" in log.notes[0]


def test_repeated_inputs_are_counted_whatever_their_settings(tmp_path: Path) -> None:
    rows = [{"request": BODY | change, "response": REPLY} for change in ({}, {"temperature": 1}, {"user": "u"})]
    other = {"request": {"messages": ASKED[1:]}, "response": REPLY}
    assert read_request_log(json_lines(tmp_path, *rows, other)).repeated == 2


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n\t ", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        ('{"a": 1}'.encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        (b"\x1f\x8b\x08\x00", "is compressed"),
        (b"PAR1\x00", "is Parquet"),
        (b"[1, 2", "is no JSON"),
        (b"[]", "holds no rows"),
        (b'{"foo": 1}\n{"foo": 2}\n', "no row of"),
        (b"a,a\n1,2\n", "two columns of the same name: a"),
        (b"input,answer\n", "holds no rows"),
        (b"id,local_confidence,remote_prediction\n1,2,3\n", "bisupervised evaluate"),
    ],
)
def test_a_file_that_holds_no_log_says_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_request_log(path)
    assert words in str(refused.value)


def test_a_decision_log_is_sent_to_evaluate(tmp_path: Path) -> None:
    from bisupervised.decision_log import DecisionLog

    DecisionLog(tmp_path / "log.db").close()
    with pytest.raises(TableError, match="bisupervised evaluate"):
        read_request_log(tmp_path / "log.db")


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="there is no file"):
        read_request_log(tmp_path / "absent.jsonl")
    with pytest.raises(TableError, match="is a folder"):
        read_request_log(tmp_path)


# ---------------------------------------------------------------- properties

_KEYS = (
    "messages request response body choices message content role delta type text input answer id cost call_type "
    "spend proxy_server_request usage error tool_calls prompt n response_format label time status output object "
    "latency_ms index"
)
_NAMES = st.sampled_from(_KEYS.split()) | st.text(max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=5),
    max_leaves=20,
)


@given(st.lists(st.dictionaries(_NAMES, JSON, max_size=6), min_size=1, max_size=4))
def test_whatever_a_row_holds_it_is_read_or_told(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    path = json_lines(tmp_path_factory.mktemp("log"), *rows)
    try:
        log = read_request_log(path)
    except InputError:
        return
    assert len(log) + len(log.problems) == len(rows)
    for request in log.requests:
        assert request.unscorable or request.answer
        assert len(request.input_hash) == 16
        if not request.unscorable:
            request.text("last_message")


@given(st.binary(max_size=300))
def test_whatever_bytes_a_file_holds_they_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    for name in ("log.jsonl", "log.csv", "log"):
        (folder / name).write_bytes(content)
        try:
            read_request_log(folder / name)
        except InputError:
            continue


@given(
    st.dictionaries(
        st.sampled_from(("messages", "prompt", "tools", "functions", "n", "best_of", "response_format")), JSON
    )
)
def test_the_log_and_the_gateway_see_the_same_kinds_in_a_request(body: dict[str, Any]) -> None:
    wire = pytest.importorskip("bisupervised.gateway.openai_wire")
    for route in ("chat", "completions"):
        if ("messages" if route == "chat" else "prompt") not in body:
            continue
        try:
            ours: Any = kinds_of(body, route)
        except InputError:
            ours = None
        try:
            text = json.dumps({"model": "m", **body}, allow_nan=False).encode()
            theirs: Any = wire.read_request(text, route).kinds
        except (InputError, ValueError):
            theirs = None
        if theirs is not None:
            assert set(ours) == set(theirs)


@pytest.mark.parametrize(
    "body",
    [
        BODY,
        BODY | {"tools": [{}], "n": 2},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}], "response_format": {"type": "json"}},
        {"prompt": ["a", "b"]},
        {"prompt": "a", "best_of": 3},
    ],
)  # fmt: skip
def test_the_log_and_the_gateway_give_a_model_the_same_text(body: dict[str, Any]) -> None:
    wire = pytest.importorskip("bisupervised.gateway.openai_wire")
    route = route_of(body)
    assert route is not None
    theirs = wire.read_request(json.dumps({"model": "m", **body}).encode(), route)
    ours = LoggedRequest("a", 1, route, body, "x", kinds_of(body, route))
    assert set(ours.unscorable) == set(theirs.kinds)
    for which in ("last_message", "messages"):
        assert ours.text(which) == theirs.text(which)


@given(st.floats(0, 4e9))
def test_a_moment_is_the_same_in_seconds_and_in_milliseconds_of_this_century(seconds: float) -> None:
    if seconds > 1e9:
        assert unix_seconds(seconds * 1000) == pytest.approx(seconds)
    assert unix_seconds(seconds) == seconds
    assert math.isnan(unix_seconds("yesterday"))
