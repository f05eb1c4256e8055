"""Which rows of a log: those of a period, of a cascade, …"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bisupervised.errors import InputError


class Period:
    """Conditions on rows: `since <= time < until`, and columns that have a given value; None: any.

    The bounds are Unix seconds or datetimes with a time zone.
    """

    def __init__(
        self, since: float | datetime | None, until: float | datetime | None, **columns: str | int | None
    ) -> None:
        bounds = {"since": _seconds(since), "until": _seconds(until)}
        self.parameters: dict[str, Any] = {
            name: value for name, value in (bounds | columns).items() if value is not None
        }
        comparisons = {"since": "time >= :since", "until": "time < :until"}
        self._conditions = [comparisons.get(name, f"{name} = :{name}") for name in self.parameters]

    @property
    def where(self) -> str:
        """The SQL clause, to go with `parameters`; empty when there are no conditions."""
        return self.where_also()

    def where_also(self, *conditions: str) -> str:
        """The clause with further conditions."""
        every = [*self._conditions, *conditions]
        return f"WHERE {' AND '.join(every)}" if every else ""


def _seconds(moment: float | datetime | None) -> float | None:
    if not isinstance(moment, datetime):
        return moment
    if moment.tzinfo is None:
        raise InputError(f"{moment.isoformat()} has no time zone; add one, such as datetime.timezone.utc")
    return moment.timestamp()
