"""What all admin routes read alike: ids in paths, parameters, instants and quantities in bodies.

Decides that an unknown parameter is an error, as an unknown field is, and what a value may be before any service sees it.
"""

from typing import Annotated, Any, Final, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from seatd.accounts.pages import LIMIT_DEFAULT, LIMIT_MAX
from seatd.model import ID_PATTERN, LABELS_MAX, invalid, is_id

INSTANT_MAX_MS: Final = 253_402_300_799_999
"""The end of the year 9999: what every calendar library can still write."""
QUANTITY_MAX: Final = 1_000_000_000
ID_REASON: Final = "must be 1 to 128 characters of A-Z a-z 0-9 . _ @ : + -"

Id = Annotated[str, Meta(pattern=ID_PATTERN)]
Instant = Annotated[int, Meta(ge=0, le=INSTANT_MAX_MS)]
Quantity = Annotated[int, Meta(ge=0, le=QUANTITY_MAX)]
Labels = Annotated[dict[str, str], Meta(max_length=LABELS_MAX)]

T = TypeVar("T", bound=Struct)


class NoQuery(Struct):
    """A route without parameters."""


class ListQuery(Struct):
    """Which part of a list: at most `limit` items after the mark that the page before gave."""

    limit: Annotated[int, Meta(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT
    after: Id | None = None


def path_id(request: web.Request, name: str) -> str:
    """Read an id out of the path; raises `Refusal` `invalid_request`."""
    value = request.match_info[name]
    if not is_id(value):
        raise invalid(name, ID_REASON)
    return value


def query(request: web.Request, kind: type[T]) -> T:
    """Read the parameters of a request as `kind`; raises `Refusal` `invalid_request` that names the first bad one."""
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for name, text in request.query.items():
        if name not in fields:
            raise invalid(name[:128] if name.isprintable() else "query", "is no parameter of this route")
        if name in values:
            raise invalid(name, "is given twice")
        values[name] = _value(name, text, fields[name])
    return kind(**values)


def _value(name: str, text: str, kind: Any) -> Any:
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        reason = ID_REASON if "matching regex" in str(error) else str(error)
        raise invalid(name, reason) from None
