"""A team's own log of requests: JSON lines in OpenAI's shapes, LiteLLM's spend logs, or CSV."""

from bisupervised.request_logs.reading import read_request_log
from bisupervised.request_logs.records import REASONS, LoggedRequest, RequestLog, RowProblem

__all__ = ["REASONS", "LoggedRequest", "RequestLog", "RowProblem", "read_request_log"]
