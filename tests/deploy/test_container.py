"""The image: what its file promises, and every step of it that can be run without an image to start from."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser
from packaging.requirements import Requirement

from seatd.config import parse_address
from tests.deploy.files import CONTAINERFILE, DEPLOY, ROOT, run
from tests.servers import SeatdProcess

SCRIPT = DEPLOY / "pinned.py"


@cache
def parsed() -> DockerfileParser:
    return DockerfileParser(fileobj=CONTAINERFILE.open("rb"))


def steps(instruction: str) -> list[str]:
    """The values of one instruction, in order, in every stage."""
    return [step["value"] for step in parsed().structure if step["instruction"] == instruction]


def last(instruction: str) -> str:
    return steps(instruction)[-1]


@cache
def environ() -> dict[str, str]:
    """What the last stage sets."""
    return dict(re.findall(r"(\w+)=(\S+)", last("ENV")))


# -- what it promises -------------------------------------------------------------------------------


def test_it_starts_from_a_slim_debian_and_leaves_the_builder_behind():
    assert steps("ARG") == ["PYTHON=docker.io/library/python:3.11-slim-bookworm"]
    assert steps("FROM") == [
        "${PYTHON} AS build",
        "${PYTHON}",
    ]  # the one base: the environment is moved whole
    final = parsed().structure[[step["instruction"] for step in parsed().structure].index("USER") - 5 :]
    assert not any("pip" in step["value"] for step in final if step["instruction"] == "RUN")
    assert [copy for copy in steps("COPY") if copy.startswith("--from=build")] == [
        "--from=build /opt/seatd /opt/seatd"
    ]


def test_it_runs_as_nobody_in_particular():
    user, group = last("USER").split(":")
    assert int(user) >= 1000 <= int(group)
    assert last("STOPSIGNAL") == "SIGTERM"
    order = [step["instruction"] for step in parsed().structure]
    assert order.index("USER") > max(place for place, name in enumerate(order) if name in {"RUN", "COPY"})


def test_its_state_is_in_one_private_volume():
    assert last("VOLUME") == environ()["SEATD_DATA"] == last("WORKDIR") == "/var/lib/seatd"
    assert "install -d -o seatd -g seatd -m 0700 /var/lib/seatd" in last("RUN")


def test_it_exposes_where_it_listens():
    ports = [parse_address(environ()[name], name).port for name in ("SEATD_LISTEN", "SEATD_INTERNAL_LISTEN")]
    assert last("EXPOSE").split() == [str(port) for port in ports]


def test_what_it_starts_and_sets_exists():
    command = [*json.loads(last("ENTRYPOINT")), *json.loads(last("CMD"))]
    assert command == ["seatd", "serve"]
    shown = run(sys.executable, "-m", *command, "--help").stdout
    variables = {name for name in environ() if name.startswith("SEATD_")}
    assert variables
    assert all(name in shown for name in variables)


def test_what_it_copies_exists_and_is_all_that_is_sent():
    copied = [copy.split()[:-1] for copy in steps("COPY") if not copy.startswith("--from")]
    sources = {source for sources in copied for source in sources}
    assert all((ROOT / source).exists() for source in sources)
    ignored = Path(f"{CONTAINERFILE}.dockerignore").read_text().split()
    assert ignored[0] == "*"  # var/ holds keys: what is not named is not sent
    assert {line[1:] for line in ignored if line.startswith("!")} == sources


def test_everything_it_installs_is_pinned_and_hashed_and_no_index_is_named():
    installs = re.findall(r"-m pip (?:install|wheel) ([^&]*)", " && ".join(steps("RUN")))
    assert len(installs) == 4
    for options in installs:
        assert "--no-deps" in options
        assert "--no-index" in options or {"--require-hashes", "--only-binary", "-r"} <= {*options.split()}
    for path in DEPLOY.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            text = path.read_text()
            assert not re.search(
                r"--(extra-)?index-url|--find-links|PIP_|\bhttps?://(?!127\.0\.0\.1)", text
            ), path


# -- its steps, run ---------------------------------------------------------------------------------


def pins(*roots: str) -> str:
    printed = run(sys.executable, str(SCRIPT), *roots, cwd=ROOT)
    assert printed.returncode == 0, printed.stderr
    return printed.stdout


def names(text: str) -> set[str]:
    """The packages of a requirements file that this machine would install."""
    wanted = [Requirement(line.rstrip(" \\")) for line in text.splitlines() if line and line[0] not in " #"]
    return {need.name for need in wanted if need.marker is None or need.marker.evaluate()}


def installed_closure(requirements: list[str]) -> set[str]:
    """What requirements need, as the packages that are installed here say themselves."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        need = waiting.pop()
        extras = ["", *need.extras]
        if need.marker and not any(need.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        name = re.sub(r"[-_.]+", "-", need.name).lower()
        known = name in found
        found.add(name)
        if known and not need.extras:
            continue
        for text in importlib.metadata.requires(name) or []:
            inner = Requirement(text)
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                inner.marker = None
                waiting.append(inner)
    return found


@pytest.mark.parametrize("roots", [[], ["hatchling"]], ids=["what runs", "what builds"])
def test_the_pins_are_all_that_is_needed_and_little_more(roots: list[str]):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = installed_closure(roots or project["dependencies"])
    printed = names(pins(*roots))
    assert needed <= printed
    # An extra that only something else asks for may come along; tools for tests may not.
    assert not printed & {"pytest", "mypy", "ruff", "hypothesis", "build", "setuptools"}
    assert len(printed - needed) <= 3


def test_pip_takes_the_pins(tmp_path: Path):
    """All of it is installed here, so that pip checks the file and need not fetch anything."""
    (tmp_path / "run.txt").write_text(pins())
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--dry-run"]
    command += ["--no-index", "--only-binary", ":all:", "--require-hashes", "--no-deps"]
    taken = run(*command, "-r", str(tmp_path / "run.txt"))
    assert taken.returncode == 0, taken.stderr
    assert "Would install" not in taken.stdout


def test_what_is_not_pinned_is_refused():
    refused = run(sys.executable, str(SCRIPT), "seatd-that-is-not-there", cwd=ROOT)
    assert refused.returncode != 0
    assert refused.stdout == ""


def test_the_wheel_is_whole_and_starts(tmp_path: Path):
    """The image has the wheel and nothing else: the scripts and the migrations must be in it."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    wheel = [
        "wheel",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT),
    ]
    built = run(*pip, *wheel)
    assert built.returncode == 0, built.stderr
    (path,) = tmp_path.glob("seatd-*.whl")
    inside = {name for name in zipfile.ZipFile(path).namelist() if name.startswith("seatd/")}
    tracked = subprocess.run(
        ["git", "ls-files", "seatd"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert {*tracked} <= inside
    put = ["install", "--no-index", "--no-deps", "--target", str(tmp_path / "site"), str(path)]
    assert run(*pip, *put).returncode == 0
    code = "import seatd.cli.main as m; print(m.__file__); m.main(['serve', '--help'])"
    started = run(sys.executable, "-c", code, env={"PYTHONPATH": str(tmp_path / "site")}, cwd=tmp_path)
    assert started.stdout.startswith(str(tmp_path)), started.stderr
    assert "--internal-listen" in started.stdout


def test_the_health_check_sees_a_server_and_its_absence(seatd: SeatdProcess):
    (program, flag, code) = json.loads(last("HEALTHCHECK").partition("CMD")[2])
    assert (program, flag) == ("python", "-c")
    listening = parse_address(environ()["SEATD_INTERNAL_LISTEN"], "").port
    assert f"127.0.0.1:{listening}/healthz" in code
    port = seatd.internal_url.rpartition(":")[2]
    assert run(sys.executable, flag, code.replace(str(listening), port)).returncode == 0
    assert run(sys.executable, flag, code.replace(str(listening), "1")).returncode != 0
