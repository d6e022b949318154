"""The contract's own sentences, one test each; what holds in any order is in test_stateful.py."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from seatd.accounts import bookings
from seatd.accounts.service import Accounts
from seatd.database.engine import reading
from seatd.database.schema import audit, bindings, people
from seatd.model import Refusal, Tariff
from tests.accounts.conftest import Clock

ME = "k_test"


def ms(iso: str) -> int:
    return int(datetime.fromisoformat(iso).timestamp() * 1000)


async def refused(work: Any) -> Refusal:
    with pytest.raises(Refusal) as raised:
        await work
    return raised.value


async def test_fields_left_out_stay(accounts: Accounts) -> None:
    fields = {"name": "A", "customer": "c", "labels": {"site": "Köln"}, "lease_ttl_ms": 60_000}
    await accounts.put_tenant("a", {**fields, "tariff": Tariff.TEAM, "seats": 5}, actor=ME)  # type: ignore[typeddict-item]
    change = await accounts.put_tenant("a", {"name": "B"}, actor=ME)
    tenant = change.tenant
    assert not change.created
    assert (tenant.name, tenant.customer, tenant.labels) == ("B", "c", {"site": "Köln"})
    assert (tenant.lease_ttl_ms, tenant.tariff, tenant.capacity) == (60_000, Tariff.TEAM, 5)


async def test_the_customer_is_the_tenant_unless_said(accounts: Accounts) -> None:
    tenant = (await accounts.put_tenant("a", {"name": "A"}, actor=ME)).tenant
    assert tenant.customer == "a"
    assert tenant.lease_ttl_ms == 300_000
    assert tenant.tariff is None


async def test_a_put_that_changes_nothing_writes_nothing(accounts: Accounts, acme: str) -> None:
    async def everything() -> list[Any]:
        async with reading(accounts.engine) as connection:
            return [
                (await connection.execute(text(f"SELECT * FROM {table} ORDER BY 1"))).all()
                for table in ("tenants", "tariffs", "bookings", "audit", "outbox")
            ]

    before = await everything()
    fields: Any = {"name": "Acme", "tariff": Tariff.AGENT, "seats": 2, "suspended": False, "labels": {}}
    assert not (await accounts.put_tenant(acme, fields, actor=ME)).changed
    assert not (await accounts.patch_tenant(acme, name="Acme", labels={}, actor=ME)).changed
    assert not (await accounts.switch_tariff(acme, Tariff.AGENT, seats=2, actor=ME)).changed
    assert await everything() == before


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "A", "customer": "a b"}, "customer"),
        ({"name": "A", "lease_ttl_ms": 1_999}, "lease_ttl_ms"),
        ({"name": "A", "lease_ttl_ms": 3_600_001}, "lease_ttl_ms"),
        ({"name": "A", "labels": {str(n): "x" for n in range(9)}}, "labels"),
        ({"name": "A", "labels": {"a b": "x"}}, "labels"),
        ({"name": "A", "trial_until_ms": 1}, "trial_until_ms"),
        ({"name": "A", "seats": 5}, "seats"),
        ({"name": "A", "tariff": Tariff.TEAM, "seats": -1}, "quantity"),
    ],
)
async def test_what_is_out_of_bounds_makes_no_tenant(accounts: Accounts, fields: Any, field: str) -> None:
    refusal = await refused(accounts.put_tenant("a", fields, actor=ME))
    assert refusal.code == "invalid_request"
    assert refusal.fields["errors"][0]["field"] == field
    assert (await refused(accounts.tenant("a"))).code == "not_found"
    assert (await accounts.audit_log()).items == ()


async def test_an_unknown_tenant_is_not_found(accounts: Accounts) -> None:
    for work in (
        accounts.tenant("x"),
        accounts.patch_tenant("x", name="X", actor=ME),
        accounts.switch_tariff("x", Tariff.TEAM, actor=ME),
        accounts.book("x", "team", 1, actor=ME),
        accounts.bookings("x"),
        accounts.bind("x", "agent", "ana", actor=ME),
        accounts.unbind("x", "agent", "ana", actor=ME),
        accounts.bindings("x", "agent"),
        accounts.keys("x"),
        accounts.revoke_key("x", "k_1", actor=ME),
        accounts.meter("x", "pages", "1", "m1", actor=ME),
    ):
        assert (await refused(work)).code == "not_found"
    assert await accounts.policy("x") is None


async def test_less_takes_effect_at_the_next_month_and_a_later_word_replaces_it(
    accounts: Accounts, clock: Clock
) -> None:
    await accounts.put_tenant("a", {"name": "A", "tariff": Tariff.TEAM, "seats": 50}, actor=ME)
    less = await accounts.book("a", "team", 40, actor=ME)
    assert less.booking.effective_ms == ms("2026-04-01T00:00:00+02:00")
    assert (less.booking.state, less.replaced) == ("scheduled", None)
    assert (await accounts.tenant("a")).capacity == 50

    more = await accounts.book("a", "team", 60, actor=ME)
    assert more.replaced is not None
    assert (more.replaced.id, more.replaced.state) == (less.booking.id, "cancelled")
    clock.now_ms = ms("2026-04-01T00:00:00+02:00")
    assert (await accounts.tenant("a")).capacity == 60
    states = [booking.state for booking in (await accounts.bookings("a")).items]
    assert states == ["past", "cancelled", "in_force"]
    one_more = await accounts.book("a", "team", 61, actor=ME)
    assert (one_more.booking.state, one_more.booking.effective_ms) == ("in_force", clock.now_ms)


async def test_less_comes_at_the_month_of_the_zone_that_is_asked_for(
    engine: AsyncEngine, clock: Clock
) -> None:
    async def new_york(at_ms: int) -> str:
        assert at_ms == clock.now_ms
        return "America/New_York"

    accounts = Accounts(engine, clock, new_york)
    await accounts.put_tenant("a", {"name": "A", "tariff": Tariff.TEAM, "seats": 2}, actor=ME)
    less = await accounts.book("a", "team", 1, actor=ME)
    assert less.booking.effective_ms == ms("2026-04-01T00:00:00-04:00")


@pytest.mark.parametrize(
    ("at", "zone", "first"),
    [
        ("2026-03-31T21:59:59.999+00:00", "Europe/Berlin", "2026-04-01T00:00:00+02:00"),
        ("2026-03-31T22:00:00+00:00", "Europe/Berlin", "2026-05-01T00:00:00+02:00"),
        ("2026-12-15T00:00:00+00:00", "UTC", "2027-01-01T00:00:00+00:00"),
        # In Amman midnight of 1 April 2022 never was: clocks went from 00:00 to 01:00 that Friday.
        ("2022-03-20T00:00:00+00:00", "Asia/Amman", "2022-04-01T00:00:00+03:00"),
        # In Havana 1 November 2026 begins once, and its first hour comes twice.
        ("2026-10-20T00:00:00+00:00", "America/Havana", "2026-11-01T00:00:00-04:00"),
    ],
)
def test_months_begin_at_the_first_instant_of_their_first_date(at: str, zone: str, first: str) -> None:
    assert bookings.next_month_ms(ms(at), zone) == ms(first)


async def test_agent_seats_are_bound_up_to_the_booking(accounts: Accounts, acme: str) -> None:
    assert await accounts.bind(acme, "agent", "ana", actor=ME)
    assert await accounts.bind(acme, "agent", "bob", actor=ME)
    refusal = await refused(accounts.bind(acme, "agent", "cyd", actor=ME))
    assert (refusal.code, refusal.fields) == (
        "no_booking_left",
        {"product": "agent", "quantity": 2, "bindings": 2},
    )
    assert not await accounts.bind(acme, "agent", "ana", actor=ME)
    assert await accounts.unbind(acme, "agent", "ana", actor=ME)
    assert await accounts.bind(acme, "agent", "cyd", actor=ME)


async def test_a_scheduled_decrease_limits_already_now(accounts: Accounts, acme: str, clock: Clock) -> None:
    """At no instant are more named than booked: who is bound today would not fit at the month's turn."""
    await accounts.bind(acme, "agent", "ana", actor=ME)
    less = await accounts.book(acme, "agent", 1, actor=ME)
    refusal = await refused(accounts.bind(acme, "agent", "bob", actor=ME))
    assert (refusal.code, refusal.fields["quantity"]) == ("no_booking_left", 1)
    clock.now_ms = less.booking.effective_ms
    assert (await accounts.tenant(acme)).capacity == 1
    await accounts.book(acme, "agent", 2, actor=ME)
    assert await accounts.bind(acme, "agent", "bob", actor=ME)


async def test_an_addon_is_bound_without_limit_until_booked(accounts: Accounts, acme: str) -> None:
    for user in ("ana", "bob", "cyd"):
        assert await accounts.bind(acme, "social", user, actor=ME)
    refusal = await refused(accounts.book(acme, "social", 2, actor=ME))
    assert (refusal.code, refusal.fields) == (
        "bindings_exceed",
        {"product": "social", "quantity": 2, "bindings": 3},
    )
    await accounts.book(acme, "social", 3, actor=ME)
    assert (await refused(accounts.bind(acme, "social", "dan", actor=ME))).code == "no_booking_left"


async def test_a_refused_binding_makes_no_person(accounts: Accounts) -> None:
    await accounts.put_tenant("a", {"name": "A", "tariff": Tariff.AGENT}, actor=ME)
    assert (await refused(accounts.bind("a", "agent", "ana", actor=ME))).code == "no_booking_left"
    async with reading(accounts.engine) as connection:
        assert (await connection.execute(select(people))).all() == []


@pytest.mark.parametrize("user", ["", "a b", "x" * 129, "a\u0000", "Ünal"])
async def test_users_are_ids(accounts: Accounts, acme: str, user: str) -> None:
    assert (await refused(accounts.bind(acme, "agent", user, actor=ME))).code == "invalid_request"
    assert (await refused(accounts.bind(acme, user, "ana", actor=ME))).code == "invalid_request"


async def test_a_trial_that_ran_out_leaves_no_tariff(accounts: Accounts, clock: Clock) -> None:
    until = clock.now_ms + 1_000
    fields: Any = {"name": "A", "tariff": Tariff.TEAM, "seats": 3, "trial_until_ms": until}
    tenant = (await accounts.put_tenant("a", fields, actor=ME)).tenant
    assert (tenant.tariff, tenant.trial) == (Tariff.TEAM, True)
    before = await accounts.policy("a")
    clock.now_ms = until
    tenant = await accounts.tenant("a")
    assert (tenant.tariff, tenant.trial, tenant.tariff_since_ms) == (None, False, until)
    policy = await accounts.policy("a")
    assert policy is not None
    assert before is not None
    # The seat plane compares `trial_until_ms` with its own clock, and is told the same before and after.
    assert (policy.tariff, policy.cap, policy.trial_until_ms) == (Tariff.TEAM, 3, until)
    assert (before.tariff, before.cap, before.trial_until_ms) == (Tariff.TEAM, 3, until)
    # The same PUT again is no order; a switch is.
    assert not (await accounts.put_tenant("a", fields, actor=ME)).changed
    assert (await accounts.switch_tariff("a", Tariff.TEAM, actor=ME)).tenant.tariff == Tariff.TEAM


async def test_a_metered_quantity_counts_once(accounts: Accounts, acme: str, clock: Clock) -> None:
    first = await accounts.meter(acme, "pages", "120.50", "scan-7", actor=ME)
    assert (first.quantity, first.at_ms, first.created) == ("120.5", clock.now_ms, True)
    clock.now_ms += 1
    again = await accounts.meter(acme, "pages", "120.5", "scan-7", actor=ME)
    assert (again.at_ms, again.created) == (first.at_ms, False)
    exact = await accounts.meter(acme, "pages", "120.500", "scan-7", at_ms=first.at_ms, actor=ME)
    assert not exact.created
    other = [
        accounts.meter(acme, "pages", "121", "scan-7", actor=ME),
        accounts.meter(acme, "pages", "120.5", "scan-7", at_ms=first.at_ms - 1, actor=ME),
    ]
    for work in other:
        assert (await refused(work)).code == "conflict"
    assert (await accounts.meter(acme, "scans", "121", "scan-7", actor=ME)).created


@pytest.mark.parametrize(
    "quantity", ["", "1e3", "-1", "01", "1.", ".5", "1.1234567", "1234567890123", "\u0661"]
)
async def test_a_quantity_is_a_plain_decimal(accounts: Accounts, acme: str, quantity: str) -> None:
    assert (await refused(accounts.meter(acme, "pages", quantity, "m", actor=ME))).code == "invalid_request"


async def test_nothing_is_metered_that_is_to_come(accounts: Accounts, acme: str, clock: Clock) -> None:
    late = accounts.meter(acme, "pages", "1", "m", at_ms=clock.now_ms + 1, actor=ME)
    assert (await refused(late)).code == "invalid_request"


async def test_an_erased_name_is_nowhere(accounts: Accounts, acme: str) -> None:
    await accounts.bind(acme, "agent", "ana.secret", actor=ME)
    await accounts.bind(acme, "social", "ana.secret", actor=ME)
    person = (await accounts.bindings(acme, "agent")).items[0].person
    assert await accounts.names(acme, [person]) == {person: "ana.secret"}
    assert await accounts.erase(acme, "ana.secret", actor=ME)
    assert not await accounts.erase(acme, "ana.secret", actor=ME)
    policy = await accounts.policy(acme)
    assert policy is not None
    assert policy.bindings == {}
    assert await accounts.names(acme, [person]) == {}
    async with reading(accounts.engine) as connection:
        for table in (people, bindings, audit):
            for row in await connection.execute(select(table)):
                assert "ana.secret" not in str(row)
    await accounts.bind(acme, "agent", "ana.secret", actor=ME)
    assert (await accounts.bindings(acme, "agent")).items[0].person != person


async def test_lists_come_in_pages(accounts: Accounts, acme: str) -> None:
    for name in ("c", "a", "b"):
        await accounts.put_tenant(name, {"name": name}, actor=ME)
        await accounts.bind(acme, "social", name, actor=ME)
    first = await accounts.tenants(limit=3)
    assert [tenant.id for tenant in first.items] == ["a", "acme", "b"]
    rest = await accounts.tenants(limit=3, after=first.next)
    assert [tenant.id for tenant in rest.items] == ["c"]
    assert rest.next is None
    named = await accounts.bindings(acme, "social", limit=2)
    assert [binding.user for binding in named.items] == ["a", "b"]
    assert [b.user for b in (await accounts.bindings(acme, "social", after=named.next)).items] == ["c"]
    exact = await accounts.tenants(limit=4)
    assert exact.next is None
    for limit in (0, 1_001):
        assert (await refused(accounts.tenants(limit=limit))).code == "invalid_request"
    for after in ("x", "-1", "9" * 30):
        assert (await refused(accounts.audit_log(after=after))).code == "invalid_request"


async def test_what_is_decided_later_is_never_dated_earlier(
    accounts: Accounts, acme: str, clock: Clock
) -> None:
    latest = clock.now_ms
    clock.now_ms -= 60_000  # another seatd, whose clock lags
    decision = await accounts.book(acme, "agent", 9, actor=ME)
    assert decision.booking.effective_ms == latest
    assert (await accounts.tenant(acme)).capacity == 9
    assert datetime.fromtimestamp(latest / 1000, UTC).year == 2026
