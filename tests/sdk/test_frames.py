"""The channel's frames: the golden vectors, and everything that is not in them."""

from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seatd_client import frames, wire
from seatd_client.errors import InvalidReply, LeaseGone, NoSeat, StoreUnavailable
from seatd_client.frames import Answer, Push

from tests.sdk.vectors import load, named, title

VECTORS = load("channel")


def of(direction):
    return [vector for vector in VECTORS if vector["direction"] == direction]


def read(raw) -> Any:
    return frames.read(raw)


def frame(name):
    return bytes.fromhex(named("channel", name)["msgpack"])


def asked(members):
    """Make the frame of a vector with the SDK."""
    fields = {name: value for name, value in members.items() if name not in {"id", "op"}}
    number = members["id"]
    if members["op"] == "acquire":
        return frames.acquire(number, wire.Acquire(**fields))
    if members["op"] == "leave":
        return frames.leave(number, fields["of"])
    if members["op"] == "release":
        return frames.release(number, fields["lease"], fields["receipt"])
    return frames.renew(number, [tuple(one) for one in fields.get("leases", [fields.values()])])


@pytest.mark.parametrize("vector", of("up"), ids=title)
def test_what_goes_up_is_the_vectors_bytes(vector):
    assert asked(vector["json"]).hex() == vector["msgpack"]


@pytest.mark.parametrize("vector", of("down"), ids=title)
def test_answers_are_read(vector):
    answer = read(bytes.fromhex(vector["msgpack"]))
    assert isinstance(answer, Answer)
    assert answer.id == vector["json"]["id"]
    assert answer.ok == vector["json"].get("ok")
    assert (answer.error is not None) == ("error" in vector["json"])


@pytest.mark.parametrize("vector", of("push"), ids=title)
def test_pushes_are_read(vector):
    push = read(bytes.fromhex(vector["msgpack"]))
    members = {name: value for name, value in vars(push).items() if value is not None}
    assert {"push": members.pop("kind"), **members} == vector["json"]


def test_errors_are_those_of_http():
    refused = read(frame("refused, in a line")).error
    assert isinstance(refused, NoSeat)
    assert (refused.position, refused.place) == (
        3,
        named("channel", "refused, in a line")["json"]["error"]["place"],
    )


def test_each_renewal_of_a_list_is_read_by_itself():
    both = read(frame("renewed several, one is gone"))
    leases = [lease for lease, _ in named("channel", "renew several")["json"]["leases"]]
    first, second = frames.read_renewals(both.ok, leases)
    assert isinstance(first, wire.Renewal)
    assert isinstance(second, LeaseGone)
    assert second.reason == "revoked"
    swapped = frames.read_renewals([both.ok[0], both.ok[0]], leases)
    assert isinstance(swapped[1], InvalidReply), "the renewal of another lease"
    wrong: list[Any] = [None, {}, [], both.ok[:1], 7]
    for whole in wrong:
        with pytest.raises(InvalidReply):
            frames.read_renewals(whole, leases)
    assert isinstance(frames.read_renewals([7, both.ok[1]], leases)[0], InvalidReply)


def test_one_lease_is_renewed_by_itself():
    one = named("channel", "renewed one")["json"]["ok"]
    assert isinstance(frames.read_renewals(one, [one["lease"]])[0], wire.Renewal)
    assert isinstance(frames.read_renewals([one], [one["lease"]])[0], wire.Renewal)


@pytest.mark.parametrize(
    "members",
    [
        [],
        {"ok": {}},
        {"id": 0, "ok": {}},
        {"id": True, "ok": {}},
        {"id": "1", "ok": {}},
        {"id": 1 << 53, "ok": {}},
        {"id": 1},
        {"id": 1, "error": 7},
        {"id": 1, "error": {"code": "x"}},
        {"push": 7},
        {"push": None, "id": 1, "ok": {}},
    ],
)
def test_what_is_no_frame_is_told(members):
    with pytest.raises(InvalidReply):
        read(msgpack.packb(members))


def test_a_frame_without_end_is_not_read():
    with pytest.raises(InvalidReply):
        read(msgpack.packb({"push": "x" * 300_000}))


def test_members_that_are_unknown_are_ignored_and_wrong_ones_left_out():
    said = {"push": "drain", "mood": [1], "within_ms": "soon", "lease": 7}
    assert read(msgpack.packb(said)) == Push("drain")
    error = read(msgpack.packb({"id": 3, "error": {"status": 503, "code": "store_unavailable"}})).error
    assert isinstance(error, StoreUnavailable)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw):
    with suppress(InvalidReply):  # and nothing else
        read(raw)


def test_nothing_secret_is_shown():
    ok = named("channel", "acquired")["json"]["ok"]
    assert ok["receipt"] not in repr(read(frame("acquired")))
