"""A client, modelled on the SDK's rules and no kinder: it believes as long as it may, and dies or goes dark.

It reads only the reply to its newest request, counts from before it sent, stops before it releases, tries
again with the same request id, and asks with a new one where it starts anew.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from seatd.seats.receipts import Receipt
from tests.sim.network import TIMEOUT, Effect, Process
from tests.sim.operations import Acquire, Answer, Release, Renew

Steps = Generator[Effect, Any, Any]


@dataclass
class Belief:
    """A stretch of host time in which a client works."""

    user: str
    client: str
    lease: str
    start: int
    kind: str
    since: int
    until: int
    granted: int  # when its lease was granted, host time


class Client:
    """One desktop of one user."""

    def __init__(self, world: Any, tenant: str, user: str, name: str) -> None:
        self.world = world
        self.tenant = tenant
        self.user = user
        self.name = name
        self.who = f"{user}/{name}"
        rng, setting = world.rng, world.setting
        self.rate_ppm = 1_000_000 if not setting.client_drift else rng.choice((990_099, 1_000_000, 1_010_000))
        self.stubborn = rng.random() < 0.5
        self.belief: Belief | None = None
        self.receipt: Receipt | None = None
        self.ttl_ms = 0
        self.server: Any = None

    # -- belief ----------------------------------------------------------------------------------

    def _until(self, sent: int, ttl_ms: int) -> int:
        counted = self.world.rules.counted_from(sent, self.world.loop.now)
        return int(counted + self.world.rules.believed_ms(ttl_ms) * 1_000_000 // self.rate_ppm)

    def _believe(self, sent: int, held: Receipt, ttl_ms: int) -> None:
        now, belief = self.world.loop.now, self.believing()
        self.receipt, self.ttl_ms = held, ttl_ms
        until = self._until(sent, ttl_ms)
        if belief and belief.lease == held.lease:
            belief.until = max(belief.until, until) if self.stubborn else until
            belief.start = held.start_ms
            return
        self.stop()
        if until > now:
            granted = self.world.watch.seat_since.get(held.lease, now)
            self.belief = Belief(
                self.user, self.name, held.lease, held.start_ms, held.kind, now, until, granted
            )
            self.world.watch.beliefs.append(self.belief)

    def believing(self) -> Belief | None:
        if self.belief and self.belief.until > self.world.loop.now:
            return self.belief
        return None

    def stop(self) -> None:
        """Stop working."""
        if self.belief:
            self.belief.until = min(self.belief.until, self.world.loop.now)
        self.belief = None

    # -- life --------------------------------------------------------------------------------------

    def live(self) -> Process:
        world, rng, setting = self.world, self.world.rng, self.world.setting
        while not world.closing:
            yield world.loop.sleep(rng.randint(*setting.pause_ms))
            if (yield from self._acquire(takeover=False)):
                yield from self._hold()

    def _acquire(self, *, takeover: bool) -> Steps:
        world, rng = self.world, self.world.rng
        request, takes = world.fresh("r"), takeover
        for _ in range(rng.randint(1, 4)):
            if world.closing:
                return False
            sent = world.loop.now
            lease = world.fresh("l")
            op = Acquire(self.tenant, self.user, self.name, request, takes, lease)
            answer = yield from self._ask("acquire", op)
            if answer[0] == "granted":
                _, _, lease, start, expires, ttl, kind, cap, version = answer
                held = Receipt(self.tenant, self.user, self.name, lease, start, expires, kind, cap, version)
                self._believe(sent, held, ttl)
                return True
            if answer[0] == "seat_elsewhere" and rng.random() < world.setting.takeover:
                request, takes = world.fresh("r"), True
            elif answer[0] in {"lease_gone", "refused"}:
                return False
            else:
                yield world.loop.sleep(rng.randint(50, 700))
        return False

    def _hold(self) -> Steps:
        world, rng, loop = self.world, self.world.rng, self.world.loop
        leave = loop.now + rng.randint(*world.setting.stay_ms)
        patience = loop.now + 3 * self.ttl_ms  # a lapsed client goes on asking for a while
        while loop.now < leave and not world.closing:
            if self.believing():
                patience = loop.now + 3 * self.ttl_ms
            elif loop.now > patience:
                break
            yield loop.sleep(rng.randint(self.ttl_ms // 6, self.ttl_ms // 3))
            if world.closing:
                break
            what = rng.random()
            if what < world.setting.again:
                if rng.random() < 0.5:
                    yield from self._leave_in_a_hurry()
                if not (yield from self._acquire(takeover=False)) and not self.believing():
                    return
            elif what < world.setting.again + world.setting.crash:
                self.stop()
                return
            elif what < world.setting.again + world.setting.crash + world.setting.hang:
                yield loop.sleep(rng.randint(self.ttl_ms // 2, self.ttl_ms * 2))
            elif not (yield from self._renew()):
                return
        yield from self._leave()

    def _renew(self) -> Steps:
        world, loop, held = self.world, self.world.loop, self.receipt
        assert held
        if world.rng.random() < world.setting.replay:  # a copy turns up much later
            late = world.rng.randint(500, 20_000)
            loop.at(loop.now + late, world.deliver, "renew", Renew(self.tenant, held))
        sent = loop.now
        answer = yield from self._ask("renew", Renew(self.tenant, held))
        if self.receipt is not held:
            return True
        if answer[0] == "renewed":
            _, start, expires, ttl, kind, cap, version = answer
            renewed = held._replace(start_ms=start, expires_ms=expires, kind=kind, cap=cap, version=version)
            self._believe(sent, renewed, ttl)
        elif answer[0] == "lease_gone":
            self.stop()
            return False
        else:
            yield loop.sleep(world.rng.randint(20, 400))
        return True

    def _leave(self) -> Steps:
        self.stop()
        held = self.receipt
        for _ in range(self.world.rng.randint(1, 3)):
            answer = yield from self._ask("release", Release(self.tenant, held, 0))  # type: ignore[arg-type]
            if answer[0] == "released":
                break

    def _leave_in_a_hurry(self) -> Steps:
        """Release without waiting for the answer: it may arrive after what is sent next."""
        self.stop()
        world = self.world
        late = world.rng.choice((0, 10, 40, 400, 3_000))
        world.loop.at(world.loop.now + late, world.deliver, "release", Release(self.tenant, self.receipt, 0))  # type: ignore[arg-type]
        yield world.loop.sleep(1)

    def _ask(self, verb: str, op: Any) -> Steps:
        world = self.world
        if self.server is None or world.rng.random() < world.setting.fickle:
            self.server = world.rng.choice(world.servers)
        server = self.server
        asked = world.history.invoke(self, verb, op)

        def handler(reply: Any) -> None:
            server.serve(verb, op, reply)

        copies = world.setting.link.copy_ms if verb == "acquire" else 20_000
        timeout = world.rng.choice((400, 1_200, 3_000))
        answer: Answer = yield world.network.ask(
            self.who, world.setting.link, handler, timeout, copy_ms=copies
        )
        world.history.heard(asked, None if answer is TIMEOUT else answer)
        if answer is TIMEOUT or answer[0] == "store_unavailable":
            self.server = None
        return answer
