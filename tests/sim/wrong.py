"""Every wrong rule that the design names, and some that the simulator found: one decision replaced in each.

For each, the setting in which it shows soonest: `fault` and what else is fixed.  Made for tests; nothing here may
be reached from `rules`, let alone from the product.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from seatd.model import Policy
from seatd.seats.receipts import Receipt
from tests.sim.network import Link
from tests.sim.rules import BY_THE_HOLDER, FOR_EVER, Rules, Seat, Times, Tombstone

HASTY = {"stay_ms": (500, 6_000), "pause_ms": (50, 800)}
SLOW = Link(slow=200, slow_ms=2_900, reply_lost=80, dark=700)
SLOW_STORE = Link(usual_ms=4, slow=200, slow_ms=780, lost=0, reply_lost=10, doubled=0, dark=0)
DARK = Link(reply_lost=80, dark=700)


class LearningOff(Rules):
    def window_ms(self, times: Times, lmax_ms: int, ttl_ms: int) -> int:
        return 0


class WindowOfTheTtl(Rules):
    def window_ms(self, times: Times, lmax_ms: int, ttl_ms: int) -> int:
        return ttl_ms


class TombstonesOff(Rules):
    def buried(self, tombstone: Tombstone) -> bool:
        return False


class LeftoversCount(Rules):
    def in_the_way(self, others: Iterable[Seat], epoch: int, now: int, q_ms: int) -> int:
        return len(list(others))


class DeadlineFromTheReply(Rules):
    def counted_from(self, sent: int, heard: int) -> int:
        return heard


class ShortLockDelay(Rules):
    def lock_delay_ms(self, delta_ms: int, w_ms: int, nodes: int) -> int:
        return 2 * delta_ms if nodes > 1 else 500


class PresentIsEnough(Rules):
    def in_doubt(self, now: int, delta_ms: int, expires: int, *, present: bool) -> bool:
        return not present and super().in_doubt(now, delta_ms, expires, present=present)


class NoExtensionBy200(Rules):
    def extended_by_acquire(self, stored: int, now: int, ttl_ms: int) -> int:
        return stored


class LateReleaseEndsLaterStart(Rules):
    def release_acts(self, stored_start: int, start: int) -> bool:
        return True


class TakeoverWithoutFloor(Rules):
    def floor_after_takeover(self, floor: int, expires: int) -> int:
        return 0


class ExpiresFalls(Rules):
    def extended(self, stored: int, receipt: int, now: int, ttl_ms: int) -> int:
        return now + ttl_ms


class PolicyKept(Rules):
    def policy_after_opening(self, policy: Policy | None) -> Policy | None:
        return policy


class LoweredCapRefuses(Rules):
    def adoption_limit(self, cap: int, receipt_cap: int, confirmed_caps: Iterable[int]) -> int:
        return cap


class RevokedAdoptedAgain(Rules):
    def buried(self, tombstone: Tombstone) -> bool:
        return tombstone.reason in BY_THE_HOLDER


class RunIdAlone(Rules):
    def identity(self, run_id: str, replid: str) -> tuple[str, ...]:
        return (run_id,)


class AnyEpochsWord(Rules):
    def same_epoch(self, own: int, told: int) -> bool:
        return True


class HeldUpOpening(Rules):
    def opens(self, vacancy: str, seen: str) -> bool:
        return True


class DeadReceiptsCount(Rules):
    def dead(self, tombstones: Iterable[Tombstone], held: Receipt) -> str:
        return ""


class FirstCapAlone(Rules):
    def adoption_limit(self, cap: int, receipt_cap: int, confirmed_caps: Iterable[int]) -> int:
        return max(cap, receipt_cap)


class RevocationOfOneLease(Rules):
    def revocation(self, tenant: str, user: str, lease: str, start: int) -> Tombstone:
        return Tombstone(tenant, user, lease, FOR_EVER, "revoked")


@dataclass(frozen=True)
class Wrong:
    """A wrong rule, and where to look for it."""

    name: str
    rules: Callable[[], Rules]
    fault: str
    fixed: dict[str, Any] = field(default_factory=dict)
    scripted: bool = False  # too rare for chance in a short run


WRONG = (
    Wrong("learning off", LearningOff, "empty"),
    Wrong("window of the ttl only", WindowOfTheTtl, "empty", {"ttls": (3_000, 12_000), "changes": ("ttl",), "changes_ms": (1_000, 4_000), "faults": 3}),
    Wrong("tombstones off", TombstonesOff, "empty", {**HASTY, "ttls": (15_000,), "replay": 0.8, "faults": 3, "cap": 1, "changes": ()}),
    Wrong("leftovers counted against an adoption", LeftoversCount, "rollback", {"ttls": (3_000,), "crash": 0.15, "hang": 0.15, "delta_ms": 100, "cap": 1, "users": 4, "faults": 3, "changes": ()}),
    Wrong("client deadline taken from the reply", DeadlineFromTheReply, "network", {"ttls": (4_000,), "cap": 1, "users": 4, "hang": 0.3, "link": SLOW, "changes": ()}),
    Wrong("Q < W with split brain", ShortLockDelay, "split", {"ttls": (3_000,), "delta_ms": 100, "w_ms": 6_000, "cap": 1, "users": 4, "faults": 3, "hang": 0.2, "fickle": 0.03, "changes": ()}, scripted=True),
    Wrong("a present lease extended while learning without looking at its receipt's expiry", PresentIsEnough, "rollback", {"hang": 0.3, "cap": 1, "users": 4, "ttls": (3_000,), "delta_ms": 100, "faults": 3, "changes": ()}, scripted=True),
    Wrong("a 200 that does not extend", NoExtensionBy200, "network", {"again": 0.3}),
    Wrong("a late release that ends a later start", LateReleaseEndsLaterStart, "network", {"again": 0.2}),
    Wrong("a takeover without the floor", TakeoverWithoutFloor, "network", {**HASTY, "cap": 1}),
    Wrong("expires that falls when the ttl is lowered", ExpiresFalls, "network", {"ttls": (3_000, 15_000), "changes": ("ttl",), "changes_ms": (1_000, 4_000), "link": DARK}),
    Wrong("policy kept across an epoch", PolicyKept, "rollback", {**HASTY, "ttls": (3_000,), "changes": ("cap", "switch"), "changes_ms": (6_000, 12_000), "faults": 3}),
    Wrong("lowered cap that refuses an honest holder", LoweredCapRefuses, "empty", {"cap": 2, "changes": ("cap",), "changes_ms": (2_000, 6_000), "faults": 3}),
    Wrong("a revoked lease adopted again", RevokedAdoptedAgain, "rollback", {"changes": ("revoke",), "changes_ms": (1_000, 5_000), "faults": 3}),
    Wrong("run_id alone", RunIdAlone, "there and back", {"faults": 3}),
    Wrong("a word of the account plane taken from any epoch", AnyEpochsWord, "split", {"ttls": (10_000,), "w_ms": 4_000, "changes": ("revoke", "suspend", "cap"), "changes_ms": (500, 2_000), "faults": 3}, scripted=True),
    Wrong("an opening that was held up", HeldUpOpening, "flushed", {"faults": 8, "store_link": SLOW_STORE}, scripted=True),
    Wrong("the cap of a seat's first grant alone", FirstCapAlone, "empty", {"cap": 1, "changes": ("cap",), "changes_ms": (1_000, 4_000), "faults": 3}),
    Wrong("a receipt believed against its tombstone", DeadReceiptsCount, "rollback", {"replay": 0.3}),
    Wrong("a revocation that leaves the user's older client its receipt", RevocationOfOneLease, "empty", {"changes": ("force", "revoke"), "changes_ms": (1_000, 4_000), "faults": 3, "cap": 1, "ttls": (10_000,)}, scripted=True),
)  # fmt: skip
