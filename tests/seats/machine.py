"""The state machine: draws what clients, the vendor and time do, and lets `World` compare.

Few users, clients, request ids and seats, so that they meet; time moves mostly to, or one millisecond
beside, an instant at which an answer may turn.
"""

import asyncio
from dataclasses import replace
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from seatd.model import KeyGrant, Policy, Scope, Tariff
from tests.seats.world import T0, World
from tests.valkey import ValkeyServer

TENANTS = ("acme", "beta")
USERS = ("ana", "bob", "cy", "dan")
CLIENTS = ("pc1", "pc2")
KEY, ADMIN, BRIEF = "key", "admin", "brief"
KEYS = {
    KEY: KeyGrant("k1", Scope.CLIENT),
    ADMIN: KeyGrant("k2", Scope.TENANT_ADMIN),
    BRIEF: KeyGrant("k3", Scope.CLIENT, T0 + 1_500),
}

tenants = st.sampled_from(TENANTS)
users = st.sampled_from(USERS)
clients = st.sampled_from(CLIENTS)
requests = st.sampled_from(("", "r1", "r2", "r3"))
contents = st.sampled_from(("x", "x", "x", "y"))
asked = st.sampled_from((False, False, False, ["social"], ["ocr"], []))
labels = st.sampled_from((False, {"site": "x"}))
takeovers = st.sampled_from((0, 1))
# How the user stands in line, and with which ticket: none, its newest, an older one, one that has run out.
in_lines = st.sampled_from((0, 0, 1, 1, 2))
tickets = st.sampled_from(("none", "none", "newest", "oldest", "run out"))
PLAIN = (0, "none")
acquires = st.tuples(tenants, users, clients, requests, contents, takeovers, asked, labels, in_lines, tickets)
# An old receipt is as likely as the newest: copies arrive late.
receipts = st.tuples(tenants, st.integers(0, 5))
kinds = st.sampled_from(("", "team", "agent", "service"))
holds = st.sampled_from((0, 700, 700, 30_000))
products = st.lists(st.sampled_from(("agent", "agent", "service", "social", "crm")), unique=True, max_size=3)
bindings = st.tuples(st.just("bindings"), st.tuples(users, products))
changes = st.one_of(
    st.tuples(st.just("cap"), st.integers(0, 3)),
    st.tuples(st.just("ttl_ms"), st.sampled_from((2_000, 3_000, 10_000))),
    bindings,
    bindings,
    st.tuples(
        st.just("tariff"), st.sampled_from((Tariff.TEAM, Tariff.AGENT, Tariff.TEAM, Tariff.AGENT, None))
    ),
    st.tuples(st.just("suspended_since_ms"), st.sampled_from((17, None, None))),
    st.tuples(st.just("trial_until_ms"), st.sampled_from((None, -1_000, 1, 700, 2_500))),
    st.tuples(st.just("open_addons"), st.sampled_from(((), ("ocr",)))),
    st.tuples(st.just("keys"), st.sampled_from((None, 0, 600))),
)
# Puts a tenant back to work, which most single changes above do not.
back_to_work = [
    ("tariff", Tariff.TEAM),
    ("suspended_since_ms", None),
    ("trial_until_ms", None),
    ("keys", None),
]


class SeatMachine(RuleBasedStateMachine):
    """Drives the scripts through `Store.run`; set `server` and `loop` before it runs."""

    server: ClassVar[ValkeyServer]
    loop: ClassVar[asyncio.AbstractEventLoop]

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.server, self.loop)
        self.receipts: dict[str, list[tuple[str, str, int, int]]] = {t: [] for t in TENANTS}
        self.orders: dict[tuple[str, str], list[int]] = {}
        self.leases = 0
        self.sent: list[Any] = []

    @initialize(caps=st.tuples(st.integers(1, 3), st.integers(1, 3)))
    def two_tenants(self, caps: tuple[int, int]) -> None:
        named = dict.fromkeys(USERS, ("agent",))
        first = Policy(
            "acme", 5, Tariff.TEAM, caps[0], ttl_ms=10_000, keys=KEYS, bindings={"cy": ("social",)}
        )
        second = Policy("beta", 5, Tariff.AGENT, caps[1], ttl_ms=3_000, keys=KEYS, bindings=named)
        self._project([first, second])

    # -- clients ----------------------------------------------------------------------------------

    @rule(wanted=st.lists(acquires, min_size=1, max_size=3))
    def acquire(self, wanted: list[Any]) -> None:
        self._run([("acquire", self._acquires(wanted))])

    @rule(tenant=tenants, user=users, client=clients, request=requests, takeover=takeovers)
    def acquire_simply(self, tenant: str, user: str, client: str, request: str, takeover: int) -> None:
        wanted = (tenant, user, client, request, "x", takeover, False, False, *PLAIN)
        self._run([("acquire", self._acquires([wanted]))])

    @rule(tenant=tenants, user=users, request=requests)
    def move_to_the_other_client(self, tenant: str, user: str, request: str) -> None:
        seat = self.world.oracle.tenants[tenant].seats.get(user)
        client = "pc2" if seat and seat.client == "pc1" else "pc1"
        self._run(
            [("acquire", self._acquires([(tenant, user, client, request, "x", 1, False, False, *PLAIN)]))]
        )

    @rule(tenant=tenants, first=st.integers(0, 2))
    def all_want_in(self, tenant: str, first: int) -> None:
        order = USERS[first:] + USERS[:first]
        wanted = [(tenant, user, "pc1", "", "x", 0, False, False, *PLAIN) for user in order]
        self._run([("acquire", self._acquires(wanted))])

    # -- those who wait ---------------------------------------------------------------------------

    @rule(tenant=tenants, user=users, in_line=in_lines, ticket=tickets)
    def stand_in_line(self, tenant: str, user: str, in_line: int, ticket: str) -> None:
        wanted = (tenant, user, "pc1", "", "x", 0, False, False, in_line, ticket)
        self._run([("acquire", self._acquires([wanted]))])

    @rule(tenant=tenants, first=st.integers(0, 3), apart=st.sampled_from((0, 1, 900)))
    def all_stand_in_line(self, tenant: str, first: int, apart: int) -> None:
        for user in USERS[first:] + USERS[:first]:
            self.stand_in_line(tenant, user, 1, "none")
            self.world.advance(self.world.now + apart)

    @rule(tenant=tenants, seen=st.lists(users, unique=True, max_size=4))
    def look_at_the_line(self, tenant: str, seen: list[str]) -> None:
        self._run([("line", [(tenant, "wait", seen)])])

    @rule(tenant=tenants, user=users)
    def leave_the_line(self, tenant: str, user: str) -> None:
        self._run([("line", [(tenant, "leave", [user])])])

    @rule(
        tenant=tenants,
        wants=users,
        in_line=in_lines,
        later=st.sampled_from((0, 999, 1_000)),
        fewer=st.booleans(),
    )
    def a_seat_falls_free_while_they_wait(
        self, tenant: str, wants: str, in_line: int, later: int, fewer: bool
    ) -> None:
        self.all_stand_in_line(tenant, 0, 1)
        sits = next(iter(self.world.oracle.tenants[tenant].seats), USERS[0])
        self.release_the_newest(tenant, sits)
        for _ in range(2):
            self.look_at_the_line(tenant, [*USERS])
            self.world.advance(self.world.now + 1_000)
        if fewer:
            policy = self._changed(
                tenant, [("cap", self.world.oracle.in_use(self.world.oracle.tenants[tenant]))]
            )
            self._project([replace(policy, version=policy.version + 1)])
        self.stand_in_line(tenant, wants, in_line, "none")
        self.world.advance(self.world.now + later)
        self.look_at_the_line(tenant, [*USERS])

    @rule(tenant=tenants, user=users, ticket=tickets, others=st.booleans(), anew=st.booleans())
    def come_back_to_the_line(self, tenant: str, user: str, ticket: str, others: bool, anew: bool) -> None:
        for _ in range(2):
            self.all_stand_in_line(tenant, 0, 1)
            self.leave_the_line(tenant, user)
            if others:
                for other in USERS:
                    if other != user:
                        self.stand_in_line(tenant, other, 1, "none")
            if anew:
                self.stand_in_line(tenant, user, 1, "none")
            self.stand_in_line(tenant, user, 1, "oldest" if anew else ticket)

    @rule(index=st.integers(0, 6), altered=st.booleans())
    def repeat_an_acquire(self, index: int, altered: bool) -> None:
        if self.sent:
            tenant, user, client, request, content, *rest = self.sent[-1 - index % len(self.sent)]
            again = (tenant, user, client, request, "altered" if altered else content, *rest[:-2], *PLAIN)
            self._run([("acquire", self._acquires([again]))])

    @rule(tenant=tenants, user=users)
    def renew_the_newest(self, tenant: str, user: str) -> None:
        self._run([("renew", [self._renewal(tenant, self._newest(tenant, user))])])

    @rule(held=st.lists(receipts, min_size=1, max_size=3))
    def renew(self, held: list[Any]) -> None:
        self._run([("renew", [self._renewal(*receipt) for receipt in held])])

    @rule(tenant=tenants, user=users)
    def release_the_newest(self, tenant: str, user: str) -> None:
        self._run([("release", [self._release(tenant, self._newest(tenant, user))])])

    def release_together(self, tenant: str, leaving: tuple[str, ...]) -> None:
        self._run([("release", [self._release(tenant, self._newest(tenant, user)) for user in leaving])])

    @rule(tenant=tenants, user=users, client=clients)
    def release_twice_around_an_acquire(self, tenant: str, user: str, client: str) -> None:
        for _ in range(2):
            self.acquire_simply(tenant, user, client, "", 0)
        release = self._release(tenant, self._newest(tenant, user))
        self._run([("release", [release])])
        self.acquire_simply(tenant, user, client, "", 0)
        self._run([("release", [release])])

    @rule(held=st.lists(receipts, min_size=1, max_size=3))
    def release(self, held: list[Any]) -> None:
        self._run([("release", [self._release(*receipt) for receipt in held])])

    @rule(
        renewed=st.lists(receipts, max_size=2),
        released=st.lists(receipts, max_size=2),
        wanted=st.lists(acquires, min_size=1, max_size=2),
    )
    def everything_at_once(self, renewed: list[Any], released: list[Any], wanted: list[Any]) -> None:
        calls = [
            ("renew", [self._renewal(*receipt) for receipt in renewed]),
            ("release", [self._release(*receipt) for receipt in released]),
            ("acquire", self._acquires(wanted)),
        ]
        self._run([call for call in calls if call[1]])

    @rule(tenant=tenants, index=st.integers(0, 3), product=st.sampled_from(("social", "ocr", "crm")))
    def ask_for_addon(self, tenant: str, index: int, product: str) -> None:
        self._run([("inspect", [(tenant, "addon", KEY, self._receipt(tenant, index)[0], product)])])

    @rule(
        tenant=st.sampled_from((*TENANTS, "nobody")), index=st.integers(0, 1), wanted=acquires,
        key=st.sampled_from((KEY, ADMIN, BRIEF, "nokey")),
    )  # fmt: skip
    def call_with_another_key(self, tenant: str, index: int, wanted: Any, key: str) -> None:
        (acquire,) = self._acquires([(tenant, *wanted[1:])])
        renewal, release = self._renewal(tenant, index), self._release(tenant, index)
        addon = (tenant, "addon", key, renewal[2], "social")
        calls: list[Any] = [("renew", renewal), ("release", release), ("acquire", acquire)]
        self._run([(verb, [(tenant, key, *op[2:])]) for verb, op in calls] + [("inspect", [addon])])

    @rule(
        tenant=tenants, index=st.integers(0, 3), ahead=st.sampled_from((1, 40, 3_000)), release=st.booleans()
    )
    def return_from_a_rollback(self, tenant: str, index: int, ahead: int, release: bool) -> None:
        """Send a receipt that is younger than what the store knows."""
        lease, user, start, expires = self._receipt(tenant, index)
        if release:
            self.world.audit.forged(tenant, user)
            op = (tenant, KEY, "lostlease", user, max(start, self.world.now) + ahead)
            self._run([("release", [op])])
        else:
            self._run([("renew", [(tenant, KEY, lease, user, start + ahead, expires + ahead)])])

    @rule(tenant=tenants, index=st.integers(0, 3), ahead=st.sampled_from((1, 40, 3_000)))
    def renew_twice_after_a_rollback(self, tenant: str, index: int, ahead: int) -> None:
        """Send, together, a receipt of a renewal that the store forgot and the one before it."""
        lease, user, start, expires = self._receipt(tenant, index)
        self._run([("renew", [(tenant, KEY, lease, user, start, end) for end in (expires + ahead, expires)])])

    # -- the vendor -------------------------------------------------------------------------------

    @rule(tenant=tenants, index=st.integers(0, 3), user=users, kind=kinds, force=st.booleans(), hold=holds)
    def revoke(self, tenant: str, index: int, user: str, kind: str, force: bool, hold: int) -> None:
        lease = self._receipt(tenant, index)[0] if index < 3 else ""
        self._run([("revoke", [(tenant, lease, user, "" if lease else kind, int(force), hold)])])

    @rule(
        tenant=tenants,
        user=users,
        how=st.sampled_from(("word", "force", "released")),
        hold=holds,
        ms=st.sampled_from((1, 699, 700)),
    )
    def revoke_who_comes_back(self, tenant: str, user: str, how: str, hold: int, ms: int) -> None:
        self.acquire_simply(tenant, user, "pc1", "", 0)
        self.revoke(tenant, 3, user, "", how == "force", hold)
        if how == "released":
            self.release_the_newest(tenant, user)
        self.world.advance(self.world.now + ms)
        self.acquire_simply(tenant, user, "pc1", "", 0)

    @rule(tenant=tenants, change=changes)
    def change_policy(self, tenant: str, change: Any) -> None:
        policy = self._changed(tenant, [change])
        self._project([replace(policy, version=policy.version + 1)])

    @rule(tenant=tenants, change=changes)
    def change_policy_while_they_work(self, tenant: str, change: Any) -> None:
        self.all_want_in(tenant, 0)
        self.change_policy(tenant, change)
        newest = [self._newest(tenant, user) for user in USERS]
        self._run([("renew", [self._renewal(tenant, index) for index in newest])])

    @rule(tenant=tenants, user=users, names=st.sampled_from((("agent",), ("service",), ())))
    def unname_who_works(self, tenant: str, user: str, names: tuple[str, ...]) -> None:
        self.acquire_simply(tenant, user, "pc1", "", 0)
        policy = self._changed(tenant, [("bindings", (user, names))])
        self._project([replace(policy, version=policy.version + 1)])
        self.renew_the_newest(tenant, user)

    @rule(
        tenant=tenants, both=st.tuples(changes, changes), versions=st.sampled_from(((1, 2), (2, 1), (0, 1)))
    )
    def change_policy_twice_at_once(self, tenant: str, both: Any, versions: tuple[int, int]) -> None:
        policies = [self._changed(tenant, both[:1]), self._changed(tenant, [*both])]
        self._project(
            [replace(p, version=p.version + later) for p, later in zip(policies, versions, strict=True)]
        )

    @rule(tenant=tenants, cap=st.integers(1, 3))
    def put_back_to_work(self, tenant: str, cap: int) -> None:
        tariff = ("tariff", Tariff.TEAM if tenant == "acme" else Tariff.AGENT)
        policy = self._changed(tenant, [*back_to_work, tariff, ("cap", cap)])
        self._project([replace(policy, version=policy.version + 1)])

    # -- time -------------------------------------------------------------------------------------

    @rule(beside=st.sampled_from((-1, 0, 0, 1)))
    def wait_for_the_next_turning_point(self, beside: int) -> None:
        self.wait_for_turning_point(0, beside)

    @rule(which=st.integers(0, 4), beside=st.sampled_from((-1, 0, 0, 1)))
    def wait_for_turning_point(self, which: int, beside: int) -> None:
        points = self.world.oracle.turning_points()
        self.world.advance(max(points[min(which, len(points) - 1)] + beside, self.world.now))

    @rule(milliseconds=st.sampled_from((1, 3, 200, 499, 1_999, 2_000, 70_000)))
    def wait(self, milliseconds: int) -> None:
        self.world.advance(self.world.now + milliseconds)

    @rule(most=st.sampled_from((1, 2, 256, 256)))
    def sweep(self, most: int) -> None:
        self._run([("sweep", [(tenant, tenant, most) for tenant in (*TENANTS, "nobody")])])

    def teardown(self) -> None:
        try:
            if self.world.agreed:
                self.world.finish()
        finally:
            self.world.close()

    # -- operations -------------------------------------------------------------------------------

    def _run(self, calls: list[Any]) -> None:
        answers = self.world.run(calls)
        for (verb, ops), replies in zip(calls, answers, strict=True):
            for op, reply in zip(ops, replies, strict=True):
                if reply[0] == "granted":
                    self.receipts[op[0]].append((reply[2], op[2], reply[3], reply[4]))
                elif reply[0] == "no_seat" and reply[8]:
                    self.orders.setdefault((op[0], op[2]), []).append(reply[8])
                elif reply[0] == "renewed" and verb == "renew":
                    self.receipts[op[0]].append((op[2], op[3], reply[1], reply[2]))

    def _project(self, policies: list[Policy]) -> None:
        self._run([("project", policies)])

    def _acquires(self, wanted: list[Any]) -> list[Any]:
        ops = []
        self.sent += wanted
        for tenant, user, client, request, content, takeover, addons, text, in_line, ticket in wanted:
            self.leases += 1
            lease = f"lease{self.leases:011}"
            turn = (in_line, *self._ticket(tenant, user, ticket))
            ops.append((tenant, KEY, user, client, request, content, takeover, addons, lease, text, *turn))
        return ops

    def _ticket(self, tenant: str, user: str, which: str) -> tuple[int, int]:
        orders = self.orders.get((tenant, user), [])
        if which == "none" or not orders:
            return 0, 0
        return orders[0 if which == "oldest" else -1], self.world.now + (which != "run out")

    def _newest(self, tenant: str, user: str) -> int:
        held = reversed(self.receipts.get(tenant, []))
        return next((index for index, receipt in enumerate(held) if receipt[1] == user), 0)

    def _receipt(self, tenant: str, index: int) -> tuple[str, str, int, int]:
        held = self.receipts.get(tenant, [])
        return held[-1 - index] if index < len(held) else ("nosuchlease", "ana", 0, 0)

    def _renewal(self, tenant: str, index: int) -> Any:
        lease, user, start, expires = self._receipt(tenant, index)
        return (tenant, KEY, lease, user, start, expires)

    def _release(self, tenant: str, index: int) -> Any:
        lease, user, start, _ = self._receipt(tenant, index)
        return (tenant, KEY, lease, user, start)

    def _changed(self, tenant: str, changed: list[Any]) -> Policy:
        policy = self.world.oracle.tenants[tenant].policy
        for name, value in changed:
            if name == "bindings":
                new: Any = {user: p for user, p in {**policy.bindings, value[0]: value[1]}.items() if p}
            elif name == "trial_until_ms":
                new = value and self.world.now + value
            elif name == "keys":
                left = {BRIEF: KeyGrant("k3", Scope.CLIENT, self.world.now + value)} if value else {}
                new = {**(KEYS if value != 0 else {ADMIN: KEYS[ADMIN]}), **left}
            else:
                new = value
            policy = replace(policy, **{name: new})
        return policy
