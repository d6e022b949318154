"""Frames from their bytes alone: whatever comes is read, refused under its id, or nobody's."""

import contextlib
import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seatd.model import Refusal, is_id
from seatd.seats.receipts import RECEIPT_MAX
from seatd.web import frames, websocket
from seatd.web.frames import AcquireFrame, MalformedFrameError, ReleaseFrame, RenewFrame

IDS = st.one_of(st.integers(0, 2**53), st.text(min_size=1, max_size=128))
TEXTS = st.text(min_size=1, max_size=128)
RECEIPTS = st.text(alphabet="Aa9-_", max_size=200)
NAMES = st.text(alphabet="azAZ09._@:+-", min_size=1, max_size=128)
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(), st.binary()
)
ANYTHING = st.recursive(
    PLAIN, lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)), max_leaves=20
)


@given(frame_id=IDS, lease=TEXTS, receipt=RECEIPTS)
def test_one_renewal_and_a_release_are_read_as_they_were_written(frame_id, lease, receipt):
    sent = {"id": frame_id, "lease": lease, "receipt": receipt}
    renew = frames.decode(msgpack.packb(sent | {"op": "renew"}))
    assert renew == RenewFrame(id=frame_id, lease=lease, receipt=receipt)
    release = frames.decode(msgpack.packb({"op": "release"} | sent))
    assert release == ReleaseFrame(id=frame_id, lease=lease, receipt=receipt)


@given(frame_id=IDS, pairs=st.lists(st.tuples(TEXTS, RECEIPTS), max_size=20))
def test_a_list_of_renewals_is_read_as_it_was_written(frame_id, pairs):
    raw = msgpack.packb({"id": frame_id, "op": "renew", "leases": pairs})
    assert frames.decode(raw) == RenewFrame(id=frame_id, leases=pairs)


@given(frame_id=IDS, user=NAMES, client=NAMES, takeover=st.booleans())
def test_an_acquire_is_read_as_it_was_written(frame_id, user, client, takeover):
    sent = {"op": "acquire", "id": frame_id, "user": user, "client": client, "takeover": takeover}
    read = frames.decode(msgpack.packb(sent))
    assert isinstance(read, AcquireFrame)
    assert (read.id, read.user, read.client, read.takeover) == (frame_id, user, client, takeover)


@given(raw=st.binary(max_size=400))
def test_no_bytes_bring_down_the_reader(raw):
    with contextlib.suppress(MalformedFrameError):
        frames.decode(raw)


@given(
    body=st.dictionaries(
        st.sampled_from(
            ["id", "op", "user", "client", "lease", "leases", "receipt", "labels", "addons", "x"]
        ),
        st.one_of(ANYTHING, st.sampled_from(["acquire", "renew", "release"])),
    )
)
def test_any_map_is_read_or_refused_under_its_id(body: dict[str, Any]):
    sent = body.get("id")
    named = (type(sent) is int and 0 <= sent <= 2**53) or (type(sent) is str and 0 < len(sent) <= 128)
    frame_id, user = read_or_refused(msgpack.packb(body))
    assert frame_id == (sent if named else None)
    assert user is None or is_id(user)


def read_or_refused(raw: bytes) -> tuple[Any, str | None]:
    """The frame's id, as it was read or is refused under, and the user that it names."""
    try:
        frame = frames.decode(raw)
    except MalformedFrameError as error:
        return error.frame_id, None
    return frame.id, frame.user if isinstance(frame, AcquireFrame) else None


def test_the_longest_list_fits_into_a_frame():
    pairs = [["l" * 128, "r" * RECEIPT_MAX]] * frames.LEASES_MAX
    raw = msgpack.packb({"id": "i" * 128, "op": "renew", "leases": pairs})
    assert len(raw) <= frames.FRAME_MAX
    assert frames.decode(raw).id == "i" * 128


@pytest.mark.parametrize("secret", ["op", "user", "lease"])
def test_a_refusal_does_not_repeat_what_was_sent(secret):
    sent = {"id": 1, "op": "acquire", "user": "ana", "client": "c"} | {secret: "hush hush"}
    with pytest.raises(MalformedFrameError) as caught:
        frames.decode(msgpack.packb(sent))
    assert "hush" not in str(frames.refusal(1, caught.value.refusal))


@given(payload=st.one_of(st.binary(max_size=300), st.integers(65_500, 65_600).map(bytes)))
def test_a_message_is_one_whole_frame(payload):
    raw = websocket.frame(websocket.BINARY, payload)
    length = raw[1]
    header = 2 if length < 126 else 4 if length == 126 else 10
    assert raw[0] == 0x82
    assert raw[header:] == payload
    said = length if length < 126 else int.from_bytes(raw[2:header], "big")
    assert said == len(payload)


def test_answers_name_their_frame():
    assert msgpack.unpackb(frames.answer(7, {"a": 1})[2:]) == {"id": 7, "ok": {"a": 1}}
    raw = frames.refusal("x", Refusal("busy", retry_after_ms=5))
    refused = msgpack.unpackb(raw[4 if raw[1] == 126 else 2 :])
    assert (refused["id"], refused["error"]["code"], refused["error"]["retry_after_ms"]) == ("x", "busy", 5)
    assert msgpack.unpackb(frames.push("drain", within_ms=9)[2:]) == {"push": "drain", "within_ms": 9}


VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "channel.json").read_text())


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["direction"] == "up"], ids=lambda v: v["name"])
def test_the_vectors_frames_are_read(vector):
    frame: Any = frames.decode(bytes.fromhex(vector["msgpack"]))
    for name, value in vector["json"].items():
        if name == "leases":
            assert [list(pair) for pair in frame.leases] == value
        elif name != "op":
            assert getattr(frame, name) == value


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["direction"] != "up"], ids=lambda v: v["name"])
def test_what_is_written_is_in_the_vectors_form(vector):
    said = vector["json"]
    if "push" in said:
        fields = {name: value for name, value in said.items() if name != "push"}
        written = frames.push(said["push"], **fields)
    elif "ok" in said:
        written = frames.answer(said["id"], said["ok"])
    else:
        problem = dict(said["error"])
        fixed = {name: problem.pop(name) for name in ("type", "title", "status", "code", "detail")}
        refusal = Refusal(fixed["code"], fixed["detail"], **problem)
        assert (refusal.status, refusal.title) == (fixed["status"], fixed["title"])
        written = frames.refusal(said["id"], refusal)
    payload = bytes.fromhex(vector["msgpack"])
    assert written[len(written) - len(payload) :] == payload
