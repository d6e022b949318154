"""Whether a month is over, and what of its use is not in the ledger yet.

Decides when a month may be closed: its last lease can have been renewed, lost with the store, and learnt again.  What is missing is
listed, each with its kind (`what`); a gap may be accepted, nothing else can.  Nothing is written here.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.billing.months import Month, instant_text
from seatd.database.schema import partitions, tenants
from seatd.model import TTL_MS_DEFAULT, Refusal
from seatd.usage.ledger import gaps_since
from seatd.usage.lost import lost_leases
from seatd.usage.writing import Writer

Missing = list[dict[str, Any]]
_LISTED: Final = 100


async def closes_from_ms(
    connection: AsyncConnection, month: Month, *, q_ms: int, delta_ms: int, w_ms: int
) -> int:
    """Give the instant from which a month may be closed: its end, the longest ttl, Q, and learning after that."""
    query = select(func.max(tenants.c.longest_ttl_ms))
    ttl_ms = max((await connection.execute(query)).scalar() or 0, TTL_MS_DEFAULT)
    learning_ms = ttl_ms * 101 // 100 + 2 * delta_ms + w_ms + q_ms
    return month.end_ms + ttl_ms + q_ms + learning_ms


def not_over(month: Month, from_ms: int) -> Refusal:
    """Make the refusal for a month that may be closed later."""
    when = instant_text(from_ms, month.timezone)
    return Refusal("not_over", f"{month.period} can be closed from {when} on.", closes_from_ms=from_ms)


async def missing_in_ledger(connection: AsyncConnection, month: Month) -> Missing:
    """List gaps that nobody accepted, and leases that were lost with the store and may yet be adopted.

    To be asked where months are kept from being frozen by others.
    """
    missing: Missing = [
        {"what": "gap", **asdict(gap)} for gap in await gaps_since(connection, month.start_ms)
    ]
    row = partitions.c
    query = select(row.partition, row.epoch).where(row.epoch > 1, row.opened_ms < month.end_ms)
    for partition, epoch in (await connection.execute(query)).all():
        writer = await Writer.begin(connection, partition)
        known = await writer.known(set(await lost_leases(connection, partition, epoch)))
        lost = [
            key
            for key, lease in known.items()
            if lease.ended_ms is None and (lease.started_ms or 0) < month.end_ms
        ]
        if lost:
            missing.append({"what": "lost_leases", "partition": partition, "leases": len(lost)})
    return missing


def incomplete(month: Month, missing: Missing) -> Refusal:
    """Make the refusal of a month of which something is missing."""
    kinds = [_SAID[each["what"]](each) for each in missing[:_LISTED]]
    detail = f"{month.period} cannot be closed: {'; '.join(dict.fromkeys(kinds))}."
    return Refusal("usage_incomplete", detail, missing=missing[:_LISTED], missing_count=len(missing))


def _recorder(each: Mapping[str, Any]) -> str:
    if each["events"] is None:
        return "the recorder does not keep up, and nobody knows how many usage events wait"
    return f"the recorder is behind by {each['events']} usage events"


_SAID: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "recorder": _recorder,
    "gap": lambda each: (
        f"events {each['from_seq']} to {each['to_seq']} of epoch {each['epoch']}, partition {each['partition']}, were lost"
    ),
    "lost_leases": lambda each: f"{each['leases']} leases that were lost with the store are not ended yet",
    "chain": lambda each: f"the chain of partition {each['partition']} does not hold at row {each['pos']}",
}
