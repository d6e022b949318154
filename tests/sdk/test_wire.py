"""Requests into bytes, replies into values: the golden vectors, and everything that is not in them."""

import copy
import itertools
import json
import pickle
from dataclasses import asdict, replace

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seatd_client import errors, wire
from seatd_client.errors import InvalidReply, Refused, SeatError, ServerFailed, Transient

from tests.sdk.vectors import load, named, title

KEY = "sc.acme.Zm9vYmFy"
ENCODINGS = list(wire.Encoding)
WISH = wire.Acquire("ana", "desk-7")
VECTORS = load()


def of(direction):
    return [vector for vector in VECTORS if vector["direction"] == direction]


def body_of(vector, encoding):
    if "json" not in vector:
        return b""
    if encoding is wire.Encoding.MSGPACK:
        return bytes.fromhex(vector["msgpack"])
    return json.dumps(vector["json"]).encode()


def reply_of(vector, encoding=wire.Encoding.MSGPACK):
    return wire.Reply(
        vector["status"], body_of(vector, encoding), vector.get("headers", {}).get("Retry-After")
    )


def asked(vector, encoding):
    """Make the request of a vector with the SDK."""
    writer, body = wire.Writer(KEY, encoding), vector.get("json", {})
    parts = vector["path"].split("/")
    if vector["path"] == "/v1/leases":
        return writer.acquire(wire.Acquire(**body))
    if vector["path"].endswith("/renew"):
        return writer.renew(parts[3], body["receipt"])
    if vector["method"] == "DELETE":
        return writer.release(parts[3], vector["headers"]["Seat-Receipt"])
    return writer.addon(parts[3], parts[5])


def test_vectors_are_canonical_and_named_once():
    for file in ("acquire", "renew", "release", "addon", "about", "problems"):
        names = [vector["name"] for vector in load(file)]
        assert len(names) == len(set(names))
    for vector in VECTORS:
        assert ("json" in vector) == ("msgpack" in vector)
        if "json" in vector:
            packed = bytes.fromhex(vector["msgpack"])
            assert packed == msgpack.packb(vector["json"]) == msgspec.msgpack.encode(vector["json"])


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("vector", [v for v in of("request") if v["path"] != "/v1"], ids=title)
def test_requests_are_the_vectors_bytes(vector, encoding):
    request = asked(vector, encoding)
    assert (request.method, request.path) == (vector["method"], vector["path"])
    if encoding is wire.Encoding.MSGPACK:
        assert request.body == body_of(vector, encoding)
    elif request.body:
        assert list(json.loads(request.body).items()) == list(vector["json"].items())
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["Accept"] == encoding.value
    assert request.headers.get("Content-Type") == (encoding.value if "json" in vector else None)
    for name, value in vector.get("headers", {}).items():
        assert request.headers[name] == value


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("vector", [v for v in load("acquire") if v["direction"] == "reply"], ids=title)
def test_grants_are_read(vector, encoding):
    wish = replace(WISH, proof="proof" in vector["json"])
    grant = wire.read_grant(reply_of(vector, encoding), wish)
    read = {name: value for name, value in asdict(grant).items() if value is not None}
    assert {**read, "addons": list(grant.addons)} == vector["json"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("vector", load("renew")[1:], ids=title)
def test_renewals_are_read(vector, encoding):
    renewal = wire.read_renewal(reply_of(vector, encoding), vector["json"]["lease"])
    assert asdict(renewal) == vector["json"]


def test_releases_and_addons_are_read():
    wire.read_release(reply_of(named("release", "released")))
    wire.read_addon(reply_of(named("addon", "named for the add-on")), "social")
    with pytest.raises(InvalidReply):
        wire.read_addon(reply_of(named("addon", "named for the add-on")), "ocr")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("vector", of("problem"), ids=title)
def test_every_problem_has_its_type_and_fields(vector, encoding):
    for read in (
        lambda reply: wire.read_grant(reply, WISH),
        lambda reply: wire.read_renewal(reply, "l_1"),
        wire.read_release,
        lambda reply: wire.read_addon(reply, "social"),
    ):
        with pytest.raises(Refused) as caught:
            read(reply_of(vector, encoding))
        error, problem = caught.value, vector["json"]
        assert type(error) is errors.BY_CODE[problem["code"]]
        assert (error.code, error.status, error.detail) == (
            problem["code"],
            vector["status"],
            problem["detail"],
        )
        for name in set(problem) - {"type", "title", "status", "code", "detail"}:
            assert getattr(error, name) == problem[name]
        assert isinstance(error, Transient) == (error.status == 429 or error.status >= 500)


def test_there_is_a_type_and_a_vector_for_every_code():
    assert {vector["json"]["code"] for vector in of("problem")} == set(errors.BY_CODE)
    assert len({kind.CODE for kind in errors.BY_CODE.values()}) == len(errors.BY_CODE)


def test_errors_survive_pickling_and_copying():
    for vector in of("problem"):
        error = errors.of_problem(vector["status"], vector["json"])
        for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(twin) is type(error)
            assert vars(twin) == vars(error)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(418, Refused), (400, Refused), (429, ServerFailed), (502, ServerFailed), (504, ServerFailed)],
)
@pytest.mark.parametrize("body", [b"<html>no</html>", b"", b"[1]", b"\x93\x01\x02\x03", b'{"code": 7}'])
def test_what_is_no_problem_of_ours_is_told_by_its_status(status, kind, body):
    with pytest.raises(SeatError) as caught:
        wire.read_release(wire.Reply(status, body))
    assert type(caught.value) is kind
    assert str(status) in str(caught.value)


def test_an_unknown_code_keeps_its_name_and_fields():
    with pytest.raises(ServerFailed) as caught:
        wire.read_release(wire.Reply(503, b'{"code": "draining", "detail": "Soon.", "within_ms": 5}', "3"))
    error = caught.value
    assert (error.code, error.fields, error.retry_after_ms) == ("draining", {"within_ms": 5}, 3000)


@pytest.mark.parametrize(
    ("header", "ms"), [("2", 2000), (" 2 ", 2000), ("Wed, 21 Oct 2026", None), ("-1", None)]
)
def test_retry_after_in_a_header_counts_where_the_body_has_none(header, ms):
    with pytest.raises(ServerFailed) as caught:
        wire.read_release(wire.Reply(503, b"", header))
    assert caught.value.retry_after_ms == ms


@pytest.mark.parametrize("status", [200, 202, 301, 304])
def test_a_success_that_is_not_in_the_contract_is_no_success(status):
    with pytest.raises(InvalidReply):
        wire.read_release(wire.Reply(status, b"{}"))


GRANT = named("acquire", "acquired")["json"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *itertools.product(
            ["ttl_ms", "expires_ms", "renew_after_ms", "started_ms"], [None, "1", 1.5, True, -1]
        ),
        *itertools.product(["lease", "tenant", "user", "client", "tariff", "receipt"], [None, "", 1, []]),
        *itertools.product(["addons"], [None, "social", [1], {}]),
        ("ttl_ms", 0),
        ("receipt", "a\r\nHost: b"),
        ("user", "bea"),
        ("client", "desk-8"),
    ],
)
def test_a_grant_that_is_not_by_contract_is_not_believed(name, value):
    with pytest.raises(InvalidReply):
        wire.read_grant(wire.Reply(201, json.dumps({**GRANT, name: value}).encode()), WISH)


@pytest.mark.parametrize("name", GRANT)
def test_a_grant_that_lacks_a_field_is_not_believed(name):
    short = {key: value for key, value in GRANT.items() if key != name}
    with pytest.raises(InvalidReply):
        wire.read_grant(wire.Reply(201, msgpack.packb(short)), WISH)


@pytest.mark.parametrize("proof", [None, "", 1, ["ey"]])
def test_a_grant_without_the_proof_that_was_asked_for_is_not_believed(proof):
    body = json.dumps({**GRANT, "proof": proof}).encode()
    with pytest.raises(InvalidReply):
        wire.read_grant(wire.Reply(201, body), replace(WISH, proof=True))
    assert wire.read_grant(wire.Reply(201, body), WISH).proof is None


def test_unknown_fields_of_a_reply_are_ignored():
    more = {**GRANT, "proof": "ey", "mood": {"deep": [1, None]}}
    for encoding in ENCODINGS:
        assert wire.read_grant(wire.Reply(200, encoding.pack(more)), WISH).lease == GRANT["lease"]


def test_a_renewal_of_another_lease_is_not_believed():
    with pytest.raises(InvalidReply):
        wire.read_renewal(reply_of(named("renew", "renewed")), "l_other")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body):
    for status in (200, 409, 503):
        with pytest.raises(SeatError):
            wire.read_renewal(wire.Reply(status, body), "l_1")


@pytest.mark.parametrize("body", [b"\x91" * 5000, b'{"a":' * 100_000, b'{"a":[' + b"[" * 100_000])
def test_deep_bodies_are_refused(body):
    with pytest.raises(InvalidReply):
        wire.decode(body)


@pytest.mark.parametrize("key", ["", "a b", "a\r\nHost: x", "ä", "a\n"])
def test_a_key_must_fit_a_header(key):
    with pytest.raises(ValueError, match="key"):
        wire.Writer(key)


def test_nothing_secret_is_shown():
    request = wire.Writer(KEY).renew("l_1", "the-receipt")
    reply = reply_of(named("acquire", "acquired, with a proof"))
    grant = wire.read_grant(reply, replace(WISH, proof=True))
    for shown in (repr(request), repr(grant)):
        assert KEY not in shown
        assert "receipt" not in shown
        assert str(grant.proof) not in shown


def test_ids_stand_in_paths_whatever_they_hold():
    assert wire.Writer(KEY).addon("a/b?c", "x@y+z:1").path == "/v1/leases/a%2Fb%3Fc/addons/x%40y%2Bz%3A1"
