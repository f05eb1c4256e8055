"""One row of a log, whatever its format, as a `LoggedRequest`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from bisupervised.errors import InputError
from bisupervised.models.openai_reply import Usage
from bisupervised.models.openai_request import kinds_of, route_of
from bisupervised.request_logs.records import NAN, LoggedRequest
from bisupervised.request_logs.replies import LoggedReply, json_object, read_reply
from bisupervised.table import is_missing

#: What the columns of a log are usually called, the likeliest first. `--columns OURS=YOURS` names others.
COLUMNS: Final[Mapping[str, Sequence[str]]] = {
    "id": ("custom_id", "id", "request_id", "row_id"),
    "input": ("input", "prompt", "text", "question", "query", "x"),
    "system": ("system", "system_prompt"),
    "messages": ("messages",),
    "request": ("request", "body", "request_body"),
    "answer": ("answer", "response", "completion", "output", "prediction", "remote_prediction", "reply"),
    "label": ("label", "truth", "ground_truth", "expected"),
    "cost": ("cost", "spend", "response_cost", "cost_usd", "total_cost", "remote_cost"),
    "prompt_tokens": ("prompt_tokens", "input_tokens"),
    "completion_tokens": ("completion_tokens", "output_tokens"),
    "latency_s": ("latency_s", "duration_s", "remote_latency_s"),
    "latency_ms": ("latency_ms", "duration_ms", "request_duration_ms"),
    "time": ("time", "timestamp", "created_at", "startTime", "start_time", "created", "ts", "date"),
    "model": ("model",),
    "error": ("error",),
    "status": ("status",),
}

SPEND_LOG: Final = "LiteLLM spend log"
PAIR: Final = "OpenAI request and response"
MESSAGES: Final = "messages and an answer"
FINE_TUNING: Final = "messages that end with the answer"
PLAIN: Final = "input and answer"

#: The marks that LiteLLM leaves in a text that it cut, and in place of one that it was told not to keep.
_CUT_MARK: Final = "litellm_truncated"
_REDACTED: Final = "redacted-by-litellm"
_NO_ERROR: Final = frozenset({"", "none", "null", "nan", "{}", "false"})
_COMPLETION_CALLS: Final = frozenset({"completion", "acompletion", "text_completion", "atext_completion", ""})


@dataclass(frozen=True, slots=True)
class Row:
    """A row's cells under our names; those that are missing are left out."""

    number: int
    cells: Mapping[str, Any]
    whole: Mapping[str, Any]  #: as it came

    @classmethod
    def of(cls, number: int, whole: Mapping[str, Any], rename: Mapping[str, str]) -> Row:
        """The row, with columns found by the given names, else by the usual ones."""
        cells = {}
        for ours, usual in COLUMNS.items():
            names = (rename[ours],) if ours in rename else usual
            if "input" in rename and ours in ("messages", "request"):
                continue  # whoever names the input means it
            found = (value for name in names if not _missing(value := _at(whole, name)))
            value = next(found, None)
            if value is not None:
                cells[ours] = value
        return cls(number, cells, whole)

    def number_of(self, name: str, *, scale: float = 1.0) -> float:
        """A cell as a number from 0 on; NaN when there is none. Raises `InputError`."""
        value = self.cells.get(name)
        if value is None:
            return NAN
        try:
            number = float(value) * scale
        except (TypeError, ValueError, OverflowError):
            number = -1.0
        if isinstance(value, bool) or not 0.0 <= number < math.inf:
            raise InputError(f"{name} is {str(value)[:40]!r}; write a number from 0 on, or leave it empty")
        return number


def _at(whole: Mapping[str, Any], name: str) -> Any:
    """The value under a name, or under a path of names such as `result.text`."""
    if name in whole or "." not in name:
        return whole.get(name)
    value: Any = whole
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def read_row(row: Row) -> tuple[LoggedRequest, str]:
    """The request of a row, and the format it was read as. Raises `InputError` saying what is wrong with it."""
    if "call_type" in row.whole and ("spend" in row.whole or "proxy_server_request" in row.whole):
        return _spend_log(row), SPEND_LOG
    request = _request_in(row)
    if request is not None:
        return _logged(row, request, _response_in(row)), PAIR
    messages = _messages_in(row)
    if messages is not None:
        if "answer" in row.cells or "choices" in row.whole or "error" in row.cells:
            return _logged(row, {"messages": messages}, _response_in(row)), MESSAGES
        return _fine_tuning(row, messages), FINE_TUNING
    if "input" not in row.cells and "request" not in row.cells:
        given = ", ".join(map(str, list(row.whole)[:12])) or "nothing"
        raise InputError(
            f"there is no request in it; it has: {given}. Name the columns, as in --columns input=YOURS,answer=YOURS"
        )
    return _logged(row, _plain_request(row), _response_in(row)), PLAIN


# ---------------------------------------------------------------- where the request is


def _request_in(row: Row) -> Mapping[str, Any] | None:
    request = json_object(row.cells.get("request"))
    if request is None:
        return None
    inner = json_object(request.get("body"))
    return request if inner is None else inner


def _messages_in(row: Row) -> list[Any] | None:
    for name in ("messages", "input"):
        value = row.cells.get(name)
        if isinstance(value, str) and value.lstrip().startswith("[{"):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                if name == "messages":
                    raise InputError("its messages are no JSON; write a list of {role, content}") from None
                continue
        if isinstance(value, list) and value and all(isinstance(one, Mapping) and "role" in one for one in value):
            return value
    if "messages" in row.cells:
        raise InputError("its messages are no list of {role, content}; write them so, or name a column of texts")
    return None


def _plain_request(row: Row) -> Mapping[str, Any]:
    text = row.cells.get("input", row.cells.get("request"))
    if isinstance(text, Mapping | list):
        raise InputError(f"its input is {type(text).__name__}; it must be text, or a list of messages")
    system = row.cells.get("system")
    first = [] if system is None else [{"role": "system", "content": str(system)}]
    return {"messages": [*first, {"role": "user", "content": str(text)}]}


# ---------------------------------------------------------------- where the answer is


def _response_in(row: Row) -> LoggedReply:
    if _failed(row):
        return LoggedReply(None, "no_answer")
    if "answer" not in row.cells:
        return read_reply(row.whole) if "choices" in row.whole else LoggedReply(None, "no_answer")
    value = row.cells["answer"]
    decoded = json_object(value)
    if decoded is not None and ("body" in decoded or "status_code" in decoded):  # of the batch interface, or HTTP
        status = decoded.get("status_code", 200)
        if not isinstance(status, int) or status >= 400:
            return LoggedReply(None, "no_answer")
        body = decoded.get("body")
        return read_reply(body if json_object(body) is None else json_object(body))
    return read_reply(value)


def _failed(row: Row) -> bool:
    status = row.cells.get("status")
    return bool(row.cells.get("error")) or (
        isinstance(status, str) and status.lower() in ("failure", "error", "failed")
    )


def _fine_tuning(row: Row, messages: list[Any]) -> LoggedRequest:
    last = messages[-1]
    if last.get("role") != "assistant":
        return _logged(row, {"messages": messages}, LoggedReply(None, "no_answer"))
    if len(messages) == 1:
        raise InputError("its only message is the assistant's: there is nothing that was asked; leave the row out")
    rest = {name: row.whole[name] for name in ("tools", "functions") if row.whole.get(name)}
    return _logged(row, {**rest, "messages": messages[:-1]}, read_reply(last))


# ---------------------------------------------------------------- putting it together


def _logged(row: Row, body: Mapping[str, Any], reply: LoggedReply) -> LoggedRequest:
    route = route_of(body)
    if route is None:
        return _with_figures(row, LoggedRequest(_id(row), row.number, "chat", {}, None, ("other_route",)), reply)
    kinds = kinds_of(body, route)
    if reply.kind is not None and reply.kind not in kinds:
        kinds = (*kinds, reply.kind)
    answer = None if reply.text is None else valid_text(reply.text)
    return _with_figures(row, LoggedRequest(_id(row), row.number, route, body, answer, kinds), reply)


def _with_figures(row: Row, request: LoggedRequest, reply: LoggedReply) -> LoggedRequest:
    seconds = row.number_of("latency_s")
    return replace(
        request,
        label=_label(row.cells.get("label")),
        model=valid_text(str(model)) if (model := row.cells.get("model") or reply.model) else None,
        cost=row.number_of("cost"),
        usage=_usage(row, reply.usage),
        latency_s=row.number_of("latency_ms", scale=1e-3) if math.isnan(seconds) else seconds,
        time=unix_seconds(row.cells.get("time")),
    )


def _usage(row: Row, usage: Usage) -> Usage:
    prompt = usage.prompt if not math.isnan(usage.prompt) else row.number_of("prompt_tokens")
    completion = usage.completion if not math.isnan(usage.completion) else row.number_of("completion_tokens")
    return Usage(prompt, completion, usage.cached)


def _id(row: Row) -> str:
    value = row.cells.get("id", "")
    if isinstance(value, Mapping | list):
        raise InputError("its id is no text; write text or a number, or leave it out")
    return valid_text(str(value)).strip() or f"row {row.number}"


def _label(value: Any) -> Any:
    if isinstance(value, Mapping | list):
        return valid_text(json.dumps(value, ensure_ascii=False))
    return valid_text(value) if isinstance(value, str) else None if is_missing(value) else value


def valid_text(text: str) -> str:
    """The text with halves of characters, which JSON may hold and no file can, replaced.

    >>> valid_text("caf\\u00e9 \\ud83d")
    'café �'
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def unix_seconds(value: Any) -> float:
    """A moment as Unix seconds: a number of seconds, milli- or microseconds, or ISO 8601 text (UTC where it names
    no zone); NaN for anything else.

    >>> unix_seconds("1970-01-01 00:01:00+00:00"), unix_seconds(1_700_000_000_000)
    (60.0, 1700000000.0)
    """
    if isinstance(value, bool) or value is None:
        return NAN
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = NAN
    if math.isfinite(number):
        return number / (1e6 if number > 1e14 else 1e3 if number > 1e11 else 1.0)
    try:
        moment = datetime.fromisoformat(str(value).strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return NAN


# ---------------------------------------------------------------- LiteLLM


def _spend_log(row: Row) -> LoggedRequest:
    """A row of LiteLLM's table `LiteLLM_SpendLogs`.

    Its column `messages` is empty for ordinary calls: what the client sent is in `proxy_server_request`, and both
    that and `response` are there only with `store_prompts_in_spend_logs: true`. Texts of more than
    MAX_STRING_LENGTH_PROMPT_IN_DB characters (2,048 by default) are cut in the middle.
    """
    row = Row(row.number, _spend_log_cells(row), row.whole)
    if str(row.whole.get("call_type") or "") not in _COMPLETION_CALLS:
        return _unreplayable(row, "other_route")
    if _failed(row):
        return _unreplayable(row, "no_answer")
    body = _spend_log_body(row.whole)
    if body is None or "answer" not in row.cells:
        return _unreplayable(row, "not_stored")
    stored = json.dumps([body, row.cells["answer"]], default=str)
    if _REDACTED in stored:
        return _unreplayable(row, "not_stored")
    request = _logged(row, body, _response_in(row))
    return _unreplayable(row, *request.unscorable, "cut") if _CUT_MARK in stored else request


def _spend_log_cells(row: Row) -> dict[str, Any]:
    """The row's cells without those that stand empty (`{}`) for what was not stored, and with a latency."""
    cells = {name: cell for name, cell in row.cells.items() if name not in ("request", "messages")}
    if cells.get("answer") == {} or json_object(cells.get("answer")) == {}:
        del cells["answer"]
    if "latency_ms" not in cells:
        seconds = unix_seconds(row.whole.get("endTime")) - unix_seconds(row.whole.get("startTime"))
        if seconds >= 0.0:
            cells["latency_s"] = seconds
    return cells


def _spend_log_body(whole: Mapping[str, Any]) -> Mapping[str, Any] | None:
    body = json_object(whole.get("proxy_server_request"))
    if body is not None:
        body = json_object(body.get("body")) or body
        if route_of(body) is not None:
            return body
    messages = whole.get("messages")
    if isinstance(messages, str) and messages.lstrip().startswith("["):
        try:
            messages = json.loads(messages)
        except (ValueError, RecursionError):
            return None
    return {"messages": messages} if isinstance(messages, list) and messages else None


def _unreplayable(row: Row, *kinds: str) -> LoggedRequest:
    request = LoggedRequest(_id(row), row.number, "chat", {}, None, kinds)
    return _with_figures(row, request, LoggedReply(None))
