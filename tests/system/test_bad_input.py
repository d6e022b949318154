"""Bad input on the public listener: the problem of the contract each time, nothing changed, nothing leaked."""

import json
import socket
from urllib.parse import quote

import msgpack
import pytest

from tests.servers import SeatdProcess

GOOD = {"user": "ana", "client": "desk-1"}


@pytest.fixture(scope="module")
def key(seatd: SeatdProcess) -> str:
    return seatd.tenant("strict", tariff="team", seats=5)


def unchanged(server: SeatdProcess) -> None:
    assert server.admin("GET", "/v1/tenants/strict").body["in_use"] == 0


BODIES = {
    "not json": (b"{", "body"),
    "empty": (b"", "body"),
    "an array": (b"[]", "body"),
    "null": (b"null", "body"),
    "no user": (json.dumps({"client": "c"}).encode(), "user"),
    "number for user": (json.dumps({**GOOD, "user": 7}).encode(), "user"),
    "empty user": (json.dumps({**GOOD, "user": ""}).encode(), "user"),
    "long user": (json.dumps({**GOOD, "user": "a" * 129}).encode(), "user"),
    "control character": (json.dumps({**GOOD, "user": "a\x00b"}).encode(), "user"),
    "trailing newline": (json.dumps({**GOOD, "user": "ana\n"}).encode(), "user"),
    "unicode digit": (json.dumps({**GOOD, "user": "\u0661"}).encode(), "user"),
    "space": (json.dumps({**GOOD, "client": "a b"}).encode(), "client"),
    "slash": (json.dumps({**GOOD, "client": "a/b"}).encode(), "client"),
    "unknown field": (json.dumps({**GOOD, "colour": "red"}).encode(), "colour"),
    "takeover as text": (json.dumps({**GOOD, "takeover": "yes"}).encode(), "takeover"),
    "addons as text": (json.dumps({**GOOD, "addons": "social"}).encode(), "addons"),
    "addon malformed": (json.dumps({**GOOD, "addons": ["a b"]}).encode(), "addons[0]"),
    "nine labels": (json.dumps({**GOOD, "labels": {f"l{i}": "x" for i in range(9)}}).encode(), "labels"),
    "label name malformed": (json.dumps({**GOOD, "labels": {"a b": "x"}}).encode(), "labels"),
    "label number": (json.dumps({**GOOD, "labels": {"site": 1}}).encode(), "labels[...]"),
    "request id long": (json.dumps({**GOOD, "request_id": "r" * 129}).encode(), "request_id"),
    "deep": (b"[" * 20_000, "body"),
    "bad utf-8": (b'{"user": "\xff", "client": "c"}', "body"),
}


@pytest.mark.parametrize("name", BODIES)
def test_malformed_json(seatd: SeatdProcess, key: str, name: str):
    raw, field = BODIES[name]
    answer = seatd.client("POST", "/v1/leases", raw=raw, key=key)
    assert answer.status == 400, answer.raw
    assert answer.body["code"] == "invalid_request"
    assert [error["field"] for error in answer.body["errors"]] == [field]
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    unchanged(seatd)


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xc1", b"\x82\xa4user", msgpack.packb([1]), msgpack.packb({**GOOD, "user": 1}),
     msgpack.packb({**GOOD, "x": 1}), msgpack.packb(GOOD) + b"\x00", b"\x91" * 5000,
     msgpack.packb({**GOOD, "user": b"ana"})],
)  # fmt: skip
def test_malformed_msgpack(seatd: SeatdProcess, key: str, raw: bytes):
    answer = seatd.client("POST", "/v1/leases", raw=raw, key=key, msg=True)
    assert (answer.status, answer.body["code"]) == (400, "invalid_request")
    unchanged(seatd)


def test_large_bodies(seatd: SeatdProcess, key: str):
    for msg in (False, True):
        answer = seatd.client("POST", "/v1/leases", raw=b" " * 1_048_576, key=key, msg=msg)
        assert (answer.status, answer.body["code"]) == (413, "too_large")
    unchanged(seatd)


def test_other_media_types(seatd: SeatdProcess, key: str):
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/xml"):
        headers = {"Content-Type": content_type}
        answer = seatd.client("POST", "/v1/leases", raw=b"{}", key=key, headers=headers)
        assert (answer.status, answer.body["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_wrong_methods(seatd: SeatdProcess, key: str, method: str):
    answer = seatd.client(method, "/v1/leases", key=key)
    assert (answer.status, answer.body["code"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"


def test_unknown_paths(seatd: SeatdProcess, key: str):
    for path in ("/", "/v1/nothing", "/v1/tenants", "/metrics", "/v2/leases"):
        answer = seatd.client("GET", path, key=key)
        assert (answer.status, answer.body["code"]) == (404, "not_found"), path


def test_missing_and_foreign_keys(seatd: SeatdProcess, key: str):
    tenant_admin = seatd.admin("POST", "/v1/tenants/strict/keys", {"scope": "tenant_admin"}).body["key"]
    revoked = seatd.admin("POST", "/v1/tenants/strict/keys", {"scope": "client"}).body
    assert seatd.admin("DELETE", f"/v1/tenants/strict/keys/{revoked['id']}").status == 204
    expected = {
        None: 401,
        "nonsense": 401,
        key[:-1] + ("a" if key[-1] != "a" else "b"): 401,
        key.replace("strict", "other"): 401,
        key.replace("strict", "str\u00efct"): 401,
        "sc.." + "a" * 43: 401,
        "sc.strict." + "a" * 4000: 401,
        revoked["key"]: 401,
        tenant_admin: 403,
        seatd.admin_key: 403,
    }
    for wrong, status in expected.items():
        headers = {} if wrong is None else {"Authorization": f"Bearer {quote(wrong, safe='.')}"}
        answer = seatd.client("POST", "/v1/leases", GOOD, headers=headers)
        assert answer.status == status, wrong
        assert answer.body["code"] == ("unauthorized" if status == 401 else "forbidden")
    unchanged(seatd)


def test_receipts_that_are_not_ours(seatd: SeatdProcess, key: str):
    taken = seatd.client("POST", "/v1/leases", GOOD, key=key).body
    foreign_key = seatd.tenant("foreign", tariff="team", seats=1)
    path = f"/v1/leases/{taken['lease']}/renew"
    receipt = taken["receipt"]
    for wrong in (
        "",
        "x",
        receipt[:-1],
        receipt + "A",
        "B" + receipt[1:],
        receipt.swapcase(),
        "ä" * 10,
        "a" * 1201,
    ):
        answer = seatd.client("POST", path, {"receipt": wrong}, key=key)
        assert answer.status == 400, wrong
        assert answer.body["code"] in {"receipt_invalid", "invalid_request"}
    other = seatd.client("POST", path, {"receipt": receipt}, key=foreign_key)
    assert (other.status, other.body["code"]) == (400, "receipt_invalid")
    other = seatd.client("POST", "/v1/leases/another/renew", {"receipt": receipt}, key=key)
    assert (other.status, other.body["code"]) == (400, "receipt_invalid")
    missing = seatd.client("DELETE", f"/v1/leases/{taken['lease']}", key=key)
    assert (missing.status, missing.body["code"]) == (400, "invalid_request")
    stolen = seatd.client("DELETE", f"/v1/leases/{taken['lease']}", key=key, headers={"Seat-Receipt": "x"})
    assert (stolen.status, stolen.body["code"]) == (400, "receipt_invalid")
    assert seatd.client("POST", path, {"receipt": receipt}, key=key).status == 200
    freed = seatd.client("DELETE", f"/v1/leases/{taken['lease']}", key=key, headers={"Seat-Receipt": receipt})
    assert freed.status == 204
    unchanged(seatd)


BROKEN = [
    b"GARBAGE\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"BREW /v1/leases HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /v1/leases HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    b"GET /v1 HTTP/1.1\r\nAuthorization: Bearer sc.strict.hush\x00\r\n\r\n",
    b"GET /v1 HTTP/1.1\r\nAuthorization: Bearer sc.strict.hush" + b"h" * 9000 + b"\r\n\r\n",
    b"GET /v1?" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("listener", ["url", "internal_url"])
@pytest.mark.parametrize("raw", BROKEN, ids=range(len(BROKEN)))
def test_what_is_no_http_gets_a_problem(seatd: SeatdProcess, listener: str, raw: bytes):
    host, port = getattr(seatd, listener).removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as sock:
        sock.sendall(raw)
        answer = b"".join(iter(lambda: sock.recv(65_536), b""))  # to its end: the connection is closed
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 400 " in head.split(b"\r\n")[0]
    assert b"Content-Type: application/problem+json" in head
    problem = json.loads(body)
    assert (problem["code"], problem["errors"][0]["field"]) == ("invalid_request", "request")
    assert b"hush" not in answer
    assert "hush" not in seatd.log


@pytest.mark.parametrize("segment", ["{lease}", "a}b", "%7Ba"])
def test_braces_in_a_path_are_the_handlers_to_judge(seatd: SeatdProcess, key: str, segment: str):
    answer = seatd.client("GET", f"/v1/leases/x/addons/{segment}", key=key)
    assert (answer.status, answer.body["code"]) == (400, "invalid_request")
    assert [error["field"] for error in answer.body["errors"]] == ["product"]
    answer = seatd.client("POST", f"/v1/leases/{segment}/renew", {"receipt": "x"}, key=key)
    assert (answer.status, answer.body["code"]) == (400, "receipt_invalid")


def test_logs_hold_no_trace_key_or_receipt(seatd: SeatdProcess, key: str):
    taken = seatd.client("POST", "/v1/leases", GOOD, key=key).body
    seatd.client(
        "DELETE", f"/v1/leases/{taken['lease']}", key=key, headers={"Seat-Receipt": taken["receipt"]}
    )
    log = seatd.log
    for secret in (key, seatd.admin_key, taken["receipt"], "Traceback"):
        assert secret not in log
