"""Bearer keys: make them, list them, revoke them, and tell what one opens.

A key's text leaves `add` once and is nowhere kept; its digest is (tokens.py).  A key of a tenant is part of the
tenant's policy, so that client routes check it without SQL; the others are looked up here.
"""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Select, bindparam, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.accounts import tokens
from seatd.accounts.records import Grant, Key, NewKey
from seatd.accounts.tokens import Claim
from seatd.database.engine import inserting
from seatd.database.schema import keys
from seatd.model import KeyGrant, Scope, invalid


async def add(
    connection: AsyncConnection, scope: Scope, tenant: str | None, *, expires_ms: int | None, now_ms: int
) -> NewKey:
    """Make a key; raises `Refusal("invalid_request")` where the scope or the expiry does not fit."""
    _check(scope, tenant, expires_ms, now_ms)
    new = NewKey(tokens.random_id("k_", 12), tokens.make(scope, tenant), scope, tenant, expires_ms)
    await connection.execute(
        insert(keys).values(
            id=new.id,
            tenant=tenant,
            scope=scope,
            hash=tokens.digest(new.key),
            created_ms=now_ms,
            expires_ms=expires_ms,
        )
    )
    return new


def _check(scope: Scope, tenant: str | None, expires_ms: int | None, now_ms: int) -> None:
    if tokens.belongs_to_tenant(scope) != (tenant is not None):
        raise invalid("scope", f"a key of scope {scope} is made elsewhere")
    if expires_ms is not None and expires_ms <= now_ms:
        raise invalid("expires_ms", "must be to come")


async def install(connection: AsyncConnection, token: str, claim: Claim, now_ms: int) -> str | None:
    """Let a key whose text exists already open what it says; None where it stood, else its new id."""
    key_id = tokens.random_id("k_", 12)
    result = await connection.execute(
        inserting(connection, keys)
        .values(
            id=key_id,
            tenant=claim.tenant,
            scope=claim.scope,
            hash=tokens.digest(token),
            created_ms=now_ms,
        )
        .on_conflict_do_nothing(index_elements=["hash"])
    )
    return key_id if result.rowcount else None


async def revoke(connection: AsyncConnection, tenant: str | None, key_id: str, now_ms: int) -> bool | None:
    """End a key now: true; false where it was ended before, None where there is no such key."""
    owned = keys.c.tenant.is_(None) if tenant is None else keys.c.tenant == tenant
    row = (await connection.execute(select(keys).where(keys.c.id == key_id, owned))).one_or_none()
    if row is None:
        return None
    result = await connection.execute(
        update(keys).where(keys.c.id == key_id, keys.c.revoked_ms.is_(None)).values(revoked_ms=now_ms)
    )
    return bool(result.rowcount)


async def listed(
    connection: AsyncConnection, tenant: str | None, *, after: str, limit: int
) -> tuple[Key, ...]:
    """List the keys of a tenant (None: those of none) that were not revoked, by id."""
    owned = keys.c.tenant.is_(None) if tenant is None else keys.c.tenant == tenant
    query = (
        select(keys)
        .where(owned, keys.c.revoked_ms.is_(None), keys.c.id > after)
        .order_by(keys.c.id)
        .limit(limit)
    )
    return tuple(
        Key(row.id, Scope(row.scope), row.tenant, row.created_ms, row.expires_ms, row.last_used_ms)
        for row in await connection.execute(query)
    )


async def grant(connection: AsyncConnection, token: str, now_ms: int) -> Grant | None:
    """Tell what `token` opens; None where it is unknown, expired or revoked."""
    if tokens.read(token) is None:
        return None
    query = _alive(now_ms).where(keys.c.hash == tokens.digest(token))
    row = (await connection.execute(query)).one_or_none()
    return Grant(row.id, Scope(row.scope), row.tenant) if row else None


async def grants_of(
    connection: AsyncConnection, ids: Collection[str], now_ms: int
) -> dict[str, dict[str, KeyGrant]]:
    """Give what the living keys of tenants open, by tenant and digest: what their policies hold."""
    found: dict[str, dict[str, KeyGrant]] = {}
    for row in await connection.execute(_alive(now_ms).where(keys.c.tenant.in_(ids)).order_by(keys.c.id)):
        found.setdefault(row.tenant, {})[row.hash] = KeyGrant(row.id, Scope(row.scope), row.expires_ms)
    return found


def _alive(now_ms: int) -> Select[Any]:
    return select(keys).where(
        keys.c.revoked_ms.is_(None), or_(keys.c.expires_ms.is_(None), keys.c.expires_ms > now_ms)
    )


async def touch(connection: AsyncConnection, used_ms: Mapping[str, int]) -> None:
    """Note when keys (by digest) were last used; an earlier instant than the one known changes nothing."""
    if not used_ms:
        return
    statement = (
        update(keys)
        .where(
            keys.c.hash == bindparam("key_hash"),
            or_(keys.c.last_used_ms.is_(None), keys.c.last_used_ms < bindparam("used_ms")),
        )
        .values(last_used_ms=bindparam("used_ms"))
    )
    rows = [{"key_hash": digest, "used_ms": used_ms[digest]} for digest in sorted(used_ms)]
    await connection.execute(statement, rows)
