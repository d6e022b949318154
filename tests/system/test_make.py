"""What `make` says where the machine lacks something: one line, with what to do."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import lacking

ROOT = Path(__file__).parents[2]

WITHOUT_VENV = f"""#!/bin/sh
case "$2" in *ensurepip*) echo "No module named 'ensurepip'" >&2; exit 1;; esac
exec {sys.executable} "$@"
"""
OLD = f"""#!/bin/sh
exec {sys.executable} -c "import sys; sys.version_info = (3, 9, 2); sys.executable = '/usr/bin/python3'; exec(sys.argv[1])" "$2"
"""


@pytest.fixture
def setup(tmp_path):
    if shutil.which("make") is None:
        lacking("make is not installed (Debian: apt-get install make)")
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "client_sdk").mkdir()
    shutil.copy(ROOT / "client_sdk" / "pyproject.toml", tmp_path / "client_sdk")

    def run(python, text=None):
        if text is not None:
            python = tmp_path / python
            python.write_text(text)
            python.chmod(0o755)
        command = ["make", "setup", f"PYTHON={python}"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode != 0
        assert not (tmp_path / ".venv").exists()
        return done.stderr.splitlines()[0]

    return run


def test_a_python_without_venv_is_told_the_package(setup):
    said = setup("python-without-venv", WITHOUT_VENV)
    assert said.endswith("On Debian and Ubuntu: apt-get install python3-venv")


def test_an_old_python_is_told_what_is_needed(setup):
    said = setup("old-python", OLD)
    assert said.startswith("seatd needs Python 3.11 or newer; /usr/bin/python3 is 3.9.")


def test_no_python_is_told_the_packages(setup):
    assert setup("no-such-python").endswith("apt-get install python3 python3-venv")
