"""`seatd key rotate-receipts`, against a real server."""

import time
from collections.abc import Callable

from seatd.cli.output import instant
from tests.cli.conftest import Ran
from tests.servers import SeatdProcess, call


def test_the_keys_of_receipts_are_rotated(cli: Callable[..., Ran], seatd: SeatdProcess) -> None:
    before = call("GET", seatd.url + "/v1/jwks").body["keys"]
    began_ms = int(time.time() * 1000)
    body = cli("key", "rotate-receipts", "--signs-in", "600", "--json").json
    assert 600_000 <= body["signs_from_ms"] - began_ms < 630_000
    said = cli("key", "rotate-receipts")
    assert (said.status, said.out.count("\n")) == (0, 1)
    assert said.out.startswith("r_")
    assert len(call("GET", seatd.url + "/v1/jwks").body["keys"]) == len(before) + 2
    log = cli("audit", "--limit", "1000", "--json").json["items"]
    mine = [row for row in log if row["action"] == "receipt_key.rotate"]
    assert mine[-2]["detail"]["kid"] == body["kid"]
    assert instant(mine[-1]["detail"]["signs_from_ms"]) in said.out


def test_a_key_cannot_sign_before_every_seatd_has_it(cli: Callable[..., Ran], seatd: SeatdProcess) -> None:
    before = call("GET", seatd.url + "/v1/jwks").body
    for seconds in ("4", "0", "-1", "3601", "soon"):
        assert cli("key", "rotate-receipts", "--signs-in", seconds).status == 2
    assert call("GET", seatd.url + "/v1/jwks").body == before
