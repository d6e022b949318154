"""Whether a history kept what is promised; written from the promises, not from the rules that keep them.  Pure.

Each check reads the history alone and gives one `Finding`.  What is unknown speaks for the server: a request without
an answer may have run, at any time until `LATE_MS` after its client had given up.
"""

from collections import defaultdict

from seatd.selftest.findings import Finding
from seatd.selftest.history import MS_NS, RHO_PERCENT, Asked, History, Outcome, Stretch, Verb, beliefs
from seatd.selftest.sweep import covers, joined, levels, most

LATE_MS = 5_000
HOLDERS_REFUSALS = frozenset({"lease_gone", "no_seat", "receipt_invalid", "not_found", "seat_elsewhere"})


def judge(history: History) -> list[Finding]:
    """Run every check that needs the history alone."""
    return [check(history) for check in (cap, live, leaks, requests, worthless, revoked, answers)]


def cap(history: History) -> Finding:
    """Count who believed in a seat at once: never more than there are seats."""
    believed = joined(beliefs(history.asked))
    found = levels(believed)
    broken = tuple(
        f"{level.height} users believed in {history.seats} seats, {_after(history, level.at)}"
        for level in found
        if level.height > history.seats
    )
    highest = most(found).height
    seen = f"at most {highest} of {history.seats} seats at once, over {len(believed)} stays"
    # A cap that was never reached was not put to the test.
    return Finding(
        "cap",
        "no seat is sold twice",
        len(believed) if highest >= history.seats else 0,
        seen,
        broken,
    )


def live(history: History) -> Finding:
    """Look for holders who were refused while they believed, with nothing done that could end their seat."""
    believed = _by_session(history)
    examined, broken = 0, []
    for number, asked in enumerate(history.asked):
        if asked.verb not in (Verb.RENEW, Verb.ACQUIRE) or asked.void or asked.outcome is Outcome.UNKNOWN:
            continue
        if not covers(believed[asked.user, asked.client], asked.invoked_ns):
            continue
        examined += 1
        refused = asked.outcome is Outcome.FAIL and asked.code in HOLDERS_REFUSALS
        if refused and not _ended_by_us(history, number):
            what = f"{asked.code} {asked.reason}".strip()
            broken.append(
                f"{asked.user} held a seat and was told {what}, {_after(history, asked.invoked_ns)}"
            )
    seen = (
        f"{examined} requests of holders, none refused"
        if not broken
        else f"{len(broken)} of {examined} refused"
    )
    return Finding("live", "nobody who holds a seat is refused", examined, seen, tuple(broken))


def leaks(history: History) -> Finding:
    """Look for refusals at a time when fewer seats than there are could be in use, by what anybody heard."""
    possible = levels(_possible(history))
    examined, broken = 0, []
    abandoned = _abandoned(history)
    for asked in history.of(Verb.ACQUIRE):
        if asked.code != "no_seat" or asked.returned_ns is None:
            continue
        examined += 1
        used = most(possible, asked.invoked_ns, asked.returned_ns).height
        if used < history.seats:
            at = _after(history, asked.invoked_ns)
            broken.append(
                f"{asked.user} was refused though at most {used} of {history.seats} seats were in use, {at}"
            )
    taken = sum(asked.newcomer and asked.outcome is Outcome.OK for asked in history.of(Verb.ACQUIRE))
    seen = f"{abandoned} seats abandoned; all {taken} of {history.seats} taken once they had run out; {examined} refusals"
    if taken < history.seats:  # nobody knows whether they could have been
        seen, abandoned = f"only {taken} of {history.seats} seats were taken once all had run out", 0
    if broken:
        seen = f"{len(broken)} refusals of {examined} while seats were free"
    return Finding("leaks", "an abandoned seat is granted again", abandoned, seen, tuple(broken))


def requests(history: History) -> Finding:
    """Look for request ids that gave more than one lease."""
    given: dict[tuple[str, str, str], list[Asked]] = defaultdict(list)
    for asked in history.of(Verb.ACQUIRE):
        if asked.outcome is Outcome.OK:
            given[asked.user, asked.client, asked.request].append(asked)
    repeated = [answers for answers in given.values() if len(answers) > 1]
    broken = tuple(
        f"request {answers[0].request} of {answers[0].user} gave {len(leases)} leases"
        for answers in repeated
        if len(leases := {(answer.lease, answer.started_ms) for answer in answers}) > 1
    )
    seen = f"{len(repeated)} acquires sent again, {len(repeated) - len(broken)} gave the same lease"
    return Finding("requests", "a request sent twice gives one seat", len(repeated), seen, broken)


def worthless(history: History) -> Finding:
    """Look for receipts that were worth something after their seat was given back or taken over."""
    return _void(history, "receipts", "an old receipt is worth nothing", {"released", "taken_over"})


def revoked(history: History) -> Finding:
    """Look for leases that lived on after they were revoked."""
    return _void(history, "revoking", "revoking is final", {"revoked"})


def _void(history: History, check: str, promise: str, voids: set[str]) -> Finding:
    examined, broken = 0, []
    for asked in history.of(Verb.RENEW):
        if asked.void not in voids or asked.outcome is Outcome.UNKNOWN:
            continue
        examined += 1
        if asked.code != "lease_gone":
            what = "was renewed" if asked.outcome is Outcome.OK else f"was told {asked.code}"
            broken.append(
                f"{asked.user}, whose lease was {asked.void}, {what}, {_after(history, asked.invoked_ns)}"
            )
    seen = f"{examined - len(broken)} of {examined} replayed receipts refused"
    return Finding(check, promise, examined, seen, tuple(broken))


def answers(history: History) -> Finding:
    """Look for answers that have no place in the contract: whatever else was asked for, these were not called for."""
    expected = {
        Verb.ACQUIRE: {"no_seat"},
        Verb.RENEW: {"lease_gone"},
        Verb.RELEASE: set(),
        Verb.REVOKE: {"not_found"},
    }
    heard = [asked for asked in history.asked if asked.outcome is not Outcome.UNKNOWN]
    broken = tuple(
        f"{asked.verb} of {asked.user} was answered {asked.code}, {_after(history, asked.invoked_ns)}"
        for asked in heard
        if asked.outcome is Outcome.FAIL and asked.code not in expected[asked.verb]
    )
    unknown = len(history.asked) - len(heard)
    seen = f"{len(heard)} answers, {len(broken)} unexpected; {unknown} requests without one"
    # Where most went unanswered, nothing was put to the test.
    return Finding(
        "answers",
        "every answer is one of the contract",
        len(heard) if len(heard) > unknown else 0,
        seen,
        broken,
    )


def _by_session(history: History) -> dict[tuple[str, str], list[Stretch]]:
    asked: dict[tuple[str, str], list[Asked]] = defaultdict(list)
    for each in history.asked:
        asked[each.user, each.client].append(each)
    return defaultdict(list, {session: joined(beliefs(each)) for session, each in asked.items()})


def _ended_by_us(history: History, number: int) -> bool:
    """Tell whether the refusal can come from something that was done: a takeover, a revocation, another acquire."""
    refused = history.asked[number]
    since = history.asked[refused.root].invoked_ns if refused.root >= 0 else 0
    until = refused.returned_ns or 0
    for other in history.asked:
        if other.user != refused.user or other is refused or other.outcome is Outcome.FAIL:
            continue
        if not since <= other.invoked_ns < until:
            continue
        moved = other.verb is Verb.ACQUIRE and (other.client, other.request) != _origin(history, refused)
        if moved or other.verb in (Verb.RELEASE, Verb.REVOKE):
            return True
    return False


def _origin(history: History, asked: Asked) -> tuple[str, str]:
    root = history.asked[asked.root] if asked.root >= 0 else asked
    return root.client, root.request


def _possible(history: History) -> list[Stretch]:
    """List when each user's seat could be in use at the server, at the longest.

    A release may be of no avail until the lease runs out, where its tombstone could not be written.
    """
    longest = max((asked.ttl_ms for asked in history.asked), default=0)
    found = []
    for asked in history.of(Verb.ACQUIRE, Verb.RENEW):
        if asked.outcome is Outcome.FAIL or asked.returned_ns is None:
            continue
        ran_by = asked.returned_ns + (0 if asked.outcome is Outcome.OK else LATE_MS * MS_NS)
        lasts_ms = (asked.ttl_ms or longest) * (100 + RHO_PERCENT) // 100 + history.q_ms + 1
        found.append(Stretch(asked.user, asked.invoked_ns, ran_by + lasts_ms * MS_NS))
    return found


def free_ns(history: History) -> int:
    """Tell from when on no seat can be in use any more, if nothing else is asked for."""
    return max((each.until for each in _possible(history)), default=0)


def _abandoned(history: History) -> int:
    """Count the leases that nobody gave back, revoked or moved."""
    ended = {asked.lease for asked in history.of(Verb.RELEASE, Verb.REVOKE)}
    taken = {asked.user for asked in history.of(Verb.ACQUIRE) if asked.takeover}
    held = {(asked.lease, asked.user) for asked in history.of(Verb.ACQUIRE) if asked.outcome is Outcome.OK}
    return sum(lease not in ended and user not in taken for lease, user in held)


def _after(history: History, at_ns: int) -> str:
    began_ns = history.asked[0].invoked_ns if history.asked else at_ns
    return f"{(at_ns - began_ns) // MS_NS} ms after the start"
