"""Every admin route under every kind of key, from one table that must name each mounted route."""

from typing import Any, NamedTuple

import pytest
from aiohttp import web

from seatd.web.admin import add_admin_routes
from tests.servers import call
from tests.web.house import House, refused

CALLERS = ("admin", "own", "foreign", "client", "billing", "none", "unknown")


class Route(NamedTuple):
    """A route, a call of it that succeeds, and who may make it (A: admin, T: also the tenant's own)."""

    method: str
    pattern: str
    door: str
    status: int
    body: Any = None
    query: str = ""


TENANT = "/v1/tenants/{tenant}"
ROUTES = [
    Route("GET", "/v1/tenants", "A", 200),
    Route("PUT", TENANT, "A", 200, {"name": "n"}),
    Route("PATCH", TENANT, "T", 200, {"name": "n"}),
    Route("GET", TENANT, "T", 200),
    Route("POST", TENANT + "/tariff", "T", 200, {"tariff": "agent", "seats": 3}),
    Route("POST", TENANT + "/bookings", "T", 201, {"product": "ocr", "quantity": 3}),
    Route("GET", TENANT + "/bookings", "T", 200),
    Route("PUT", TENANT + "/bindings/{product}/{user}", "T", 201),
    Route("DELETE", TENANT + "/bindings/{product}/{user}", "T", 204),
    Route("GET", TENANT + "/bindings/{product}", "T", 200),
    Route("POST", TENANT + "/meter", "A", 201, {"product": "pages", "quantity": "1", "id": "m"}),
    Route("GET", TENANT + "/leases", "T", 200),
    Route("DELETE", TENANT + "/leases/{lease}", "T", 200),
    Route("DELETE", TENANT + "/leases/{lease}", "A", 200, None, "?force=true"),
    Route("POST", TENANT + "/keys", "T", 201, {"scope": "client"}),
    Route("POST", TENANT + "/keys", "A", 201, {"scope": "tenant_admin"}),
    Route("GET", TENANT + "/keys", "T", 200),
    Route("DELETE", TENANT + "/keys/{key}", "T", 204),
    Route("POST", "/v1/keys", "A", 201, {"scope": "billing"}),
    Route("GET", "/v1/keys", "A", 200),
    Route("DELETE", "/v1/keys/{key}", "A", 204),
    Route("GET", "/v1/audit", "A", 200),
]


def expected(door: str, who: str) -> tuple[int, str] | None:
    """The refusal that a caller gets, None where it may."""
    if who in ("none", "unknown"):
        return 401, "unauthorized"
    if who == "admin" or (who == "own" and door == "T"):
        return None
    return 403, "forbidden"


def prepare(house: House, route: Route) -> tuple[str, str]:
    """A tenant with all that the route's path names; returns it and the path."""
    tenant = house.tenant(tariff="team", seats=5)
    names = {"tenant": tenant, "product": "reporting", "user": "ana"}
    if "{lease}" in route.pattern:
        # A known person: else the recorder would make one at an instant of its own.
        house.ok("PUT", f"/v1/tenants/{tenant}/bindings/known/ana")
        names["lease"] = house.seat(house.key(tenant, "client"), "ana").body["lease"]
    if "{key}" in route.pattern:
        path = f"/v1/tenants/{tenant}/keys" if "{tenant}" in route.pattern else "/v1/keys"
        scope = "client" if "{tenant}" in route.pattern else "billing"
        names["key"] = house.ok("POST", path, {"scope": scope})["id"]
    return tenant, route.pattern.format(**names) + route.query


def test_the_table_names_every_mounted_route() -> None:
    app = web.Application()
    add_admin_routes(app, object())  # type: ignore[arg-type]  # nothing is called
    mounted = {(r.method, r.resource.canonical) for r in app.router.routes() if r.resource}
    assert mounted - {m for m in mounted if m[0] == "HEAD"} == {(r.method, r.pattern) for r in ROUTES}


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: f"{r.method} {r.pattern}{r.query} {r.body or ''}")
def test_each_key_opens_what_the_contract_says_and_nothing_else(house: House, route: Route) -> None:
    tenant, path = prepare(house, route)
    keys = {who: house.key_of(who, tenant) for who in CALLERS}
    before = house.dump()
    for who in CALLERS:
        wanted = expected(route.door, who)
        if wanted:
            refused(
                call(route.method, house.server.internal_url + path, key=keys[who], body=route.body), *wanted
            )
    assert house.dump() == before
    for who in ("admin", "own"):
        if expected(route.door, who) is None:
            answer = call(route.method, house.server.internal_url + path, key=keys[who], body=route.body)
            assert answer.status == route.status, (who, answer.status, answer.raw)
            tenant, path = prepare(house, route)
            keys["own"] = house.key_of("own", tenant)


def test_a_revoked_and_an_expired_key_open_nothing(house: House) -> None:
    tenant = house.tenant()
    made = house.ok("POST", f"/v1/tenants/{tenant}/keys", {"scope": "tenant_admin"})
    path = f"/v1/tenants/{tenant}"
    assert house.admin("GET", path, key=made["key"]).status == 200
    assert house.admin("DELETE", f"{path}/keys/{made['id']}").status == 204
    refused(house.admin("GET", path, key=made["key"]), 401, "unauthorized")


def test_a_foreign_key_does_not_learn_which_tenants_exist(house: House) -> None:
    key = house.key(house.tenant(), "tenant_admin")
    there = house.admin("GET", f"/v1/tenants/{house.tenant()}", key=key)
    not_there = house.admin("GET", "/v1/tenants/nobody-has-this", key=key)
    assert there.body == not_there.body
    refused(not_there, 403, "forbidden")


def test_an_admin_key_cannot_revoke_itself(house: House) -> None:
    made = house.ok("POST", "/v1/keys", {"scope": "admin"})
    refused(house.admin("DELETE", f"/v1/keys/{made['id']}", key=made["key"]), 409, "conflict")
    assert house.admin("DELETE", f"/v1/keys/{made['id']}").status == 204


def test_no_key_is_ever_in_the_log_or_in_a_list(house: House) -> None:
    tenant = house.tenant()
    keys = [house.key(tenant, "client"), house.key(tenant, "tenant_admin"), house.key(None, "billing")]
    for path in (f"/v1/tenants/{tenant}/keys", "/v1/keys?limit=1000", "/v1/audit?limit=1000"):
        raw = house.admin("GET", path).raw.decode()
        assert not any(key in raw or key.rpartition(".")[2] in raw for key in keys)
    assert not any(key.rpartition(".")[2] in house.server.log for key in house.handed_out)
