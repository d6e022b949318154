"""`seatd serve --demo`: what it prints works when pasted, at the first start and at the second."""

import json
import os
import pty
import re
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.needs import lacking
from tests.servers import call

ROOT = Path(__file__).parents[2]
SERVE = [sys.executable, "-m", "seatd", "serve", "--demo", "--listen", "127.0.0.1:0"]
SERVE += ["--internal-listen", "127.0.0.1:0"]
LAST_LINE = "Ctrl-C ends it"


class Demo:
    """A demo that a person started, and what it printed."""

    def __init__(self, data):
        self.data = data
        self.process = subprocess.Popen(
            [*SERVE, "--data", str(data)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.out = self.process.stdout
        self.printed = ""
        while LAST_LINE not in self.printed:
            line = self.out.readline()
            assert line, self.printed
            self.printed += line

    def url(self, name):
        [url] = re.findall(rf"{name}\W+(http://\S+)", self.printed)
        return url

    def pasted(self, *words):
        """The printed lines that hold one of the words, with those that set what they need."""
        lines = self.printed.splitlines()
        return "\n".join(line for line in lines if line.startswith("export") or any(w in line for w in words))

    def ctrl_c(self):
        self.process.send_signal(signal.SIGINT)
        out, _ = self.process.communicate(timeout=30)
        return self.process.returncode, out

    def admin(self, path):
        key = (self.data / "admin.key").read_text().strip()
        return call("GET", self.url("administration") + path, key=key).body


@pytest.fixture
def demo(tmp_path):
    made = []

    def start():
        made.append(Demo(tmp_path / "var"))
        return made[-1]

    yield start
    for each in made:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()
        each.out.close()


def paste(lines, home):
    """Paste into a plain shell of a fresh account: no environment but the least."""
    return subprocess.run(
        ["sh", "-c", lines],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_printed_lines_work_at_both_starts_and_all_is_as_it_was(demo, tmp_path):
    first = demo()
    keys = tmp_path / "var" / "demo.keys"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    kept = keys.read_text()
    assert not any(line.split()[1] in first.printed for line in kept.splitlines()), "a key was printed"

    done = paste(first.pasted(" take ", " renew ", " free "), tmp_path)
    assert done.stderr == ""
    assert re.fullmatch(
        r"ana has a team seat of demo-team with social until .+\nana keeps the seat until .+\n"
        r"ana has given the seat back\.\n",
        done.stdout,
    )
    taken = paste(first.pasted(" take "), tmp_path)
    assert taken.returncode == 0
    [before] = first.admin("/v1/tenants/demo-team/leases")["items"]
    code, said = first.ctrl_c()
    assert code == 0
    assert "seatd has stopped" in said

    second = demo()
    assert keys.read_text() == kept
    [after] = second.admin("/v1/tenants/demo-team/leases")["items"]
    assert after == before
    assert [item["tenant"] for item in second.admin("/v1/tenants")["items"]] == ["demo-agent", "demo-team"]
    done = paste(second.pasted(" take ", " renew ", " free ", " who "), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^ben +c_", done.stdout, re.MULTILINE), "the seat was not held meanwhile"
    assert second.admin("/v1/tenants/demo-team/leases")["items"] == []
    assert second.ctrl_c()[0] == 0


def test_what_people_changed_in_a_demo_tenant_stays(demo):
    first = demo()
    key = (first.data / "admin.key").read_text().strip()
    url = first.url("administration")
    gone = call("DELETE", f"{url}/v1/tenants/demo-agent/bindings/agent/ana", key=key)
    named = call("PUT", f"{url}/v1/tenants/demo-agent/bindings/agent/dora", key=key)
    assert (gone.status, named.status) == (204, 201)
    first.ctrl_c()
    second = demo()
    named = second.admin("/v1/tenants/demo-agent/bindings/agent")["items"]
    assert sorted(item["user"] for item in named) == ["bob", "dora"]


def test_there_are_prices_and_the_curl_line_says_what_the_route_takes(demo):
    started = demo()
    assert [item["version"] for item in started.admin("/v1/billing/price-lists")["items"]] == ["2026-example"]
    [line] = [line for line in started.printed.splitlines() if line.startswith("curl")]
    [body] = map(json.loads, re.findall(r"--json '(.+)'", line))
    key = dict(line.split() for line in (started.data / "demo.keys").read_text().splitlines())["demo-team"]
    assert call("POST", line.split()[-1], key=key, body=body).status == 201


def test_ctrl_c_ends_it_under_make_and_make_is_content(tmp_path):
    make = shutil.which("make") or ""
    if not make:
        lacking("make is not installed (Debian: apt-get install make)")
    command = " ".join([*SERVE, "--data", str(tmp_path / "var")])
    (tmp_path / "Makefile").write_text(f"run:\n\t@exec {command}\n")
    pid, terminal = pty.fork()
    if pid == 0:
        # An interactive shell gives each command a group of its own in front; the pty's leader stands for it.
        os.chdir(ROOT)
        os.execv(make, [make, "-f", str(tmp_path / "Makefile"), "run"])
    seen = ""
    pressed = False
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            try:
                seen += os.read(terminal, 65536).decode()
            except OSError:  # the last one has left the terminal
                break
        if LAST_LINE in seen and not pressed:
            os.write(terminal, b"\x03")
            pressed = True
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0, seen
    assert "seatd has stopped" in seen
    assert "Interrupt" not in seen
    assert "Error" not in seen
