"""`hold`: the program lives as long as the seat, and not a moment more than grace."""

import asyncio
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from tests.sdk import hold
from tests.sdk.scripted import never, problem, serving

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="speaks of groups and signals")

STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: None)
other = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"])
print(os.getpid(), other.pid, flush=True)
while True:
    time.sleep(1)
"""
POLITE = """
import signal, sys, time
def end(number, _frame):
    print("ended by", number, flush=True)
    sys.exit(0)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
    signal.signal(number, end)
print("ready", flush=True)
while True:
    time.sleep(1)
"""


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("program", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
async def test_the_programs_exit_code_is_ours_and_the_seat_is_given_back(program, code):
    async with serving() as script:
        assert (await hold.run(script.url, "--", "sh", "-c", f"echo hello; {program}"))[:2] == (
            code,
            "hello\n",
        )
    assert [op for op in script.ops() if op != "renew"] == ["acquire", "release"]


async def test_the_seat_is_renewed_while_the_program_runs():
    async with serving() as script:
        assert (await hold.run(script.url, "--", "sleep", "1"))[0] == 0
    assert script.ops().count("renew") >= 3


async def test_options_reach_the_server(tmp_path):
    key = tmp_path / "key"
    key.write_text("sc.acme.fromfile\n")
    options = [
        "--key-file",
        str(key),
        "--client",
        "desk",
        "--takeover",
        "--addon",
        "social",
        "--addon",
        "ocr",
    ]
    async with serving() as script:
        await hold.run(script.url, *options, "--label", "site=b=c", "--", "true", SEATD_CLIENT_KEY="")
    [asked] = script.bodies("acquire")
    assert asked.pop("request_id")
    assert asked == {
        "user": "ana",
        "client": "desk",
        "addons": ["social", "ocr"],
        "takeover": True,
        "labels": {"site": "b=c"},
    }
    assert script.seen[0].headers["Authorization"] == "Bearer sc.acme.fromfile"


async def test_the_program_does_not_inherit_the_key(tmp_path):
    async with serving() as script:
        code, out, err = await hold.run(script.url, "--", "env", XDG_STATE_HOME=str(tmp_path), OTHER="kept")
    assert code == 0
    assert "OTHER=kept" in out
    assert hold.KEY not in out + err
    [kept] = (tmp_path / "seatd").iterdir()
    assert script.bodies("acquire")[0]["client"] == kept.read_text().strip()


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (problem(409, "no_seat", in_use=50, capacity=50), 75, "every seat is taken (50 of 50)"),
        (problem(409, "seat_elsewhere", client="x", since_ms=1), 75, "--takeover"),
        (problem(503, "store_unavailable", retry_after_ms=9000), 75, "store_unavailable"),
        (problem(401, "unauthorized", detail="No valid key."), 77, "No valid key."),
        (problem(403, "not_named", product="agent"), 77, "not_named"),
    ],
)
async def test_without_a_seat_the_program_is_not_run(answer, code, says):
    async with serving() as script:
        script.always["acquire"] = answer
        ran, out, err = await hold.run(script.url, "--client", "d", "--within", "1", "--", "echo", "ran")
    assert (ran, out) == (code, "")
    assert says in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "env", "says"),
    [
        (["--", "true"], {"SEATD_CLIENT_KEY": ""}, "no key"),
        (["--key-file", "/nowhere/key", "--", "true"], {}, "/nowhere/key"),
        (["--url", "nonsense", "--", "true"], {}, "address"),
        (["--label", "site", "--", "true"], {}, "label"),
        (["--"], {}, "program"),
        ([], {}, "program"),
        (["--key", "sc.a.b", "--", "true"], {}, "unrecognized"),
        (["true"], {}, "unrecognized"),
    ],
)
async def test_a_wrong_command_line_is_told(arguments, env, says):
    ran, _, err = await hold.run("http://127.0.0.1:9", *arguments, **env)
    assert ran == 2
    assert says in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("program", "code"), [("no-such-program-here", 127), ("/", 126)])
async def test_a_program_that_cannot_run_gives_the_seat_back(program, code):
    async with serving() as script:
        ran, _, err = await hold.run(script.url, "--client", "d", "--", program)
    assert ran == code
    assert "Traceback" not in err
    assert script.ops()[-1] == "release"


async def test_a_lost_seat_ends_the_program_politely():
    async with serving() as script:
        process = await hold.start(script.url, "--client", "d", "--", sys.executable, "-c", POLITE)
        await process.stdout.readline()
        script.always["renew"] = problem(410, "lease_gone", reason="revoked")
        code, out, err = await hold.ended(process)
    assert (code, out) == (69, f"ended by {signal.SIGTERM:d}\n")
    assert "revoked" in err
    assert script.ops()[-1] == "release", "only after the program has ended"


async def test_a_lost_seat_ends_a_stopped_program_politely():
    async with serving() as script:
        show = f"import os; print(os.getpid(), flush=True)\n{POLITE}"
        process = await hold.start(script.url, "--client", "d", "--", sys.executable, "-c", show)
        pid = int(await process.stdout.readline())
        await process.stdout.readline()
        os.kill(pid, signal.SIGSTOP)
        script.always["renew"] = problem(410, "lease_gone", reason="revoked")
        assert (await hold.ended(process))[:2] == (69, f"ended by {signal.SIGTERM:d}\n")


async def test_a_lost_seat_ends_a_stubborn_program_firmly_and_all_that_it_started():
    async with serving() as script:
        process = await hold.start(
            script.url, "--client", "d", "--grace", "0.5", "--", sys.executable, "-c", STUBBORN
        )
        pids = [int(pid) for pid in (await process.stdout.readline()).split()]
        assert all(alive(pid) for pid in pids)
        script.always["renew"] = problem(410, "lease_gone", reason="revoked")
        began = time.monotonic()
        assert (await hold.ended(process))[0] == 69
        assert 0.4 < time.monotonic() - began < 3
        assert not any(alive(pid) for pid in pids)


async def test_a_server_that_went_away_ends_the_program_at_the_deadline():
    async with serving() as script:
        script.always["renew"] = never
        began = time.monotonic()
        code, _, err = await hold.run(script.url, "--client", "d", "--", "sleep", "600")
    assert code == 69
    assert time.monotonic() - began < 8
    assert "at risk" in err
    assert "deadline" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
async def test_signals_go_to_the_program(number):
    async with serving() as script:
        process = await hold.start(script.url, "--client", "d", "--", sys.executable, "-c", POLITE)
        await process.stdout.readline()
        process.send_signal(number)
        assert (await hold.ended(process))[:2] == (0, f"ended by {number:d}\n")
    assert script.ops()[-1] == "release"


async def test_a_signal_while_no_seat_is_there_yet_ends_us():
    async with serving() as script:
        script.always["acquire"] = never
        process = await hold.start(script.url, "--client", "d", "--", "true")
        while not script.ops():
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        code, _, err = await hold.ended(process)
    assert code == 128 + signal.SIGTERM
    assert "Traceback" not in err


def at_terminal(url, *arguments):
    """Run the command at a terminal of its own, under a shell that has job control."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, hold.command(url, "--client", "d", *arguments), hold.environ())
    return pid, terminal


def read_until(terminal, text, within_s=20):
    seen, ends = b"", time.monotonic() + within_s
    while text not in seen:
        assert time.monotonic() < ends, seen
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                seen += os.read(terminal, 4096)
            except OSError:  # the other end has gone
                break
    assert text in seen
    return seen


async def test_at_a_terminal_the_program_has_the_keyboard():
    def person(url):
        pid, terminal = at_terminal(url, "--", "sh", "-c", "read line; echo got $line; read more")
        try:
            time.sleep(0.2)
            os.write(terminal, b"typed\n")
            read_until(terminal, b"got typed")
            os.write(terminal, b"\x03")  # Ctrl-C
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        finally:
            os.close(terminal)

    async with serving() as script:
        assert await asyncio.to_thread(person, script.url) == 128 + signal.SIGINT
    assert script.ops()[-1] == "release"


async def test_ctrl_z_stops_both_and_going_on_continues_both():
    def person(url):
        shell = 'set -m; "$@"; echo "stopped $?"; fg >/dev/null; echo "ended $?"'
        pid, terminal = pty.fork()
        if pid == 0:
            line = hold.command(
                url, "--client", "d", "--", "sh", "-c", "echo up; read x; echo got $x; exit 5"
            )
            os.execvpe("bash", ["bash", "-c", shell, "bash", *line], hold.environ())
        try:
            read_until(terminal, b"up")
            time.sleep(0.5)  # it may have spoken before it was given the keyboard
            os.write(terminal, b"\x1a")  # Ctrl-Z
            read_until(terminal, b"stopped 14")
            os.write(terminal, b"again\n")
            read_until(terminal, b"got again")
            read_until(terminal, b"ended 5")
            os.waitpid(pid, 0)
        finally:
            os.close(terminal)

    async with serving(ttl_ms=60_000, renew_after_ms=20_000) as script:
        await asyncio.to_thread(person, script.url)
    assert script.ops()[-1] == "release"


def test_help_tells_exit_codes_and_examples():
    line = [sys.executable, "-m", "seatd_client", "hold", "--help"]
    ran = subprocess.run(line, capture_output=True, text=True, env=hold.environ(), check=True)
    for word in ("examples:", "exit codes:", "69", "75", "77", "SEATD_CLIENT_KEY", "--takeover", "--grace"):
        assert word in ran.stdout
