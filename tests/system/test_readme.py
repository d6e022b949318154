"""What the README shows is what there is."""

import re
from pathlib import Path

import pytest

from seatd.app import Running
from seatd.cli import welcome
from seatd.cli.main import COMMANDS
from seatd.config import Settings

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md"]


def test_the_lines_to_paste_are_those_that_the_demo_prints(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.executable", str(ROOT / ".venv" / "bin" / "python"))
    served = Running("http://127.0.0.1:8470", "http://127.0.0.1:8471")
    readme = [line.strip() for line in (ROOT / "README.md").read_text().splitlines()]
    for line in welcome.lines(Settings(), served):
        if line and not line.startswith("#"):
            assert line in readme


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)", (ROOT / document).read_text()):
        assert target.startswith("https://") or (ROOT / document).parent.joinpath(target).exists(), target


def test_commands_that_are_named_exist():
    named = set(
        re.findall(r"(?:`|\$ |^ {4})seatd ([a-z]+)\b", (ROOT / "README.md").read_text(), re.MULTILINE)
    )
    assert {"tenant", "billing", "serve"} <= named <= COMMANDS.keys(), named - COMMANDS.keys()


def test_modules_that_the_architecture_names_exist():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    table = text.partition("## The modules")[2].partition("## Decisions")[0]
    for name in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE):
        for path in re.findall(r"`([^`]+)`", name):
            assert (ROOT / "seatd" / path).exists() or (ROOT / path).exists(), path


def test_the_sdk_of_the_readme_runs_as_printed():
    text = (ROOT / "README.md").read_text()
    [code] = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
    assert len(code.splitlines()) <= 10
    compile(code, "README.md", "exec")
