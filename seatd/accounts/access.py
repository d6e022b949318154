"""Use cases of access: bearer keys, the keys of receipts, and the audit log of it all."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from seatd.accounts import audit, keys, receipt_keys, tokens
from seatd.accounts.base import UseCases
from seatd.accounts.changes import changing
from seatd.accounts.pages import LIMIT_DEFAULT, number, one_more, page
from seatd.accounts.receipt_keys import ReceiptKeys
from seatd.accounts.records import AuditRow, Grant, Key, NewKey, NewReceiptKey, Page
from seatd.database.engine import reading, writing
from seatd.model import Refusal, Scope


class Access(UseCases):
    """Who may speak to seatd, and what was done by whom."""

    async def add_key(
        self, tenant: str | None, scope: Scope, *, expires_ms: int | None = None, actor: str
    ) -> NewKey:
        """Make a key of a tenant (scopes client, tenant_admin), or of none (admin, billing).

        Its text is in the answer and nowhere else.
        """
        if tenant is None:
            async with writing(self.engine) as connection:
                now_ms = self.clock()
                new = await keys.add(connection, scope, None, expires_ms=expires_ms, now_ms=now_ms)
                await self._audit(connection, actor, "key.add", _made(new.id, scope, expires_ms))
                return new
        async with changing(self.engine, self.clock, tenant, actor) as change:
            new = await keys.add(
                change.connection, scope, tenant, expires_ms=expires_ms, now_ms=change.now_ms
            )
            change.record("key.add", _made(new.id, scope, expires_ms))
            return new

    async def install_key(self, token: str, *, actor: str) -> bool:
        """Let a key whose text exists already (a file of the first start) open what it says.

        False where it stood, even if revoked since: revoking is final.  Raises `ValueError` where the text is
        no key, without showing it.
        """
        claim = tokens.read(token)
        if claim is None:
            raise ValueError("this is not the text of a key")
        if claim.tenant is None:
            async with writing(self.engine) as connection:
                made = await keys.install(connection, token, claim, self.clock())
                if made is not None:
                    await self._audit(connection, actor, "key.install", _made(made, claim.scope, None))
                return made is not None
        async with changing(self.engine, self.clock, claim.tenant, actor) as change:
            made = await keys.install(change.connection, token, claim, change.now_ms)
            if made is not None:
                change.record("key.install", _made(made, claim.scope, None))
            return made is not None

    async def revoke_key(self, tenant: str | None, key_id: str, *, actor: str) -> bool:
        """End a key of a tenant, or of none: false where it was ended before.

        Raises `Refusal("not_found")` where there is no such key there.
        """
        if tenant is None:
            async with writing(self.engine) as connection:
                revoked = _found(await keys.revoke(connection, None, key_id, self.clock()))
                if revoked:
                    await self._audit(connection, actor, "key.revoke", {"key": key_id})
                return revoked
        async with changing(self.engine, self.clock, tenant, actor) as change:
            revoked = _found(await keys.revoke(change.connection, tenant, key_id, change.now_ms))
            if revoked:
                change.record("key.revoke", {"key": key_id})
            return revoked

    async def keys(
        self, tenant: str | None, *, limit: int = LIMIT_DEFAULT, after: str | None = None
    ) -> Page[Key]:
        """List the keys of a tenant, or of none, that were not revoked."""
        async with reading(self.engine) as connection:
            if tenant is not None:
                await self.now_of(connection, tenant)
            found = await keys.listed(connection, tenant, after=after or "", limit=one_more(limit))
        return page(found, limit, lambda item: item.id)

    async def grant(self, token: str) -> Grant | None:
        """Tell what a bearer key opens; None where it is unknown, expired or revoked."""
        if tokens.read(token) is None:
            return None
        async with reading(self.engine) as connection:
            return await keys.grant(connection, token, self.clock())

    async def touch_keys(self, used_ms: Mapping[str, int]) -> None:
        """Note when keys (by the digest of their text) were last used."""
        if used_ms:
            async with writing(self.engine) as connection:
                await keys.touch(connection, used_ms)

    async def receipt_keys(self, secret: bytes) -> ReceiptKeys:
        """Give the keys of receipts that verify now, making the first.

        Raises `receipt_keys.WrongSecretError` where `secret` is not the one they were sealed under, and
        `ValueError` where it is too short.
        """
        async with reading(self.engine) as connection:
            found = await receipt_keys.load(connection, secret, at_ms=self.clock())
        if found is None:
            await self._make_receipt_key(secret)
            return await self.receipt_keys(secret)
        return found

    async def _make_receipt_key(self, secret: bytes) -> None:
        async with writing(self.engine) as connection:
            await audit.lock(connection)  # of two seatds that start at once, one makes the key
            if await receipt_keys.load(connection, secret, at_ms=self.clock()) is None:
                kid = await receipt_keys.make(connection, secret, self.clock())
                await self._audit(connection, "seatd", "receipt_key.make", {"kid": kid})

    async def rotate_receipt_key(self, secret: bytes, *, signs_in_ms: int, actor: str) -> NewReceiptKey:
        """Make a key of receipts that signs in `signs_in_ms`; the one that signs until then is retired.

        Every seatd that shares the database must have loaded the new key by then.  Raises
        `receipt_keys.WrongSecretError`, and `Refusal("conflict")` where too many verify already.
        """
        async with writing(self.engine) as connection:
            await audit.lock(connection)
            now_ms = self.clock()
            standing = await receipt_keys.load(connection, secret, at_ms=now_ms)
            if standing is not None and len(standing.keys) >= receipt_keys.KEYS_MAX:
                raise Refusal(
                    "conflict", f"{receipt_keys.KEYS_MAX} keys of receipts verify already; wait an hour."
                )
            signs_from_ms = now_ms + signs_in_ms
            await receipt_keys.retire(connection, signs_from_ms)
            kid = await receipt_keys.make(connection, secret, now_ms)
            new = NewReceiptKey(kid, signs_from_ms, signs_from_ms + receipt_keys.OVERLAP_MS)
            detail = {"kid": kid, "signs_from_ms": signs_from_ms}
            await self._audit(connection, actor, "receipt_key.rotate", detail)
            return new

    async def audit_log(
        self, *, tenant: str | None = None, limit: int = LIMIT_DEFAULT, after: str | None = None
    ) -> Page[AuditRow]:
        """List the audit log, of one tenant or whole, in order."""
        async with reading(self.engine) as connection:
            found = await audit.listed(connection, tenant=tenant, after=number(after), limit=one_more(limit))
        return page(found, limit, lambda item: str(item.seq))

    async def audit_broken_at(self) -> int | None:
        """Walk the audit log's chain, and give the number at which it first does not hold; None: it holds."""
        async with reading(self.engine) as connection:
            return await audit.first_broken(connection)

    async def _audit(
        self, connection: AsyncConnection, actor: str, action: str, detail: Mapping[str, Any]
    ) -> None:
        await audit.append(
            connection, at_ms=self.clock(), actor=actor, action=action, tenant=None, detail=detail
        )


def _made(key_id: str, scope: Scope, expires_ms: int | None) -> dict[str, Any]:
    return {"key": key_id, "scope": scope, "expires_ms": expires_ms}


def _found(revoked: bool | None) -> bool:
    if revoked is None:
        raise Refusal("not_found", "There is no such key.")
    return revoked
