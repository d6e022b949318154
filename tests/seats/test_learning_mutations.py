"""Each wrong rule of what is learnt after a loss is made here, and caught by a rule of `test_learning`."""

import pytest

from seatd.model import Refusal
from tests.seats.mutations import Mutation, put_in_place
from tests.seats.test_learning import RULES
from tests.valkey import ValkeyServer

WRONG = [
    Mutation("learning off", "return until_ms\n", "return nil\n"),
    Mutation("window of the ttl only", "math.ceil(op[15] * RHO) + 2 * DELTA + W + Q", "op[15]"),
    Mutation("tombstones off", "if start <= buried then return reason end", ""),
    Mutation(
        "leftovers counted against an adoption",
        "return redis.call('SCARD', st.c) < math.max",
        "return redis.call('ZCARD', st.s) < math.max",
    ),
    Mutation(
        "a present lease extended without looking at its receipt's expiry",
        "if NOW + DELTA > expires then return doubt end",
        "if NOW + DELTA > expires and not rec then return doubt end",
    ),
    Mutation("policy kept across an epoch", "st.stale = p[12] ~= EPOCH", "st.stale = false"),
    Mutation("lowered cap that refuses an honest holder", "math.max(st.cap, cap, highest)", "st.cap"),
    Mutation("the order of coming decides", "math.max(st.cap, cap, highest)", "math.max(st.cap, cap)"),
    Mutation(
        "an ended record ends a later start",
        "and start == rec[START] then return {'lease_gone'",
        "then return {'lease_gone'",
    ),
    Mutation(
        "a revoked lease adopted again",
        "bury(st, user, op[6], 'revoked')",
        "",
    ),
    Mutation("run_id alone is not looked at", "or opened[3] ~= identity() then", "then"),
    Mutation("an earlier start wins", "if rec and rec[START] > start then return gone(st, rec, op) end", ""),
    Mutation("a release while learning buries nothing", "bury(st, user, start, 'released')", ""),
    Mutation(
        "a seat is freed without a tombstone", "(op[6] > 0 or op[7]) and rec[FLOOR] or expires", "rec[FLOOR]"
    ),
    Mutation("an adoption leaves no floor", "op[9], start, stands, st.term", "op[9], start, 0, st.term"),
    Mutation(
        "a release frees what another client has",
        "if rec[LEASE] ~= lease then until_ms",
        "if false then until_ms",
    ),
    Mutation("a policy of before the loss is believed", "op[17] < tonumber(EPOCH)", "false"),
    Mutation("a change forgets a cap", "if learn_cap then", "if false then"),
    Mutation(
        "a late release takes the confirmed",
        "if not rec or rec[START] <= start then redis",
        "if true then redis",
    ),
    Mutation("who ended all is forgotten", "if version < tonumber(ended[1]) then return ended[2] end", ""),
]


@pytest.mark.parametrize("mutation", WRONG, ids=lambda mutation: mutation.name)
async def test_a_wrong_rule_is_caught(
    mutation: Mutation, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in_place(monkeypatch, mutation)
    caught = []
    for rule in RULES:
        with valkey.client() as client:
            client.flushall()
        try:
            await rule(valkey)
        except (AssertionError, Refusal):
            caught.append(rule.__name__)
            break
    assert caught, mutation.name
