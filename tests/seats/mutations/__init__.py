"""Ways to break the scripts: each is one thought gone wrong, as a change of the scripts' text.

They are put in place by a test, in memory, and never stand in the product.  A mutation that no longer fits
the text raises, so that it cannot pass for one that was caught.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from seatd.seats import store


@dataclass(frozen=True)
class Mutation:
    """Replace `old` by `new` in the scripts of `verbs` (all: in every script that has it)."""

    name: str
    old: str
    new: str
    verbs: tuple[str, ...] = ()


MUTATIONS = (
    Mutation(
        "a late release ends a later start",
        "if not rec or rec[START] > start then return {'released', 0} end",
        "if not rec then return {'released', 0} end",
    ),
    Mutation(
        "the next start of a user is not later than the one that ended",
        "if rec[START] >= HWM then HWM = rec[START] + 1 end",
        "",
    ),
    Mutation("a takeover leaves no floor", "math.max(rec[FLOOR], expires), after", "0, after"),
    Mutation(
        "a takeover forgets an older floor", "math.max(rec[FLOOR], expires), after", "rec[FLOOR], after"
    ),
    Mutation(
        "expires falls when the ttl is lowered",
        "expires = math.max(expires, op[6], NOW + st.ttl)",
        "expires = NOW + st.ttl",
    ),
    Mutation(
        "expires of a 200 falls when the ttl is lowered",
        "rec, 0, math.max(expires, NOW + st.ttl), addons)",
        "rec, 0, NOW + st.ttl, addons)",
    ),
    Mutation(
        "a 200 does not extend",
        "rec, 0, math.max(expires, NOW + st.ttl), addons)",
        "rec, 0, expires, addons)",
    ),
    Mutation("the same request id raises the start", "      known = true\n", ""),
    Mutation("a request id is forgotten with its lease", "    return {'lease_gone', old[1]}\n", ""),
    Mutation(
        "other content passes under a request id",
        "if r[2] ~= fingerprint then return {'request_id_reused'} end",
        "",
    ),
    Mutation("the count forgets Q", "int(NOW - Q), '+inf')", "int(NOW), '+inf')"),
    Mutation(
        "a seat is free without Q",
        "'LIMIT', 0, most)\n  for _, user",
        "'LIMIT', 0, most)\n  Q = 0\n  for _, user",
    ),
    Mutation(
        "one seat too many",
        "if taken < st.cap then return nil end",
        "if taken <= st.cap then return nil end",
    ),
    Mutation(
        "one seat too few",
        "if taken < st.cap then return nil end",
        "if taken < st.cap - 1 then return nil end",
    ),
    Mutation(
        "an ended lease is renewed", "if rec[ENDED] ~= '' then return {'lease_gone', rec[ENDED]} end", ""
    ),
    Mutation(
        "a cut lease is renewed",
        "local at, reason = cut_at(st, rec)\n  if not at and unnamed",
        "local at, reason\n  if not at and unnamed",
    ),
    Mutation(
        "the name is not asked for",
        "if not at and unnamed(st, user, rec) then at, reason = NOW, 'revoked' end",
        "",
    ),
    Mutation(
        "a batch's second renewal of a lease sees it as before", "if st.touched[user] then", "if false then"
    ),
    Mutation(
        "a batch's second renewal comes before the first is written",
        "    write_extended(st)\n    local rec = load_lease",
        "    local rec = load_lease",
    ),
    Mutation(
        "seats are counted before a late renewal is written",
        "    write_extended(st)\n    st.count = nil",
        "    st.count = nil",
    ),
    Mutation("an earlier start is renewed", "or start < rec[START] then return gone", "then return gone"),
    Mutation(
        "a start is not told", "  emit({'started', st.name, start, rec[LEASE], user, kind, op[10]})\n", ""
    ),
    Mutation("an end is not told", "  emit({'ended', st.name, at, rec[LEASE], user, reason})\n", ""),
    Mutation(
        "the sweep ends leases when it comes by",
        "finish(st, user, rec, 'expired', expires, expires)\n    end",
        "finish(st, user, rec, 'expired', NOW, expires)\n    end",
    ),
    Mutation(
        "a cut ends leases when somebody looks",
        "if cut[1] > rec[TERM] then return cut[2], cut[3] end",
        "if cut[1] > rec[TERM] then return NOW, cut[3] end",
    ),
    Mutation(
        "a lease that was written is read as before",
        "cmsgpack.pack(rec))\n  st.leases[user] = nil",
        "cmsgpack.pack(rec))",
    ),
    Mutation(
        "a lease that has gone is read as before",
        "redis.call('HDEL', st.l, user)\n  st.leases[user] = nil",
        "redis.call('HDEL', st.l, user)",
    ),
    Mutation("a new seat is not counted", "if new == 1 and st.count then", "if false then"),
    Mutation("a seat that was left is counted", "if had == 1 and st.count and", "if false and"),
    Mutation(
        "a seat that ran out is taken off twice", "and expires + Q > NOW then st.count", "then st.count"
    ),
    Mutation("who takes a seat does not stand in it", "if new == 1 and st.card then", "if false then"),
    Mutation("who left a seat stands in it", "if had == 1 and st.card then", "if false then"),
    Mutation("nobody is ever seen to wait", "  st.nobody_waits = false\n", ""),
    Mutation("seq stands still", "'seq', int(SEQ + #events)", "'seq', int(SEQ)"),
    Mutation("seq jumps", "'seq', int(SEQ + #events)", "'seq', int(SEQ + 2 * #events)"),
    Mutation("an entry names its first event", "'s', int(SEQ + upto)", "'s', int(SEQ + from)"),
    Mutation("an entry counts itself alone", "'a', int(ADDED + upto)", "'a', upto"),
    Mutation(
        "events are counted once a call",
        "'added', int(ADDED + #events)",
        "'added', int(ADDED + math.min(#events, 1))",
    ),
    Mutation(
        "the peak is what is in use last", "if m.use > m.peak then m.peak = m.use end", "m.peak = m.use"
    ),
    Mutation("a minute begins empty", "  redis.call('HSET', st.m, 'use', m[2])", "  m[2] = nil"),
    Mutation("every denial is told", "if redis.call('HEXISTS', st.m, field) == 1 then return end", ""),
    Mutation("a revoked seat is free at once", "if op[5] == 1 then\n    free", "if true then\n    free"),
    Mutation(
        "a forced revocation holds nobody",
        "hold(st, user, op[7])",
        "if op[5] == 0 then hold(st, user, op[7]) end",
    ),
    Mutation("a hold never ends", "if held > NOW then return deny", "if held > 0 then return deny"),
    Mutation("a hold is not looked at", "if held > NOW then return deny", "if false then return deny"),
    Mutation("a hold is not told", "math.max(expires + Q, held)", "expires + Q"),
    Mutation(
        "a released seat stays",
        "  else\n    free(st, user, rec, expires)\n  end\n  return {'released', 1}",
        "  else\n    save_lease(st, user, rec)\n  end\n  return {'released', 1}",
    ),
    Mutation(
        "an older policy wins", "if st.version and not st.stale and st.version >= op[3] then", "if false then"
    ),
    Mutation("a switch of the tariff ends nothing", "then reason = 'tariff_switched'", "then reason = nil"),
    Mutation(
        "an expired key opens", "if tonumber(expires) > 0 and tonumber(expires) <= NOW then", "if false then"
    ),
    Mutation("nobody is told to look again", "if at < st.due then st.due = at end", ""),
)


def mutated(mutation: Mutation) -> Mapping[str, bytes]:
    """Apply a mutation to the scripts; raises `LookupError` where the text is not there."""
    changed = {
        verb: text.replace(mutation.old.encode(), mutation.new.encode())
        for verb, text in store.SCRIPTS.items()
        if mutation.old.encode() in text
    }
    if not changed:
        raise LookupError(f"nothing to change for: {mutation.name}")
    return changed


def put_in_place(monkeypatch: pytest.MonkeyPatch, mutation: Mutation) -> None:
    """Have the store run the mutated scripts until the test ends."""
    for verb, text in mutated(mutation).items():
        monkeypatch.setitem(store.SCRIPTS, verb, text)
        monkeypatch.setitem(store._SHA, verb, hashlib.sha1(text, usedforsecurity=False).hexdigest())
