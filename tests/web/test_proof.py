"""Proofs and their public keys, as somebody else verifies them: by hand after the RFCs, and with PyJWT."""

import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from itertools import count
from typing import Any

import jwt
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from seatd.seats.model import Lease
from seatd.seats.proofs import TYPE, Prover, thumbprint
from seatd.seats.receipts import Keyring
from tests.servers import Reply, SeatdProcess, call
from tests.web.house import refused

NOW_MS = 1_800_000_000_999
LEASE = Lease("acme", "ana", "pc1", "l1", NOW_MS, NOW_MS + 300_000, 300_000, 100_000, "team", "r", ("ocr",))
RING = Keyring.of("r_new", {"r_old": b"o" * 32, "r_new": b"n" * 32})
PROVER = Prover(RING, "seatd")
PROOF = PROVER.prove(LEASE, NOW_MS)
_names = count()


class NotProven(Exception):
    """The text proves nothing."""


def unpadded(text: str) -> bytes:
    raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise ValueError("not canonical")
    return raw


def verified(proof: str, jwks: Mapping[str, Any], now_s: int) -> dict[str, Any]:
    """RFC 7515 (compact), 7517, 7519 and 8037 by hand, with nothing of the product."""
    try:
        head, payload, signature = proof.split(".")
        header = json.loads(unpadded(head))
        (key,) = [key for key in jwks["keys"] if key["kid"] == header["kid"]]
        if (header["alg"], header["typ"]) != ("EdDSA", "seatd-proof+jwt"):
            raise NotProven("another kind of token")
        if (key["kty"], key["crv"], key["alg"], key["use"]) != ("OKP", "Ed25519", "EdDSA", "sig"):
            raise NotProven("another kind of key")
        public = Ed25519PublicKey.from_public_bytes(unpadded(key["x"]))
        public.verify(unpadded(signature), f"{head}.{payload}".encode())
    except (ValueError, KeyError, TypeError, UnicodeError, InvalidSignature) as error:
        raise NotProven from error
    claims: dict[str, Any] = json.loads(unpadded(payload))
    if not claims["iat"] <= now_s < claims["exp"]:
        raise NotProven("not now")
    return claims


def acquire(server: SeatdProcess, key: str, user: str = "ana", **fields: Any) -> Reply:
    return server.client("POST", "/v1/leases", {"user": user, "client": "pc1", **fields}, key=key)


def tenant(server: SeatdProcess, **fields: Any) -> tuple[str, str]:
    name = f"proof{next(_names)}"
    return name, server.tenant(name, tariff="team", seats=3, **fields)


# -- what a proof says --------------------------------------------------------------------------


def test_a_proof_says_who_sits_and_until_when(seatd: SeatdProcess) -> None:
    name, key = tenant(seatd)
    seatd.admin("PUT", f"/v1/tenants/{name}/bindings/social/ana")
    began_s = int(time.time())
    granted = acquire(seatd, key, proof=True).body
    jwks = call("GET", seatd.url + "/v1/jwks").body
    claims = verified(granted["proof"], jwks, int(time.time()))
    jti = claims.pop("jti")
    iat = claims.pop("iat")
    assert claims == {
        "iss": "seatd",
        "sub": "ana",
        "tenant": name,
        "client": "pc1",
        "lease": granted["lease"],
        "tariff": "team",
        "addons": ["social"],
        "exp": granted["expires_ms"] // 1000,
    }
    assert began_s <= iat <= time.time()
    again = acquire(seatd, key, proof=True).body
    other = verified(again["proof"], jwks, int(time.time()))
    assert other["lease"] == granted["lease"]
    assert other["jti"] != jti
    with pytest.raises(NotProven):
        verified(granted["proof"], jwks, granted["expires_ms"] // 1000)


def test_pyjwt_verifies_it_with_the_published_set(seatd: SeatdProcess) -> None:
    _, key = tenant(seatd)
    proof = acquire(seatd, key, proof=True).body["proof"]
    published = jwt.PyJWKSet.from_dict(call("GET", seatd.url + "/v1/jwks").body)
    of_proof = published[jwt.get_unverified_header(proof)["kid"]]
    options: Any = {"require": ["iss", "sub", "iat", "exp", "jti"]}
    claims = jwt.decode(proof, of_proof, algorithms=["EdDSA"], issuer="seatd", options=options)
    assert claims["sub"] == "ana"


def test_a_proof_comes_where_it_was_asked_for_and_never_outside(seatd: SeatdProcess) -> None:
    _, key = tenant(seatd)
    assert "proof" not in acquire(seatd, key).body
    assert "proof" not in acquire(seatd, key, proof=False).body
    packed = seatd.client(
        "POST", "/v1/leases", {"user": "ana", "client": "pc1", "proof": True}, key=key, msg=True
    )
    assert verified(packed.body["proof"], call("GET", seatd.url + "/v1/jwks").body, int(time.time()))
    assert "proof" in call("GET", seatd.url + "/v1").body["features"]
    wrong: Any
    for wrong in ("yes", 1, None, []):
        problem = refused(acquire(seatd, key, proof=wrong), 400, "invalid_request")
        assert problem["errors"][0]["field"] == "proof"
    assert packed.body["proof"].rpartition(".")[2] not in seatd.log


def test_asking_again_for_a_request_gives_a_newer_proof_of_the_same_seat(seatd: SeatdProcess) -> None:
    _, key = tenant(seatd)
    held = acquire(seatd, key, request_id="r1").body
    again = acquire(seatd, key, request_id="r1", proof=True)
    assert (again.status, again.body["lease"]) == (200, held["lease"])
    renewed = seatd.client("POST", f"/v1/leases/{held['lease']}/renew", {"receipt": held["receipt"]}, key=key)
    assert renewed.status == 200


def test_the_issuer_is_a_setting_and_keys_outlive_a_restart(new_seatd: Any) -> None:
    server = new_seatd("--issuer", "https://seats.example").start()
    key = server.tenant("acme", tariff="team", seats=1)
    proof = acquire(server, key, proof=True).body["proof"]
    jwks = call("GET", server.url + "/v1/jwks").body
    server.kill()
    server.start()
    assert call("GET", server.url + "/v1/jwks").body == jwks
    assert verified(proof, jwks, int(time.time()))["iss"] == "https://seats.example"


# -- the set of keys ----------------------------------------------------------------------------


def test_the_set_is_public_short_lived_and_holds_no_secret(seatd: SeatdProcess) -> None:
    answer = call("GET", seatd.url + "/v1/jwks", headers={"Accept": "application/msgpack"})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/jwk-set+json"
    assert answer.headers["Cache-Control"] == "public, max-age=30"
    for key in answer.body["keys"]:
        assert key.keys() == {"kid", "use", "alg", "kty", "crv", "x"}
        assert len(unpadded(key["x"])) == 32
        needed = json.dumps({"crv": key["crv"], "kty": key["kty"], "x": key["x"]}, separators=(",", ":"))
        assert unpadded(key["kid"]) == sha256(needed.encode()).digest()
    refused(call("POST", seatd.url + "/v1/jwks"), 405, "method_not_allowed")
    assert call("GET", seatd.internal_url + "/v1/jwks").status == 404


def test_the_thumbprint_is_that_of_rfc_8037_appendix_a_3() -> None:
    key = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert thumbprint(key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_an_old_key_is_published_as_long_as_it_verifies() -> None:
    old = Prover(Keyring.of("r_old", {"r_old": b"o" * 32}), "seatd")
    proof = old.prove(LEASE, NOW_MS)
    assert verified(proof, PROVER.jwks, NOW_MS // 1000)
    alone = Prover(Keyring.of("r_new", {"r_new": b"n" * 32}), "seatd")
    with pytest.raises(NotProven):
        verified(proof, alone.jwks, NOW_MS // 1000)
    assert verified(alone.prove(LEASE, NOW_MS), PROVER.jwks, NOW_MS // 1000)


# -- what is no proof ---------------------------------------------------------------------------


def test_a_proof_holds_until_its_lease_expires_and_not_a_moment_longer() -> None:
    last_s = LEASE.expires_ms // 1000
    assert verified(PROOF, PROVER.jwks, last_s - 1)["exp"] == last_s
    assert last_s * 1000 <= LEASE.expires_ms
    with pytest.raises(NotProven):
        verified(PROOF, PROVER.jwks, last_s)


@settings(max_examples=300)
@given(st.integers(0, len(PROOF) - 1), st.characters(max_codepoint=300))
def test_a_changed_character_proves_nothing(at: int, letter: str) -> None:
    if letter != PROOF[at]:
        with pytest.raises(NotProven):
            verified(PROOF[:at] + letter + PROOF[at + 1 :], PROVER.jwks, NOW_MS // 1000)


@given(st.sampled_from(["sub", "tenant", "client", "lease", "tariff", "exp", "addons"]), st.integers())
def test_claims_cannot_be_exchanged(name: str, value: int) -> None:
    head, payload, signature = PROOF.split(".")
    claims = json.loads(unpadded(payload)) | {name: value}
    forged = urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    with pytest.raises(NotProven):
        verified(f"{head}.{forged}.{signature}", PROVER.jwks, NOW_MS // 1000)


def test_another_house_proves_nothing_here() -> None:
    stranger = Prover(Keyring.of("r_new", {"r_new": b"s" * 32}), "seatd")
    with pytest.raises(NotProven):
        verified(stranger.prove(LEASE, NOW_MS), PROVER.jwks, NOW_MS // 1000)


def test_the_proof_key_is_not_the_receipt_key() -> None:
    listed = PROVER.jwks["keys"]
    assert len({key["x"] for key in listed}) == 2
    for secret in RING.keys.values():
        assert unpadded(listed[0]["x"]) != secret
    assert jwt.get_unverified_header(PROOF)["typ"] == TYPE
    assert "n" * 8 not in repr(PROVER)


# -- rotation, as administrators ask for it -----------------------------------------------------


def test_a_rotation_is_for_the_admin_key(seatd: SeatdProcess) -> None:
    name, client = tenant(seatd)
    own = seatd.admin("POST", f"/v1/tenants/{name}/keys", {"scope": "tenant_admin"}).body["key"]
    billing = seatd.admin("POST", "/v1/keys", {"scope": "billing"}).body["key"]
    before = call("GET", seatd.url + "/v1/jwks").body
    for key in (client, own, billing):
        refused(seatd.admin("POST", "/v1/receipt-keys", {}, key=key), 403, "forbidden")
    refused(seatd.admin("POST", "/v1/receipt-keys", {}, key=None), 401, "unauthorized")
    for body in ({"signs_in_ms": 4_999}, {"signs_in_ms": 3_600_001}, {"signs_in_ms": True}, {"kid": "r_1"}):
        refused(seatd.admin("POST", "/v1/receipt-keys", body), 400, "invalid_request")
    refused(seatd.admin("POST", "/v1/receipt-keys?now=1", {}), 400, "invalid_request")
    assert call("GET", seatd.url + "/v1/jwks").body == before
    assert call("POST", seatd.url + "/v1/receipt-keys", key=seatd.admin_key).status == 404


def test_a_rotation_publishes_the_new_key_a_minute_before_it_signs(new_seatd: Any) -> None:
    server = new_seatd().start()
    key = server.tenant("acme", tariff="team", seats=2)
    kid = jwt.get_unverified_header(acquire(server, key, proof=True).body["proof"])["kid"]
    before_ms = int(time.time() * 1000)
    made = server.admin("POST", "/v1/receipt-keys")
    assert made.status == 201
    assert made.body["signs_from_ms"] - before_ms >= 60_000
    assert made.body["older_verify_until_ms"] - made.body["signs_from_ms"] > 3_600_000
    published = [key["kid"] for key in call("GET", server.url + "/v1/jwks").body["keys"]]
    assert len(published) == 2
    assert kid in published
    again = acquire(server, key, proof=True).body["proof"]
    assert jwt.get_unverified_header(again)["kid"] == kid
    row = server.admin("GET", "/v1/audit?limit=1000").body["items"][-1]
    assert (row["action"], row["detail"]["kid"]) == ("receipt_key.rotate", made.body["kid"])
    for _ in range(14):
        assert server.admin("POST", "/v1/receipt-keys", {}).status == 201
    refused(server.admin("POST", "/v1/receipt-keys", {}), 409, "conflict")
