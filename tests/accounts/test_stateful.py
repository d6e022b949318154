"""Whatever is asked of a tenant, in whatever order and at whatever hour: SQL agrees with the oracle."""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator
from dataclasses import replace
from itertools import count
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from seatd.accounts import facts
from seatd.accounts.records import TenantFields
from seatd.accounts.service import Accounts
from seatd.database.engine import make_engine, reading
from seatd.model import Policy, Refusal, Scope, Tariff
from tests.accounts.conftest import Clock
from tests.accounts.oracle import Model, No

T = TypeVar("T")

HOUR_MS = 3_600_000
PRODUCTS = st.sampled_from(["agent", "agent", "agent", "team", "ocr", "service"])
USERS = st.sampled_from(["ana", "bob", "cyd", "dan"])
TARIFFS = st.sampled_from([Tariff.TEAM, Tariff.AGENT])
OPEN = frozenset({"ocr"})
_numbers = count()


class AccountMachine(RuleBasedStateMachine):
    """One tenant, in SQL and in the oracle."""

    def __init__(self, accounts: Accounts, clock: Clock, runner: asyncio.Runner) -> None:
        super().__init__()
        self.accounts, self.clock, self.runner = accounts, clock, runner
        self.tenant = f"t{next(_numbers)}"
        clock.now_ms = 1_773_309_600_000
        self.model = Model(clock.now_ms)
        self.last: Policy | None = None

    def run(self, work: Awaitable[T]) -> T:
        async def wait() -> T:
            return await work

        return self.runner.run(wait())

    @contextlib.contextmanager
    def agreed(self) -> Iterator[dict[str, Any]]:
        """Do the same to both: `wanted` by the oracle, `got` of the code; each may be a refusal's code."""
        self.model.at(self.clock.now_ms)
        both: dict[str, Any] = {}
        yield both
        assert both["got"] == both["wanted"], both

    def attempt(self, work: Awaitable[Any]) -> Any:
        try:
            return self.run(work)
        except Refusal as refusal:
            return refusal.code

    @initialize(tariff=st.none() | TARIFFS)
    def make(self, tariff: Tariff | None) -> None:
        self.model.at(self.clock.now_ms)
        self.model.exists, self.model.created_ms, self.model.name = True, self.model.now_ms, "n"
        self.model.change()
        fields: TenantFields = {"name": "n"} if tariff is None else {"name": "n", "tariff": tariff}
        if tariff is not None:
            self.model.set_tariff(tariff)
        assert self.run(self.accounts.put_tenant(self.tenant, fields, actor="k_test")).created

    @rule(hours=st.sampled_from([0, 1, 30, 24 * 20, 24 * 45]))
    def time_passes(self, hours: int) -> None:
        self.clock.now_ms += hours * HOUR_MS

    @rule()
    def another_clock_lags(self) -> None:
        self.clock.now_ms -= 1_500

    @rule(
        product=PRODUCTS,
        quantity=st.integers(0, 3),
        effective=st.sampled_from([None, None, "now", "next_month"]),
    )
    def book(self, product: str, quantity: int, effective: Any) -> None:
        with self.agreed() as both:
            standing = self.model.scheduled.get(product)
            try:
                both["wanted"] = self.model.book(product, quantity, effective)
                both["wanted"] = (both["wanted"], standing[1] if both["wanted"] and standing else None)
            except No as no:
                both["wanted"] = str(no)
            got = self.attempt(
                self.accounts.book(self.tenant, product, quantity, effective=effective, actor="k_test")
            )
            if not isinstance(got, str):
                assert got.booking.quantity == quantity
                got = (got.changed, got.replaced.quantity if got.replaced else None)
            both["got"] = got

    @rule(product=PRODUCTS, user=USERS)
    def bind(self, product: str, user: str) -> None:
        with self.agreed() as both:
            try:
                both["wanted"] = self.model.bind(product, user)
            except No as no:
                both["wanted"] = str(no)
            both["got"] = self.attempt(self.accounts.bind(self.tenant, product, user, actor="k_test"))

    @rule(product=PRODUCTS, user=USERS)
    def unbind(self, product: str, user: str) -> None:
        with self.agreed() as both:
            both["wanted"] = self.model.unbind(product, user)
            both["got"] = self.attempt(self.accounts.unbind(self.tenant, product, user, actor="k_test"))

    @rule(tariff=TARIFFS)
    def switch(self, tariff: Tariff) -> None:
        with self.agreed() as both:
            both["wanted"] = self.model.set_tariff(tariff)
            both["got"] = self.run(self.accounts.switch_tariff(self.tenant, tariff, actor="k_test")).changed

    @rule()
    def end_the_contract(self) -> None:
        with self.agreed() as both:
            # After a trial that ran out there is no tariff already: nothing is left to end.
            both["wanted"] = self.model.set_tariff(None)
            both["got"] = self.put({"tariff": None})

    @rule(hours=st.none() | st.sampled_from([-5, 5, 24 * 10, 24 * 40]))
    def set_trial(self, hours: int | None) -> None:
        with self.agreed() as both:
            until = None if hours is None else self.model.now_ms + hours * HOUR_MS
            try:
                both["wanted"] = self.model.set_trial(until)
            except No as no:
                both["wanted"] = str(no)
            both["got"] = self.put({"trial_until_ms": until})

    @rule()
    def say_the_same_trial_again(self) -> None:
        with self.agreed() as both:
            both["wanted"] = False
            both["got"] = self.put({"trial_until_ms": self.model.trial_until_ms})
            if self.model.ran_out is not None:
                again: TenantFields = {
                    "tariff": self.model.ran_out,
                    "trial_until_ms": self.model.trial_until_ms,
                }
                if self.model.trial_until_ms is not None:
                    assert self.put(again) is False

    @rule(suspended=st.booleans())
    def suspend(self, suspended: bool) -> None:
        with self.agreed() as both:
            both["wanted"] = suspended != (self.model.suspended_since_ms is not None)
            if both["wanted"]:
                self.model.suspended_since_ms = self.model.now_ms if suspended else None
                self.model.change()
            both["got"] = self.put({"suspended": suspended})

    @rule(ttl_ms=st.sampled_from([1_999, 2_000, 60_000, 3_600_001]))
    def set_ttl(self, ttl_ms: int) -> None:
        with self.agreed() as both:
            if not 2_000 <= ttl_ms <= 3_600_000:
                both["wanted"] = "invalid_request"
            else:
                both["wanted"] = ttl_ms != self.model.ttl_ms
                self.model.ttl_ms = ttl_ms
                if both["wanted"]:
                    self.model.change()
            both["got"] = self.put({"lease_ttl_ms": ttl_ms})

    def put(self, fields: TenantFields) -> Any:
        got = self.attempt(self.accounts.put_tenant(self.tenant, fields, actor="k_test"))
        return got if isinstance(got, str) else got.changed

    @rule()
    def add_key(self) -> None:
        self.model.at(self.clock.now_ms)
        self.model.keys.add(self.run(self.accounts.add_key(self.tenant, Scope.CLIENT, actor="k_test")).id)
        self.model.change()

    @rule(data=st.data())
    def revoke_key(self, data: st.DataObject) -> None:
        if not self.model.keys:
            return
        self.model.at(self.clock.now_ms)
        key = data.draw(st.sampled_from(sorted(self.model.keys)))
        self.model.keys.discard(key)
        assert self.run(self.accounts.revoke_key(self.tenant, key, actor="k_test"))
        self.model.change()

    @invariant()
    def all_agrees(self) -> None:
        if not self.model.exists:
            return
        self.model.at(self.clock.now_ms)
        due = self.run(self.accounts.due_projections())
        policy = self.run(self.accounts.policy(self.tenant, tenant_scoped=OPEN))
        assert policy is not None
        self.versions_rise(policy, {row.tenant for row in due})
        if due:
            self.run(self.accounts.projected(due))
        self.policy_agrees(policy)
        tenant = self.run(self.accounts.tenant(self.tenant))
        assert tenant.tariff == self.model.tariff
        assert tenant.trial == (self.model.trial_end_ms is not None)
        assert tenant.bindings == sum(map(len, self.model.bound.values()))
        assert tenant.capacity == self.cap(self.model.tariff)

    def versions_rise(self, policy: Policy, due: set[str]) -> None:
        """The seat plane takes a policy for news by its version alone, and hears of it by the outbox alone."""
        last, self.last = self.last, policy
        if last is None:
            return
        assert policy.version >= last.version
        if replace(policy, version=0) != replace(last, version=0):
            assert policy.version > last.version
            assert self.tenant in due

    def policy_agrees(self, policy: Policy) -> None:
        model = self.model
        tariff = model.tariff or model.ran_out
        assert policy.tariff == tariff
        assert policy.cap == self.cap(tariff)
        assert policy.ttl_ms == model.ttl_ms
        assert policy.suspended_since_ms == model.suspended_since_ms
        ended = model.tariff_since_ms if model.ran_out else None
        assert policy.trial_until_ms == (model.trial_end_ms or ended)
        assert policy.bindings == model.named()
        assert policy.open_addons == (("ocr",) if model.booked.get("ocr") else ())
        assert {key.id for key in policy.keys.values()} == model.keys

    def cap(self, tariff: Tariff | None) -> int:
        return self.model.booked.get(tariff.product, 0) if tariff else 0

    def teardown(self) -> None:
        if self.model.exists:
            self.run(self.history_agrees())
            assert self.run(self.accounts.audit_broken_at()) is None

    async def history_agrees(self) -> None:
        self.model.at(self.clock.now_ms)
        async with reading(self.accounts.engine) as connection:
            lines = await facts.facts(connection, [self.tenant], self.model.now_ms + 1)
        got = [line_of(fact) for fact in lines[self.tenant]]
        names = await self.accounts.names(
            self.tenant, {str(line[3]) for line in got if line[0] in ("bound", "unbound")}
        )
        named = [(*line[:3], names[str(line[3])]) if str(line[3]) in names else line for line in got]
        for kinds in (("tariff",), ("booking",), ("bound", "unbound")):
            wanted = [line for line in self.model.lines if line[0] in kinds]
            assert [line for line in named if line[0] in kinds] == wanted


def line_of(fact: facts.Fact) -> tuple[object, ...]:
    match fact:
        case facts.TariffFact():
            return ("tariff", fact.at_ms, fact.tariff, fact.trial)
        case facts.BookingFact():
            return ("booking", fact.at_ms, fact.product, fact.quantity)
        case facts.BindingFact():
            return (fact.event, fact.at_ms, fact.product, fact.person)
        case facts.MeteredFact():
            return ("metered", fact.at_ms, fact.product, fact.quantity, fact.id)


def test_accounts_agree_with_the_oracle(database_url: str) -> None:
    engine = make_engine(database_url, pool_size=1)
    clock = Clock()
    accounts = Accounts(engine, clock)
    with asyncio.Runner() as runner:
        run_state_machine_as_test(
            lambda: AccountMachine(accounts, clock, runner),  # type: ignore[arg-type]  # any maker will do
            settings=settings(
                # The rules are the same code on both: SQLite, where a step is quick, tries most of the orders.
                max_examples=40 if engine.dialect.name == "sqlite" else 15,
                stateful_step_count=20,
                deadline=None,
                # Twenty steps can be read as they are; to shrink them would take minutes of SQL.
                phases=[Phase.explicit, Phase.reuse, Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
        runner.run(engine.dispose())
