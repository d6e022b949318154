"""Bad input on admin routes: the problem of the contract each time, the field named, and nothing changed."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import msgpack
import pytest

from tests.servers import call
from tests.web.house import House, refused

BODIES: list[tuple[str, str, dict[str, Any]]] = [
    ("PUT", "", {"name": "n"}),
    ("PATCH", "", {"name": "n"}),
    ("POST", "/tariff", {"tariff": "agent"}),
    ("POST", "/bookings", {"product": "ocr", "quantity": 3}),
    ("POST", "/meter", {"product": "pages", "quantity": "1", "id": "m"}),
    ("POST", "/keys", {"scope": "client"}),
    ("POST", "keys", {"scope": "billing"}),
]
"""Every route with a body: method, what follows the tenant (`keys`: the house's), a good body."""

LONG = "x" * 129
NOW_MS = 4_000_000_000_000
FIELDS: list[tuple[str, str, dict[str, Any], str]] = [
    ("PUT", "", {"name": 5}, "name"),
    ("PUT", "", {"name": None}, "name"),
    ("PUT", "", {"name": ""}, "name"),
    ("PUT", "", {"name": "a\nb"}, "name"),
    ("PUT", "", {"name": "\ud800"}, "body"),
    ("PUT", "", {"name": "n" * 201}, "name"),
    ("PUT", "", {"customer": LONG}, "customer"),
    ("PUT", "", {"customer": "a b"}, "customer"),
    ("PUT", "", {"tariff": "gold"}, "tariff"),
    ("PUT", "", {"tariff": ["team"]}, "tariff"),
    ("PUT", "", {"seats": -1}, "seats"),
    ("PUT", "", {"seats": 1.5}, "seats"),
    ("PUT", "", {"seats": "5"}, "seats"),
    ("PUT", "", {"seats": True}, "seats"),
    ("PUT", "", {"seats": 10**30}, "seats"),
    ("PUT", "", {"lease_ttl_ms": 1999}, "lease_ttl_ms"),
    ("PUT", "", {"lease_ttl_ms": 3_600_001}, "lease_ttl_ms"),
    ("PUT", "", {"lease_ttl_ms": None}, "lease_ttl_ms"),
    ("PUT", "", {"lease_ttl_ms": 10**40}, "lease_ttl_ms"),
    ("PUT", "", {"trial_until_ms": 1}, "trial_until_ms"),
    ("PUT", "", {"trial_until_ms": 10**18}, "trial_until_ms"),
    ("PUT", "", {"suspended": "yes"}, "suspended"),
    ("PUT", "", {"suspended": 1}, "suspended"),
    ("PUT", "", {"labels": {"a b": "x"}}, "labels"),
    ("PUT", "", {"labels": {"a": 1}}, "labels"),
    ("PUT", "", {"labels": {"a": "\x07"}}, "labels"),
    ("PUT", "", {"labels": {f"l{i}": "x" for i in range(9)}}, "labels"),
    ("PATCH", "", {"suspended": True}, "suspended"),
    ("PATCH", "", {"tariff": "agent"}, "tariff"),
    ("PATCH", "", {"name": ""}, "name"),
    ("POST", "/tariff", {}, "tariff"),
    ("POST", "/tariff", {"tariff": None}, "tariff"),
    ("POST", "/tariff", {"tariff": "agent", "seats": -1}, "seats"),
    ("POST", "/bookings", {"product": "ocr"}, "quantity"),
    ("POST", "/bookings", {"product": "o\u0000cr", "quantity": 1}, "product"),
    ("POST", "/bookings", {"product": LONG, "quantity": 1}, "product"),
    ("POST", "/bookings", {"product": "ocr", "quantity": 10**9 + 1}, "quantity"),
    ("POST", "/bookings", {"product": "ocr", "quantity": 1, "effective": "later"}, "effective"),
    ("POST", "/meter", {"product": "pages", "quantity": 1.5, "id": "m"}, "quantity"),
    ("POST", "/meter", {"product": "pages", "quantity": "-1", "id": "m"}, "quantity"),
    ("POST", "/meter", {"product": "pages", "quantity": -1, "id": "m"}, "quantity"),
    ("POST", "/meter", {"product": "pages", "quantity": "1e3", "id": "m"}, "quantity"),
    ("POST", "/meter", {"product": "pages", "quantity": "1.1234567", "id": "m"}, "quantity"),
    ("POST", "/meter", {"product": "pages", "quantity": "1234567890123", "id": "m"}, "quantity"),
    ("POST", "/meter", {"product": "pages", "quantity": "\u0661", "id": "m"}, "quantity"),
    ("POST", "/meter", {"product": "pages", "quantity": 10**5000, "id": "m"}, "quantity"),
    ("POST", "/meter", {"product": "pages", "quantity": "1", "id": "m m"}, "id"),
    ("POST", "/meter", {"product": "pages", "quantity": "1", "id": "m", "at_ms": -1}, "at_ms"),
    ("POST", "/meter", {"product": "pages", "quantity": "1", "id": "m", "at_ms": NOW_MS}, "at_ms"),
    ("POST", "/keys", {"scope": "admin"}, "scope"),
    ("POST", "/keys", {"scope": "client", "expires_ms": 5}, "expires_ms"),
    ("POST", "/keys", {"scope": "client", "expires_ms": "5"}, "expires_ms"),
    ("POST", "keys", {"scope": "client"}, "scope"),
    ("POST", "keys", {"scope": "billing", "expires_ms": 10**20}, "expires_ms"),
]

QUERIES = [
    ("/v1/tenants?limit=0", "limit"),
    ("/v1/tenants?limit=1001", "limit"),
    ("/v1/tenants?limit=ten", "limit"),
    ("/v1/tenants?limit=", "limit"),
    ("/v1/tenants?limit=1&limit=2", "limit"),
    ("/v1/tenants?color=red", "color"),
    ("/v1/tenants?after=a%00b", "after"),
    ("/v1/tenants?after=%0a", "after"),
    ("/v1/tenants?after=" + LONG, "after"),
    ("{tenant}?limit=5", "limit"),
    ("{tenant}/bookings?after=x", "after"),
    ("{tenant}/bookings?after=" + "9" * 30, "after"),
    ("{tenant}/leases?after=-1", "after"),
    ("{tenant}/leases?force=true", "force"),
    ("{tenant}/bindings/agent?limit=-5", "limit"),
    ("{tenant}/keys?after=%ff", "after"),
    ("/v1/audit?after=x", "after"),
    ("/v1/audit?tenant=a%20b", "tenant"),
    ("/v1/audit?limit=5000", "limit"),
]

SEGMENTS = [
    "a%00b",
    "a%0ab",
    "a%20b",
    "a%2fb",
    "%ff",
    "a%25b",
    "%c3%bc",
    LONG,
    "a;b",
    "%1b[2J",
    "{a}",
    "a}b",
    "%7Ba",
]
PATHS = [
    ("GET", "/v1/tenants/{bad}", "tenant"),
    ("PUT", "/v1/tenants/{bad}", "tenant"),
    ("PATCH", "/v1/tenants/{bad}", "tenant"),
    ("POST", "/v1/tenants/{bad}/tariff", "tenant"),
    ("POST", "/v1/tenants/{bad}/bookings", "tenant"),
    ("GET", "/v1/tenants/{bad}/bookings", "tenant"),
    ("PUT", "/v1/tenants/{tenant}/bindings/{bad}/ana", "product"),
    ("PUT", "/v1/tenants/{tenant}/bindings/agent/{bad}", "user"),
    ("DELETE", "/v1/tenants/{tenant}/bindings/agent/{bad}", "user"),
    ("GET", "/v1/tenants/{tenant}/bindings/{bad}", "product"),
    ("POST", "/v1/tenants/{bad}/meter", "tenant"),
    ("GET", "/v1/tenants/{bad}/leases", "tenant"),
    ("DELETE", "/v1/tenants/{tenant}/leases/{bad}", "lease"),
    ("POST", "/v1/tenants/{bad}/keys", "tenant"),
    ("GET", "/v1/tenants/{bad}/keys", "tenant"),
    ("DELETE", "/v1/tenants/{tenant}/keys/{bad}", "key"),
    ("DELETE", "/v1/keys/{bad}", "key"),
]

WRONG_METHODS = [
    ("POST", "/v1/tenants"),
    ("DELETE", "/v1/tenants/x"),
    ("GET", "/v1/tenants/x/tariff"),
    ("PUT", "/v1/tenants/x/bookings"),
    ("POST", "/v1/tenants/x/bindings/agent"),
    ("GET", "/v1/tenants/x/bindings/agent/ana"),
    ("POST", "/v1/tenants/x/leases"),
    ("GET", "/v1/tenants/x/leases/l"),
    ("GET", "/v1/tenants/x/meter"),
    ("PUT", "/v1/keys"),
    ("GET", "/v1/keys/k"),
    ("POST", "/v1/audit"),
]


def where(house: House, tenant: str, tail: str) -> str:
    """The URL of a route of `BODIES`."""
    path = "/v1/keys" if tail == "keys" else f"/v1/tenants/{tenant}{tail}"
    return house.server.internal_url + path


def named(problem: dict[str, Any]) -> str:
    """The first part of the field that a problem names."""
    (error,) = problem["errors"]
    assert error["reason"]
    return str(error["field"]).split(".")[0].split("[")[0]


def raw_call(house: House, method: str, target: str, body: bytes | None = None) -> Any:
    """A request whose path no library tidies up."""
    connection = http.client.HTTPConnection(urlsplit(house.server.internal_url).netloc, timeout=10)
    try:
        headers = {"Authorization": f"Bearer {house.server.admin_key}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, target, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_a_body_that_is_no_json_or_no_such_object(house: House) -> None:
    tenant = house.tenant(tariff="team", seats=2)
    before = house.dump()
    broken = [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"x"',
        b"{}{}",
        b'{"a":',
        b"[" * 50_000,
        b'{"name": NaN}',
    ]
    for method, tail, _ in BODIES:
        for raw in broken:
            answer = call(method, where(house, tenant, tail), key=house.server.admin_key, raw=raw)
            refused(answer, 400, "invalid_request")
    assert house.dump() == before


def test_an_unknown_field_is_an_error_and_is_named(house: House) -> None:
    tenant = house.tenant(tariff="team", seats=2)
    before = house.dump()
    for method, tail, body in BODIES:
        url = where(house, tenant, tail)
        answer = call(method, url, key=house.server.admin_key, body=body | {"surprise": 1})
        assert named(refused(answer, 400, "invalid_request")) == "surprise"
    assert house.dump() == before


def test_only_json_is_spoken(house: House) -> None:
    tenant = house.tenant(tariff="team", seats=2)
    before = house.dump()
    for method, tail, body in BODIES:
        for content_type in ("application/msgpack", "text/plain", "application/x-www-form-urlencoded", "x"):
            raw = msgpack.packb(body) if "msgpack" in content_type else json.dumps(body).encode()
            sent = {"Content-Type": content_type, "Accept": "application/json"}
            url = where(house, tenant, tail)
            answer = call(method, url, key=house.server.admin_key, raw=raw, headers=sent)
            refused(answer, 415, "unsupported_media_type")
    assert house.dump() == before


def test_a_mebibyte_is_too_large(house: House) -> None:
    tenant = house.tenant(tariff="team", seats=2)
    before = house.dump()
    for method, tail, _ in BODIES:
        raw = b'{"name": "' + b"x" * (1 << 20) + b'"}'
        answer = call(method, where(house, tenant, tail), key=house.server.admin_key, raw=raw)
        refused(answer, 413, "too_large")
    assert house.dump() == before


def test_a_wrong_value_is_refused_and_its_field_named(house: House) -> None:
    tenant = house.tenant(tariff="team", seats=2)
    before = house.dump()
    for method, tail, body, field in FIELDS:
        answer = call(
            method,
            where(house, tenant, tail),
            key=house.server.admin_key,
            raw=_json(body),
        )
        assert named(refused(answer, 400, "invalid_request")) == field, (body, answer.body)
    assert house.dump() == before


def _json(body: Any) -> bytes:
    import sys  # noqa: PLC0415 - for one number that Python would rather not write

    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(body).encode()
    finally:
        sys.set_int_max_str_digits(limit)


def test_a_wrong_parameter_is_refused_and_named(house: House) -> None:
    tenant = house.tenant(tariff="team", seats=2)
    for query, parameter in QUERIES:
        path = query.replace("{tenant}", f"/v1/tenants/{tenant}")
        assert named(refused(house.admin("GET", path), 400, "invalid_request")) == parameter, query
    for query in ("?force=maybe", "?force=", "?forced=true"):
        answer = house.admin("DELETE", f"/v1/tenants/{tenant}/leases/l{query}")
        refused(answer, 400, "invalid_request")
    for method, tail, body in BODIES:
        answer = call(method, where(house, tenant, tail) + "?x=1", key=house.server.admin_key, body=body)
        assert named(refused(answer, 400, "invalid_request")) == "x"


@pytest.mark.parametrize(("method", "pattern", "name"), PATHS)
def test_an_id_in_a_path_that_is_none(sqlite_house: House, method: str, pattern: str, name: str) -> None:
    house = sqlite_house
    tenant = house.tenant(tariff="agent", seats=2)
    before = house.dump()
    body = b'{"name": "n"}' if method in ("PUT", "POST", "PATCH") else None
    for bad in SEGMENTS:
        status, problem = raw_call(house, method, pattern.format(bad=bad, tenant=tenant), body)
        assert (status, problem["code"]) == (400, "invalid_request"), (bad, problem)
        assert named(problem) == name
    assert house.dump() == before


def test_dots_are_ids_like_others(house: House) -> None:
    for name in (".", "..", ".x", "a..b"):
        status, body = raw_call(house, "PUT", f"/v1/tenants/{name}", b'{"name": "n"}')
        assert (status, body["tenant"]) in ((201, name), (200, name))


def test_a_wrong_method_and_an_unknown_path(sqlite_house: House) -> None:
    for method, path in WRONG_METHODS:
        answer = sqlite_house.admin(method, path)
        refused(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"]
    for path in ("/", "/v1", "/v1/nothing", "/v1/tenants/", "/v1/tenants//leases", "/admin"):
        refused(sqlite_house.admin("GET", path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "tail", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"name": "n"}),
        ("POST", "/tariff", {"tariff": "team"}),
        ("POST", "/bookings", {"product": "p", "quantity": 1}),
        ("GET", "/bookings", None),
        ("PUT", "/bindings/p/u", None),
        ("DELETE", "/bindings/p/u", None),
        ("GET", "/bindings/p", None),
        ("POST", "/meter", {"product": "p", "quantity": "1", "id": "i"}),
        ("GET", "/leases", None),
        ("DELETE", "/leases/l", None),
        ("DELETE", "/leases/l?force=true", None),
        ("POST", "/keys", {"scope": "client"}),
        ("GET", "/keys", None),
        ("DELETE", "/keys/k", None),
    ],
)
def test_a_tenant_that_is_not_there(house: House, method: str, tail: str, body: Any) -> None:
    before = house.dump()
    refused(house.admin(method, f"/v1/tenants/nobody{tail}", body), 404, "not_found")
    assert house.dump() == before


def test_a_new_tenant_needs_a_name(house: House) -> None:
    name = house.new_name()
    before = house.dump()
    assert named(refused(house.admin("PUT", f"/v1/tenants/{name}", {}), 400, "invalid_request")) == "name"
    assert house.dump() == before


def test_malformed_authorization(sqlite_house: House) -> None:
    key = sqlite_house.server.admin_key
    for header in ("", "Bearer", "Bearer ", f"Basic {key}", key, f"Bearer {key}x", f"Bearer {key[:-1]}"):
        answer = call(
            "GET", sqlite_house.server.internal_url + "/v1/tenants", headers={"Authorization": header}
        )
        refused(answer, 401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_nothing_of_all_that_left_a_stack_trace(house: House) -> None:
    assert "Traceback" not in house.server.log
    assert '"level": "error"' not in house.server.log
