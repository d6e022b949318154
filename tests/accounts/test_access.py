"""Keys, receipt keys and the audit log: what is kept of secrets, and what a changed byte gives away."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts import tokens
from seatd.accounts.audit import row_hash
from seatd.accounts.records import Grant
from seatd.accounts.service import Accounts
from seatd.database.engine import make_engine, reading, writing
from seatd.database.schema import audit, keys, metadata
from seatd.model import Refusal, Scope, Tariff
from tests.accounts.conftest import Clock

ME = "k_test"
ID = st.text("abcXYZ019._@:+-", min_size=1, max_size=128)


@given(tenant=ID, scope=st.sampled_from(list(Scope)))
def test_a_key_says_what_it_is(tenant: str, scope: Scope) -> None:
    of = tenant if tokens.belongs_to_tenant(scope) else None
    assert tokens.read(tokens.make(scope, of)) == (scope, of)


@given(st.text() | st.from_regex(r"s[abct]\.[a-z.]*[A-Za-z0-9_-]{40,45}\n?", fullmatch=True))
def test_only_keys_are_read_as_keys(token: str) -> None:
    claim = tokens.read(token)
    if claim is not None:
        assert re.fullmatch(r"(s[ab]|s[ct]\.[A-Za-z0-9._@:+-]{1,128})\.[A-Za-z0-9_-]{43}", token)


async def everything(engine: AsyncEngine) -> str:
    """All text in the database."""
    async with reading(engine) as connection:
        rows = [
            repr(row) for table in metadata.sorted_tables for row in await connection.execute(select(table))
        ]
    return "\n".join(rows)


async def test_keys_are_kept_hashed_only(accounts: Accounts, acme: str) -> None:
    made = [
        await accounts.add_key(acme, Scope.CLIENT, actor=ME),
        await accounts.add_key(acme, Scope.TENANT_ADMIN, actor=ME),
        await accounts.add_key(None, Scope.ADMIN, actor=ME),
        await accounts.add_key(None, Scope.BILLING, actor=ME),
    ]
    kept = await everything(accounts.engine)
    for new in made:
        assert await accounts.grant(new.key) == Grant(new.id, new.scope, new.tenant)
        assert new.id in kept
        assert tokens.digest(new.key) in kept
        assert new.key.rpartition(".")[2] not in kept


async def test_a_tenants_keys_are_in_its_policy(accounts: Accounts, acme: str, clock: Clock) -> None:
    new = await accounts.add_key(acme, Scope.CLIENT, expires_ms=clock.now_ms + 10, actor=ME)
    other = await accounts.add_key(None, Scope.ADMIN, actor=ME)
    policy = await accounts.policy(acme)
    assert policy is not None
    assert {digest: key.id for digest, key in policy.keys.items()} == {tokens.digest(new.key): new.id}
    assert policy.keys[tokens.digest(new.key)].expires_ms == clock.now_ms + 10
    assert tokens.digest(other.key) not in policy.keys


async def test_a_key_opens_until_it_expires_or_is_revoked(
    accounts: Accounts, acme: str, clock: Clock
) -> None:
    new = await accounts.add_key(acme, Scope.CLIENT, expires_ms=clock.now_ms + 10, actor=ME)
    clock.now_ms += 9
    assert await accounts.grant(new.key)
    clock.now_ms += 1
    assert await accounts.grant(new.key) is None

    new = await accounts.add_key(None, Scope.ADMIN, actor=ME)
    assert await accounts.revoke_key(None, new.id, actor=ME)
    assert not await accounts.revoke_key(None, new.id, actor=ME)
    assert await accounts.grant(new.key) is None
    assert new.id not in {key.id for key in (await accounts.keys(None)).items}


async def test_keys_are_revoked_by_their_own_only(accounts: Accounts, acme: str) -> None:
    await accounts.put_tenant("other", {"name": "Other"}, actor=ME)
    new = await accounts.add_key(acme, Scope.CLIENT, actor=ME)
    for owner in ("other", None):
        with pytest.raises(Refusal, match="not_found"):
            await accounts.revoke_key(owner, new.id, actor=ME)
    assert await accounts.grant(new.key)


@pytest.mark.parametrize("scope", list(Scope))
async def test_scopes_are_made_where_they_belong(accounts: Accounts, acme: str, scope: Scope) -> None:
    wrong = None if tokens.belongs_to_tenant(scope) else acme
    with pytest.raises(Refusal, match="invalid_request"):
        await accounts.add_key(wrong, scope, actor=ME)


async def test_a_key_is_installed_once_and_its_revocation_is_final(accounts: Accounts, acme: str) -> None:
    for token in (tokens.make(Scope.ADMIN, None), tokens.make(Scope.CLIENT, acme)):
        assert await accounts.install_key(token, actor=ME)
        assert not await accounts.install_key(token, actor=ME)
        opened = await accounts.grant(token)
        assert opened is not None
        await accounts.revoke_key(opened.tenant, opened.id, actor=ME)
        assert not await accounts.install_key(token, actor=ME)
        assert await accounts.grant(token) is None
    with pytest.raises(ValueError, match="key") as refused:
        await accounts.install_key("sa.hunter2", actor=ME)
    assert "hunter2" not in str(refused.value)


async def test_the_last_use_only_moves_on(accounts: Accounts, acme: str) -> None:
    first = await accounts.add_key(acme, Scope.CLIENT, actor=ME)
    second = await accounts.add_key(acme, Scope.CLIENT, actor=ME)
    version = (await accounts.tenant(acme)).policy_version
    await accounts.touch_keys({tokens.digest(first.key): 20, tokens.digest(second.key): 5, "unknown": 1})
    await accounts.touch_keys({tokens.digest(first.key): 10, tokens.digest(second.key): 6})
    used = {key.id: key.last_used_ms for key in (await accounts.keys(acme)).items}
    assert used == {first.id: 20, second.id: 6}
    assert (await accounts.tenant(acme)).policy_version == version


async def some_history(accounts: Accounts) -> None:
    await accounts.put_tenant("a", {"name": "A", "tariff": Tariff.TEAM, "seats": 3}, actor=ME)
    await accounts.add_key(None, Scope.ADMIN, actor=ME)
    await accounts.bind("a", "social", "ana", actor="k_other")


async def test_every_change_is_in_the_log(accounts: Accounts) -> None:
    await some_history(accounts)
    rows = (await accounts.audit_log()).items
    assert [(row.seq, row.action, row.actor, row.tenant) for row in rows] == [
        (1, "tenant.create", ME, "a"),
        (2, "tariff.switch", ME, "a"),
        (3, "booking.decide", ME, "a"),
        (4, "key.add", ME, None),
        (5, "binding.bind", "k_other", "a"),
    ]
    assert [row.seq for row in (await accounts.audit_log(tenant="a", after="2")).items] == [3, 5]
    page = await accounts.audit_log(limit=2)
    assert page.next == "2"
    assert await accounts.audit_broken_at() is None


@pytest.mark.parametrize("seq", [1, 3, 5])
@pytest.mark.parametrize("column", ["at_ms", "actor", "action", "tenant", "detail", "prev_hash", "hash"])
async def test_a_changed_byte_is_found(accounts: Accounts, seq: int, column: str) -> None:
    await some_history(accounts)
    value = 7 if column == "at_ms" else "0" * 63 + "1"
    async with writing(accounts.engine) as connection:
        await connection.execute(update(audit).where(audit.c.seq == seq).values({column: value}))
    assert await accounts.audit_broken_at() == seq


async def test_a_row_changed_together_with_its_hash_is_found_at_the_next(accounts: Accounts) -> None:
    await some_history(accounts)
    async with writing(accounts.engine) as connection:
        row = (await connection.execute(select(audit).where(audit.c.seq == 3))).one()
        changed = {**row._asdict(), "detail": row.detail.replace('"quantity":3', '"quantity":2')}
        assert changed["detail"] != row.detail
        forged = row_hash(changed.pop("prev_hash"), {k: v for k, v in changed.items() if k != "hash"})
        await connection.execute(
            update(audit).where(audit.c.seq == 3).values(detail=changed["detail"], hash=forged)
        )
    assert await accounts.audit_broken_at() == 4


@pytest.mark.parametrize(
    "statement", ["DELETE FROM audit WHERE seq = 3", "UPDATE audit SET seq = 9 WHERE seq = 3"]
)
async def test_a_missing_row_is_found(accounts: Accounts, statement: str) -> None:
    await some_history(accounts)
    async with writing(accounts.engine) as connection:
        await connection.execute(text(statement))
    assert await accounts.audit_broken_at() == 3


async def test_a_change_without_its_audit_row_does_not_stand(accounts: Accounts, acme: str) -> None:
    """One transaction holds both: where the log cannot be written, nothing is."""
    async with writing(accounts.engine) as connection:
        await connection.execute(text("ALTER TABLE audit RENAME TO audit_away"))
    with pytest.raises(Exception, match="audit"):
        await accounts.bind(acme, "agent", "ana", actor=ME)
    async with writing(accounts.engine) as connection:
        await connection.execute(text("ALTER TABLE audit_away RENAME TO audit"))
    assert (await accounts.bindings(acme, "agent")).items == ()
    async with reading(accounts.engine) as connection:
        assert (await connection.execute(select(keys))).all() == []


def test_the_accounts_name_no_key_in_a_repr(tmp_path: Path) -> None:
    assert "x" * 10 not in repr(Accounts(make_engine(f"sqlite:///{tmp_path}/{'y' * 10}.db")))
