"""`take`, `renew`, `free`: one exchange each, what is between them in a private file."""

import asyncio
import json
import stat
import sys

import pytest

from tests.sdk import hold
from tests.sdk.scripted import problem, serving

EX_WRONG, EX_LOST, EX_NO_SEAT, EX_REFUSED = 2, 69, 75, 77


async def run(url, verb, *arguments, user="ana", **env):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "seatd_client", verb, "--url", url, "--user", user, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=hold.environ(**env),
    )
    return await hold.ended(process)


def leases(server, tenant):
    return server.admin("GET", f"/v1/tenants/{tenant}/leases").body["items"]


async def test_a_seat_is_taken_renewed_and_freed_on_a_real_server(seatd, tmp_path):
    env = {"SEATD_CLIENT_KEY": seatd.tenant("hand", tariff="team", seats=1), "XDG_STATE_HOME": str(tmp_path)}
    code, out, err = await run(seatd.url, "take", **env)
    assert (code, err) == (0, "")
    assert out.startswith("ana has a team seat of hand until ")
    [first] = leases(seatd, "hand")

    code, out, err = await run(seatd.url, "renew", **env)
    assert (code, err) == (0, "")
    assert out.startswith("ana keeps the seat until ")
    [second] = leases(seatd, "hand")
    assert second["lease"] == first["lease"]
    assert second["expires_ms"] > first["expires_ms"]

    assert (await run(seatd.url, "take", user="bea", **env))[0] == EX_NO_SEAT
    assert await run(seatd.url, "free", **env) == (0, "ana has given the seat back.\n", "")
    assert leases(seatd, "hand") == []
    assert await run(seatd.url, "free", **env) == (0, "ana has no seat here to give back.\n", "")
    assert (await run(seatd.url, "renew", **env))[0] == EX_LOST
    assert (await run(seatd.url, "take", user="bea", **env))[0] == 0


async def test_taking_again_keeps_the_seat_and_a_revoked_one_is_told(seatd, tmp_path):
    env = {
        "SEATD_CLIENT_KEY": seatd.tenant("hand-lost", tariff="team", seats=1),
        "XDG_STATE_HOME": str(tmp_path),
    }
    assert (await run(seatd.url, "take", **env))[0] == 0
    assert (await run(seatd.url, "take", **env))[0] == 0
    [lease] = leases(seatd, "hand-lost")
    assert (await run(seatd.url, "renew", **env))[0] == 0  # the later take's receipt is the one kept
    seatd.admin("DELETE", f"/v1/tenants/hand-lost/leases/{lease['lease']}")
    assert await run(seatd.url, "renew", **env) == (EX_LOST, "", "seatd: ana's seat is lost: revoked\n")


async def test_what_is_kept_is_private_and_json_shows_no_receipt(tmp_path):
    path = tmp_path / "deep" / "seat.json"
    async with serving() as script:
        code, out, _ = await run(script.url, "take", "--state", str(path), "--json", "--client", "desk")
    said, kept = json.loads(out), json.loads(path.read_text())
    assert code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (said["lease"], said["user"], said["client"]) == ("l_1", "ana", "desk")
    assert 0 < said["believe_ms"] <= 2_000 * 100 // 101
    assert "receipt" not in said
    assert kept["receipt"] not in out


async def test_a_seat_is_kept_for_each_server_key_and_user(tmp_path):
    async with serving() as script:
        for key, user in (("sc.a.x", "ana"), ("sc.b.x", "ana"), ("sc.a.x", "bea")):
            env = {"SEATD_CLIENT_KEY": key, "XDG_STATE_HOME": str(tmp_path)}
            assert (await run(script.url, "take", user=user, **env))[0] == 0
    assert len(list((tmp_path / "seatd").glob("seat-*.json"))) == 3


async def test_what_passes_is_tried_again_under_one_request_id(tmp_path):
    async with serving() as script:
        script.line_up("acquire", problem(503, "store_unavailable"), problem(500, "internal"))
        assert (await run(script.url, "take", XDG_STATE_HOME=str(tmp_path)))[0] == 0
        asked = script.bodies("acquire")
    assert len(asked) == 3
    assert len({body["request_id"] for body in asked}) == 1


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [(401, "unauthorized", EX_REFUSED), (409, "no_seat", EX_NO_SEAT), (503, "store_unavailable", EX_NO_SEAT)],
)
async def test_exit_codes_say_whether_another_try_may_help(tmp_path, status, code, exit_code):
    async with serving() as script:
        script.always["acquire"] = problem(status, code)
        ended = await run(script.url, "take", "--within", "0.5", XDG_STATE_HOME=str(tmp_path))
    assert ended[:2] == (exit_code, "")
    assert ended[2].startswith("seatd: ")


async def test_a_seat_that_cannot_be_kept_is_given_back(tmp_path):
    (tmp_path / "file").write_text("")
    async with serving() as script:
        code, out, err = await run(script.url, "take", "--state", str(tmp_path / "file" / "seat.json"))
        assert script.ops() == ["acquire", "release"]
    assert (code, out) == (EX_WRONG, "")
    assert "Traceback" not in err


async def test_a_garbled_file_is_no_seat(tmp_path):
    path = tmp_path / "seat.json"
    async with serving() as script:
        for text in ("", "[]", '{"lease": 1}', "\x00"):
            path.write_text(text)
            assert (await run(script.url, "renew", "--state", str(path)))[0] == EX_LOST
        assert script.ops() == []


async def test_no_server_and_no_key_end_in_a_sentence(tmp_path):
    code, _, err = await run("http://127.0.0.1:9", "take", "--within", "0.5", XDG_STATE_HOME=str(tmp_path))
    assert code == EX_NO_SEAT
    assert "Traceback" not in err
    assert (await run("http://127.0.0.1:9", "take", SEATD_CLIENT_KEY=""))[0] == EX_WRONG
    assert (await run("ftp://x", "take"))[0] == EX_WRONG
