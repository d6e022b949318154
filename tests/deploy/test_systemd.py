"""The unit is right to systemd, tight by its measure, and seatd works under the kernel's part of it."""

import ctypes.util
import json
import re
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it brings no types
import pytest

from seatd import embedded
from seatd.web import listener
from tests.deploy.files import ROOT, UNIT, run, unit
from tests.needs import lacking, needs
from tests.servers import SeatdProcess, call

EXPOSURE_MAX = 12  # tenths, by systemd-analyze's measure; what is left is due to being on the network


@pytest.fixture(scope="module")
def as_installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unit, with the seatd of this tree as the one that is installed."""
    seatd = Path(sys.executable).with_name("seatd")
    path = tmp_path_factory.mktemp("unit") / "seatd.service"
    text = UNIT.read_text()
    assert text.count("/opt/seatd/bin/seatd") == 1
    path.write_text(text.replace("/opt/seatd/bin/seatd", str(seatd)))
    return path


def test_systemd_understands_every_line(as_installed: Path):
    checked = run(needs("systemd-analyze"), "verify", "--recursive-errors=no", str(as_installed))
    assert (checked.returncode, checked.stderr) == (0, "")


def test_little_is_left_to_attack(as_installed: Path):
    command = [needs("systemd-analyze"), "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}"]
    checked = run(*command, str(as_installed))
    assert checked.returncode == 0, checked.stdout


def test_nothing_of_the_sandbox_is_left_to_defaults():
    for name, value in {
        "DynamicUser": "yes",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "MemoryDenyWriteExecute": "yes",
        "CapabilityBoundingSet": "",
        "StateDirectory": "seatd",
        "StateDirectoryMode": "0700",
        "UMask": "0077",
        "Restart": "on-failure",
    }.items():
        assert unit()[name] == [value], name
    assert int(unit()["LimitNOFILE"][0]) >= 65_536


def test_it_starts_what_there_is():
    (command,) = unit()["ExecStart"]
    program, verb, *flags = command.split()
    shown = run(sys.executable, "-m", "seatd", verb, "--help").stdout
    assert program == "/opt/seatd/bin/seatd"
    for flag in flags:
        if flag.startswith("--"):
            assert f"{flag} " in shown
    named = re.findall(r"SEATD_[A-Z]+", UNIT.read_text())
    assert named
    for variable in named:
        assert variable in shown


def test_it_stops_seatd_first_and_gives_it_time():
    assert unit()["KillMode"] == ["mixed"]  # the store must outlive what seatd flushes into it
    assert int(unit()["TimeoutStopSec"][0]) > listener.SHUTDOWN_S + 2 * embedded.STOP_S


# -- for real ---------------------------------------------------------------------------------------


def allowed_calls() -> list[str]:
    """The system calls that the unit leaves, as this machine's systemd reads its sets."""
    sets: dict[str, list[str]] = {}
    for line in run(needs("systemd-analyze"), "syscall-filter", "--no-pager").stdout.splitlines():
        if line.startswith("@"):
            members = sets.setdefault(line.strip(), [])
        elif line.startswith("    ") and not line.strip().startswith("#"):
            members.append(line.strip())

    def expanded(names: list[str]) -> set[str]:
        calls: set[str] = set()
        for name in names:
            calls |= expanded(sets[name]) if name.startswith("@") else {name}
        return calls

    allowing, *taking = unit()["SystemCallFilter"]
    left = expanded(allowing.split()) | expanded(["@default"])
    for line in taking:
        assert line.startswith("~")
        left -= expanded(line[1:].split())
    return sorted(left | expanded(["@default"]))


def sandbox() -> dict[str, str]:
    """The environment that puts a Python process under the unit's restrictions."""
    if ctypes.util.find_library("seccomp") is None:
        lacking("libseccomp is not installed (Debian: apt-get install libseccomp2)")
    families = [int(getattr(socket, name)) for name in unit()["RestrictAddressFamilies"][0].split()]
    settings = {"calls": allowed_calls(), "families": families}
    return {"PYTHONPATH": str(ROOT / "tests/deploy/sandboxed"), "SANDBOX": json.dumps(settings)}


TRIES = """
import ctypes, errno, mmap, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def refused(what):
    try:
        result = what()
    except PermissionError:
        return True
    return result == -1 and ctypes.get_errno() == errno.EPERM
assert refused(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)), "netlink"
assert refused(lambda: mmap.mmap(-1, 4096, prot=7)), "memory written and run"
assert refused(lambda: libc.mount(b"a", b"/", b"tmpfs", 0, None)), "mount"
assert refused(lambda: libc.ptrace(0, 0, 0, 0)), "ptrace"
assert refused(lambda: os.setpriority(os.PRIO_PROCESS, 0, 5)), "priority"
assert refused(lambda: os.chown("/dev/null", 0, 0)), "chown"
assert socket.socket().fileno() > 0
"""


def test_the_sandbox_of_these_tests_is_one():
    tried = run(sys.executable, "-c", TRIES, env=sandbox())
    assert tried.returncode == 0, tried.stderr


def test_seatd_and_its_store_work_under_the_units_restrictions(new_seatd: Callable[..., SeatdProcess]):
    server = new_seatd(environ=sandbox()).start()
    assert server.process is not None
    store = psutil.Process(server.process.pid).children(recursive=True)
    assert store
    for pid in [server.process.pid, *(process.pid for process in store)]:
        status = Path(f"/proc/{pid}/status").read_text()
        assert "\nSeccomp:\t2\n" in status
        assert "\nNoNewPrivs:\t1\n" in status
    key = server.tenant("boxed", tariff="team", seats=1)
    held = server.client("POST", "/v1/leases", {"user": "ana", "client": "desk"}, key=key)
    assert held.status == 201, held.raw
    renewed = server.client(
        "POST", f"/v1/leases/{held.body['lease']}/renew", {"receipt": held.body["receipt"]}, key=key
    )
    assert renewed.status == 200
    assert call("GET", f"{server.internal_url}/readyz").status == 200
    scrape = call("GET", f"{server.internal_url}/metrics", headers={"Accept": "text/plain"}).raw.decode()
    assert 'seatd_tenant_seats_in_use{tenant="boxed"} 1.0' in scrape
    assert re.search(r"^process_start_time_seconds 1\.\d+e\+09$", scrape, re.MULTILINE)
    store[0].kill()  # seatd starts it again, under the same restrictions
    deadline = time.monotonic() + 20
    while server.client("POST", "/v1/leases", {"user": "ana", "client": "desk"}, key=key).status != 200:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.1)
    assert server.stop() == 0
    errors = [line for line in server.log.splitlines() if '"level": "error"' in line]
    assert all('"event": "store died"' in line for line in errors)
    assert len(errors) == 1
