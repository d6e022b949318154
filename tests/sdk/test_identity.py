"""The client id: one for each user and machine, whoever asks first."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from seatd_client import identity

ROOT = Path(__file__).parents[2]
ID = re.compile(r"^c_[0-9a-f]{32}$")


def test_the_id_is_kept_for_the_user_alone(tmp_path):
    folder = tmp_path / "new" / "seatd"
    first = identity.client_id(folder)
    assert ID.match(first)
    assert identity.client_id(folder) == first
    [path] = folder.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == first + "\n"


def test_programs_that_start_at_once_agree(tmp_path):
    script = (
        "import sys, pathlib, time\n"
        "from seatd_client.identity import client_id\n"
        "sys.stdout.write('ready\\n'); sys.stdout.flush(); sys.stdin.readline()\n"
        "print(client_id(pathlib.Path(sys.argv[1])))"
    )
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "state")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "client_sdk")},
        )
        for _ in range(8)
    ]
    for program in programs:
        assert program.stdout is not None
        program.stdout.readline()
    for program in programs:
        assert program.stdin is not None
        program.stdin.write("\n")
        program.stdin.flush()
    ids = {program.communicate(timeout=60)[0].strip() for program in programs}
    assert len(ids) == 1
    assert ID.match(ids.pop())
    assert len(list((tmp_path / "state").iterdir())) == 1, "no temporary file is left"


def test_the_loser_of_the_race_takes_the_winners(tmp_path, monkeypatch):
    winner = tmp_path / f"client-{identity._machine()}"
    place = identity._place

    def late(made, path):
        winner.write_text("c_winner\n")
        place(made, path)

    monkeypatch.setattr(identity, "_place", late)
    assert identity.client_id(tmp_path) == "c_winner"


@pytest.mark.parametrize("garbage", [b"", b"\n", b"two words\n", b"\xff\xfe", b"x" * 200])
def test_a_garbled_file_is_made_anew(tmp_path, garbage):
    first = identity.client_id(tmp_path)
    [path] = tmp_path.iterdir()
    path.write_bytes(garbage)
    second = identity.client_id(tmp_path)
    assert ID.match(second)
    assert second != first
    assert identity.client_id(tmp_path) == second


def test_where_nothing_can_be_kept_the_process_has_one(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    first = identity.client_id(blocked / "seatd")
    assert ID.match(first)
    assert identity.client_id(blocked / "seatd") == first


@pytest.mark.skipif(sys.platform != "linux", reason="the places are the system's own")
def test_the_place_follows_the_xdg_specification(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ana")
    assert identity.state_folder({"XDG_STATE_HOME": "/state"}) == Path("/state/seatd")
    usual = Path("/home/ana/.local/state/seatd")
    assert identity.state_folder({}) == usual
    assert identity.state_folder({"XDG_STATE_HOME": "relative"}) == usual


def test_machines_that_share_a_home_differ(monkeypatch):
    here = identity._machine()
    monkeypatch.setattr(identity, "_MACHINE_IDS", ())
    monkeypatch.setattr("platform.node", lambda: "another")
    assert identity._machine() != here
