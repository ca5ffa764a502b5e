"""Types and checks of columns that mean the same on every backend."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import CheckConstraint, Dialect, Index, Text, TypeDecorator, text

_LONGEST = 20_000


class JSONText(TypeDecorator[Any]):
    """JSON as text, keys sorted, so that equal values are equal text on every backend."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        """The text to store. Raises ValueError for NaN and infinities, which are not JSON."""
        return None if value is None else json.dumps(value, sort_keys=True, allow_nan=False)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        """The value that was stored."""
        return None if value is None else json.loads(value)


class Message(TypeDecorator[str]):
    """What went wrong, in text that every backend can hold, cut where it is very long."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """The text without characters that cannot be stored."""
        if value is None:
            return None
        return value.encode("utf-8", "replace").decode().replace("\0", "?")[:_LONGEST]


def finite(column: str) -> CheckConstraint:
    """Neither NaN nor an infinity; NULL passes."""
    return CheckConstraint(f"{column} > -1e300 AND {column} < 1e300", name=f"{column}_finite")


def amount(column: str) -> CheckConstraint:
    """Finite and not negative; NULL passes."""
    return CheckConstraint(f"{column} >= 0 AND {column} < 1e300", name=f"{column}_amount")


def partial_index(name: str, condition: str, *columns: str, unique: bool = False) -> Index:
    """An index of the rows for which `condition` holds."""
    return Index(name, *columns, unique=unique, sqlite_where=text(condition), postgresql_where=text(condition))
