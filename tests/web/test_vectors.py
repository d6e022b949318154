"""The golden wire vectors, seen from the server: it reads every request in them and answers in their shape."""

import json
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest

from seatd.model import CODES, Refusal
from seatd.seats.model import Lease
from seatd.web.client import AcquireBody, RenewBody, granted, renewed_body
from seatd.web.codec import encode
from seatd.web.problems import problem

FOLDER = Path(__file__).parents[1] / "vectors"
VECTORS = [
    (file.stem, vector) for file in sorted(FOLDER.glob("*.json")) for vector in json.loads(file.read_text())
]
BODIES = {"acquire": AcquireBody, "renew": RenewBody}


def of(direction: str) -> list[Any]:
    chosen = [(file, v) for file, v in VECTORS if v["direction"] == direction]
    return [pytest.param(file, v, id=v["name"]) for file, v in chosen]


@pytest.mark.parametrize(("file", "vector"), of("request"))
def test_requests_are_read_alike_in_both_encodings(file: str, vector: dict[str, Any]):
    if "json" not in vector:
        return
    from_json = msgspec.json.decode(json.dumps(vector["json"]), type=BODIES[file])
    from_msgpack = msgspec.msgpack.decode(bytes.fromhex(vector["msgpack"]), type=BODIES[file])
    assert from_json == from_msgpack
    for name, value in vector["json"].items():
        assert getattr(from_json, name) == value


@pytest.mark.parametrize(("file", "vector"), of("reply"))
def test_replies_have_the_vectors_shape(file: str, vector: dict[str, Any]):
    if file not in BODIES:
        return
    body = vector["json"]
    known = {"start_ms": body.get("started_ms", 1), "kind": body.get("tariff", "team")}
    fields = {name: body.get(name, "x") for name in ("tenant", "user", "client", "lease", "receipt")}
    times = {name: body[name] for name in ("expires_ms", "ttl_ms", "renew_after_ms")}
    lease = Lease(**known, **fields, **times, addons=tuple(body.get("addons", ())))
    made = granted(lease, body.get("proof")) if file == "acquire" else renewed_body(lease)
    assert list(made.items()) == list(body.items())
    assert encode(made, msgpack=True).hex() == vector["msgpack"]
    assert json.loads(encode(made, msgpack=False)) == body


@pytest.mark.parametrize(("file", "vector"), of("problem"))
def test_problems_have_the_vectors_shape(file: str, vector: dict[str, Any]):
    body = vector["json"]
    standard = {"type", "title", "status", "code", "detail"}
    fields = {name: value for name, value in body.items() if name not in standard}
    made = problem(Refusal(body["code"], body["detail"], **fields))
    assert list(made) == list(body)
    assert (made["status"], made["type"]) == (vector["status"], body["type"])
    assert msgpack.unpackb(encode(made, msgpack=True)) == made


def test_every_client_code_has_a_vector():
    admin_only = {"no_booking_left", "bindings_exceed", "no_price_list", "database_unavailable"}
    admin_only |= {"not_over", "usage_incomplete"}
    assert {v["json"]["code"] for _, v in VECTORS if v["direction"] == "problem"} == CODES.keys() - admin_only
