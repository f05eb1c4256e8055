"""The OpenAPI description of the gateway's own routes: `GET /openapi.json`. Tests fuzz the routes from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from bisupervised import __version__
from bisupervised.gateway.refusals import CODES

if TYPE_CHECKING:
    from bisupervised.gateway.service import Service

Schema = dict[str, Any]

#: Characters of a label.
MOST_LABEL: Final = 10_000

_TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "number"}
_OBJECT: Final[Schema] = {"type": "object"}
_THRESHOLD: Final[Schema] = {"oneOf": [_NUMBER, {"type": "string", "enum": ["inf", "-inf"]}]}


def _object(required: Sequence[str] = (), *, closed: bool = False, **properties: Schema) -> Schema:
    return _schema(required, properties, closed=closed)


def _schema(required: Sequence[str], properties: Mapping[str, Schema], *, closed: bool = False) -> Schema:
    schema: Schema = {"type": "object", "properties": dict(properties)}
    if required:
        schema["required"] = list(required)
    if closed:
        schema["additionalProperties"] = False
    return schema


def _parameter(name: str, schema: Schema, what: str, where: str = "query") -> Schema:
    return {"name": name, "in": where, "required": where == "path", "schema": schema, "description": what}


_WISHES: Final = [
    _parameter(
        "x-bisupervised-force", {"type": "string", "enum": ["local", "remote"]}, "answer with this level", "header"
    ),
    _parameter(
        "x-bisupervised-fallback",
        {"type": "string", "enum": ["raise", "default", "local_untrusted"]},
        "what happens when no level can be trusted, in place of the cascade's own fallback",
        "header",
    ),
    _parameter(
        "x-bisupervised-store",
        {"type": "string", "enum": ["true", "false"]},
        "false: nothing of the content is stored; the outcome itself always is",
        "header",
    ),
    _parameter("x-bisupervised-conversation", {"type": "string"}, "what this conversation is called", "header"),
]
_PERIOD: Final = [
    _parameter("since", _NUMBER, "Unix seconds, from"),
    _parameter("until", _NUMBER, "Unix seconds, before"),
    _parameter("cascade", _TEXT, "only this cascade's"),
]
_LIMIT: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 1000}


def _operation(
    what: str,
    *,
    parameters: Sequence[Schema] = (),
    body: Schema | None = None,
    answer: Schema | None = None,
    errors: Sequence[int] = (),
    kind: str = "application/json",
    public: bool = False,
    further: Mapping[str, Schema] | None = None,
) -> Schema:
    content: dict[str, Any] = {kind: {"schema": answer or _OBJECT}} | dict(further or {})
    responses: dict[str, Any] = {"200": {"description": "done", "content": content}}
    for status in sorted({*errors, *(() if public else (401, 403)), 405, 413, 431}):
        responses[str(status)] = {"$ref": f"#/components/responses/{status}"}
    operation: Schema = {"summary": what, "parameters": list(parameters), "responses": responses}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if public:
        operation["security"] = []
    return operation


def _responses() -> dict[str, Any]:
    error = _object(
        ["error"],
        error=_object(
            ["message", "type", "code"],
            message=_TEXT,
            type=_TEXT,
            param={"type": ["string", "null"]},
            code={"type": ["string", "null"]},
        ),
    )
    by_status: dict[int, list[str]] = {}
    for code, (status, meaning) in CODES.items():
        by_status.setdefault(status, []).append(f"`{code}`: {meaning}")
    return {
        str(status): {"description": "; ".join(meanings), "content": {"application/json": {"schema": error}}}
        for status, meanings in sorted(by_status.items())
    }


def description(service: Service) -> dict[str, Any]:
    """The whole description, with this gateway's models as examples."""
    models = [name for name, cascade in service.cascades.items() if cascade.settings.interface == "openai"]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bisupervised gateway",
            "version": __version__,
            "description": "A small local model first, a large remote one where it pays, and a supervisor on each.",
        },
        "security": [{"key": []}],
        "paths": _paths(models, list(service.cascades), metrics_key=service.settings.metrics_key),
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "responses": _responses(),
        },
    }


def _paths(models: Sequence[str], cascades: Sequence[str], *, metrics_key: bool) -> dict[str, Any]:
    model: Schema = {"type": "string", "enum": list(models)} if models else _TEXT
    upstream = (400, 404, 422, 429, 500, 502, 503, 504)
    stream: Mapping[str, Schema] = {"text/event-stream": {"schema": {}}}
    cascade = _parameter("cascade", {"type": "string", "enum": list(cascades)}, "its name", "path")
    change = _object(["id", "cascade", "kind", "value", "by"], id={"type": "integer"}, cascade=_TEXT, kind=_TEXT)
    id_ = _parameter("id", _TEXT, "x-bisupervised-id of an answer", "path")
    return {
        "/v1/chat/completions": {
            "post": _operation(
                "A chat completion",
                parameters=_WISHES,
                body=_chat(model),
                errors=upstream,
                further=stream,
            )
        },
        "/v1/completions": {
            "post": _operation(
                "A completion", parameters=_WISHES, body=_completion(model), errors=upstream, further=stream
            )
        },
        "/v1/models": {"get": _operation("The virtual models")},
        "/v1/models/{model}": {
            "get": _operation(
                "One virtual model", parameters=[_parameter("model", _TEXT, "its name", "path")], errors=[404]
            )
        },
        "/v1/outcomes": {
            "get": _operation(
                "Outcomes as they are stored, the newest first",
                parameters=[
                    *_PERIOD,
                    _parameter(
                        "route", {"type": "string", "enum": ["local", "remote", "rejected"]}, "only this route"
                    ),
                    _parameter("key", _TEXT, "only this client's"),
                    _parameter("limit", _LIMIT, "how many, 100 unless told"),
                    _parameter("after", {"type": "integer", "minimum": 1}, "`after_seq` of the page before"),
                ],
                errors=[400, 503],
            )
        },
        "/v1/outcomes/{id}": {"get": _operation("One outcome", parameters=[id_], errors=[400, 404, 503])},
        "/v1/outcomes/{id}/label": {
            "post": _operation(
                "Attach the ground truth to an outcome",
                parameters=[id_],
                body=_object(
                    ["label"],
                    closed=True,
                    label={"type": ["string", "number", "boolean", "null"], "maxLength": MOST_LABEL},
                ),
                errors=[400, 404, 503],
            )
        },
        "/v1/stats": {"get": _operation("What the log says over a period", parameters=_PERIOD, errors=[400, 503])},
        "/v1/cascades": {"get": _operation("The cascades, with their modes and thresholds")},
        "/v1/cascades/{cascade}/mode": {
            "put": _operation(
                "Change a cascade's mode, from the next request on",
                parameters=[cascade],
                body=_object(
                    closed=True,
                    mode={"type": "string", "enum": ["observe", "enforce", "remote_only"]},
                    share={"type": "number", "minimum": 0, "maximum": 1},
                    share_by={"type": "string", "enum": ["random", "key"]},
                    note=_TEXT,
                ),
                answer=change,
                errors=[400, 404, 503],
            )
        },
        "/v1/cascades/{cascade}/thresholds": {
            "put": _operation(
                "Change a cascade's thresholds, from the next request on",
                parameters=[cascade],
                body=_object(
                    ["local", "remote"],
                    closed=True,
                    local=_THRESHOLD,
                    remote=_THRESHOLD,
                    target=_OBJECT,
                    evidence=_OBJECT,
                    achieved=_OBJECT,
                    note=_TEXT,
                ),
                answer=change,
                errors=[400, 404, 503],
            )
        },
        "/v1/kill-switch": {
            "put": _operation(
                "Send everything to the remote models, or stop doing so",
                body=_object(["on"], on={"type": "boolean"}, note=_TEXT),
                answer=change,
                errors=[400, 503],
            )
        },
        "/v1/changes": {
            "get": _operation(
                "Changes of modes and thresholds, the newest first",
                parameters=[
                    _parameter("cascade", _TEXT, "only this cascade's"),
                    _parameter("limit", _LIMIT, "how many"),
                ],
                errors=[400, 503],
            )
        },
        "/v1/changes/{change}/rollback": {
            "post": _operation(
                "What held before a change holds again",
                parameters=[_parameter("change", {"type": "integer", "minimum": 1}, "the change's id", "path")],
                answer=change,
                errors=[400, 503],
            )
        },
        "/healthz": {"get": _operation("The process is alive", public=True)},
        "/readyz": {"get": _operation("Requests are taken", public=True, errors=[503])},
        "/metrics": {"get": _operation("For Prometheus", kind="text/plain", answer=_TEXT, public=not metrics_key)},
        "/openapi.json": {"get": _operation("This description", public=True)},
    }


def _chat(model: Schema) -> Schema:
    part = _object(["type", "text"], type={"type": "string", "enum": ["text"]}, text=_TEXT)
    message = _object(
        ["role", "content"],
        role={"type": "string", "enum": ["system", "user", "assistant"]},
        content={"oneOf": [_TEXT, {"type": "array", "items": part, "minItems": 1}]},
    )
    messages = {"type": "array", "items": message, "minItems": 1}
    return _schema(["model", "messages"], {"model": model, "messages": messages} | _sampling())


def _completion(model: Schema) -> Schema:
    prompt = {"type": "string", "minLength": 1}
    return _schema(["model", "prompt"], {"model": model, "prompt": prompt} | _sampling())


def _sampling() -> dict[str, Schema]:
    return {
        "stream": {"type": "boolean"},
        "stream_options": _object(include_usage={"type": "boolean"}),
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "max_tokens": {"type": "integer", "minimum": 1},
        "n": {"type": "integer", "minimum": 1, "maximum": 128},
    }
