"""Quantities that the vendor reports, such as scanned pages: counted once an id within a product."""

import re
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.accounts.records import Metered
from seatd.database import freezing
from seatd.database.engine import inserting
from seatd.database.schema import meters
from seatd.model import Refusal, invalid

_QUANTITY: Final = re.compile(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,6})?", re.ASCII)


def canonical_quantity(text: str) -> str:
    """Give the one text of a quantity: no trailing zeros; at most 12 digits and 6 decimals.

    Raises `Refusal("invalid_request")`.
    """
    if _QUANTITY.fullmatch(text) is None:
        raise invalid("quantity", "must be a decimal of at most 12 digits and 6 decimals, as text")
    return text.rstrip("0").rstrip(".") if "." in text else text


async def report(
    connection: AsyncConnection,
    tenant: str,
    *,
    product: str,
    meter_id: str,
    quantity: str,
    at_ms: int | None,
    now_ms: int,
) -> Metered:
    """Write a reported quantity; the same again changes nothing.

    `at_ms` None: now; on a repetition it is then not compared.  Raises `Refusal("conflict")` where the id
    was used with other content or the month is archived, and `Refusal("invalid_request")`.
    """
    quantity = canonical_quantity(quantity)
    if at_ms is not None and not 0 <= at_ms <= now_ms:
        raise invalid("at_ms", "must not be to come")
    written = at_ms if at_ms is not None else now_ms
    await _check_month(connection, tenant, product, meter_id, written)
    result = await connection.execute(
        inserting(connection, meters)
        .values(tenant=tenant, product=product, id=meter_id, quantity=quantity, at_ms=written)
        .on_conflict_do_nothing(index_elements=["tenant", "product", "id"])
    )
    if result.rowcount:
        return Metered(product, meter_id, quantity, written, created=True)
    return await _repeated(
        connection, tenant, Metered(product, meter_id, quantity, written, created=False), at_ms
    )


async def _check_month(
    connection: AsyncConnection, tenant: str, product: str, meter_id: str, at_ms: int
) -> None:
    """Raise `Refusal` `conflict` for what is new of an archived month: no correction could bill it any more."""
    months = [each for each in await freezing.share(connection) if each.archived]
    period = next((each.period for each in months if each.start_ms <= at_ms < each.end_ms), None)
    if period is None:
        return
    query = select(meters.c.id).where(
        meters.c.tenant == tenant, meters.c.product == product, meters.c.id == meter_id
    )
    if (await connection.execute(query)).first() is None:
        raise Refusal("conflict", f"{period} is archived: nothing of it can be corrected any more.")


async def _repeated(connection: AsyncConnection, tenant: str, again: Metered, at_ms: int | None) -> Metered:
    query = select(meters).where(
        meters.c.tenant == tenant, meters.c.product == again.product, meters.c.id == again.id
    )
    row = (await connection.execute(query)).one()
    if row.quantity != again.quantity or (at_ms is not None and row.at_ms != at_ms):
        raise Refusal("conflict", f"{again.id} was reported with other content.")
    return Metered(again.product, again.id, row.quantity, row.at_ms, created=False)
