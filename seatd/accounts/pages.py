"""How lists are cut into pages: at most `limit` items, and a mark from which the next page follows."""

from collections.abc import Callable
from typing import Final, TypeVar

from seatd.accounts.records import Page
from seatd.model import invalid

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1_000
_MARK_MAX: Final = 2**63 - 1

T = TypeVar("T")


def one_more(limit: int) -> int:
    """Give how many items to ask for, to learn whether more follow; raises `Refusal("invalid_request")`."""
    if not 1 <= limit <= LIMIT_MAX:
        raise invalid("limit", f"must be from 1 to {LIMIT_MAX}")
    return limit + 1


def page(found: tuple[T, ...], limit: int, mark: Callable[[T], str]) -> Page[T]:
    """Cut what was found with `one_more(limit)` to a page."""
    items = found[:limit]
    return Page(items, mark(items[-1]) if len(found) > limit else None)


def number(after: str | None) -> int:
    """Read the mark of a list that is sorted by number; raises `Refusal("invalid_request")`."""
    if after is None:
        return 0
    if not (after.isascii() and after.isdigit() and int(after[:20]) <= _MARK_MAX and len(after) < 20):
        raise invalid("after", "is not from this list")
    return int(after)
