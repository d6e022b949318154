"""What a test needs and this machine may lack: skipped at home with the reason, failed where `CI` is set."""

import os
import shutil

import pytest

PACKAGES = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "systemd-analyze": "systemd",
}
"""The Debian package that brings each program."""


def needs(program: str) -> str:
    """Find the program and return its path; a test without it cannot say anything."""
    found = shutil.which(program)
    if found is None:
        lacking(f"{program} is not installed (Debian: apt-get install {PACKAGES[program]})")
        raise AssertionError  # not reached: the call above has ended the test
    return found


def lacking(reason: str) -> None:
    """End the test: it cannot run here, for this reason."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; CI must have what the tests need", pytrace=False)
    pytest.skip(reason)
