"""The command as a whole: help, start-up, settings, the database without a server."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

import seatd as package
from seatd.cli.main import COMMANDS, main
from seatd.cli.output import instant, instant_ms
from seatd.cli.settings import masked
from seatd.config import Address, parse_sentinel_url
from tests.cli.conftest import call, run
from tests.servers import SeatdProcess


def leaves(command: click.Command, name: str) -> list[tuple[str, click.Command]]:
    """Every command below one, with its whole name."""
    if not isinstance(command, click.Group):
        return [(name, command)]
    context = click.Context(command)
    found = []
    for child in command.list_commands(context):
        sub = command.get_command(context, child)
        assert sub is not None
        found += leaves(sub, f"{name} {child}")
    return found


def test_every_command_says_what_it_does_and_shows_an_example() -> None:
    for name, command in leaves(main, "seatd"):
        text = command.get_help(click.Context(command, info_name=name))
        assert command.help, name
        assert "Example" in text, name
        assert f"  {name}" in text or f"Example: {name}" in text or f" {name}" in text, name


def test_the_short_help_is_the_commands_own() -> None:
    context = click.Context(main)
    for name, said in COMMANDS.items():
        command = main.get_command(context, name)
        assert command is not None
        assert said.partition(" ")[2] == command.get_short_help_str(200) + (
            "." if not command.get_short_help_str(200).endswith(".") else ""
        ), name


def test_help_and_version() -> None:
    for flag in ("-h", "--help"):
        shown = run(flag)
        assert shown.status == 0
        assert all(f"  {name} " in shown.out for name in COMMANDS)
    assert run("--version").out == f"seatd, version {package.__version__}\n"
    assert run("nonsense").status == 2
    assert run("tenant", "add").status == 2


@pytest.mark.parametrize(
    "arguments", [["--help"], ["who", "--help"], ["serve", "--help"], ["billing", "rate", "--help"]]
)
def test_help_loads_no_server(arguments: list[str]) -> None:
    script = (
        "import sys\nsys.argv[1:] = " + repr(arguments) + "\nfrom seatd.cli.main import main\n"
        "main(standalone_mode=False)\n"
        "print(sorted({'aiohttp', 'sqlalchemy', 'redis', 'alembic', 'rich', 'uvloop'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_config_shows_what_serve_would_take_without_passwords() -> None:
    shown = run(
        "config",
        "--json",
        SEATD_STORE="redis://:hunter2@store:6379",
        SEATD_DATABASE="postgresql://seatd:hunter2@db/seatd?sslpassword=hunter2",
        SEATD_DATA="/srv/seatd",
        SEATD_LISTEN="[::1]:80",
        SEATD_WORKERS="1",
        SEATD_DEMO="1",
        SEATD_SECRET_FILE="/run/secret",
        SEATD_LOG_LEVEL="debug",
    )
    body = json.loads(shown.out)
    assert "hunter2" not in shown.out
    assert body == body | {
        "data": "/srv/seatd",
        "listen": "[::1]:80",
        "store": "redis://:***@store:6379",
        "database": "postgresql://seatd:***@db/seatd?sslpassword=***",
        "secret_file": "/run/secret",
        "demo": True,
        "log_level": "debug",
    }
    assert "sqlite" in run("config").out


@pytest.mark.parametrize(
    "url",
    [
        "redis://:pw-x@h:1/0",
        "redis://u:pw-x@h",
        "unix://:pw-x@/run/s.sock",
        "unix:///run/s.sock?password=pw-x&db=1",
        "redis://u:a@pw-x@h",
        "redis://u:a?pw-x@h",
        "redis://u:a/pw-x@h",
        "postgresql://u@/d?host=/run&password=pw-x",
        "redis+sentinel://u:pw-x@h1:1,h2:2/seats/0?sentinel_password=pw-x&ssl=true",
    ],
)
def test_no_password_is_shown(url: str) -> None:
    assert "pw-x" not in masked(url)
    assert masked(url).startswith(url.partition("://")[0] + "://")


def test_a_url_without_a_password_is_shown_as_it_is() -> None:
    for url in (
        "sqlite:////var/lib/seatd/seatd.db",
        "unix:///run/v.sock?db=2",
        "postgresql://u@/d?host=/run/pg",
        "",
    ):
        assert masked(url) == url


@pytest.mark.parametrize(
    "flags",
    [
        ["--workers", "65"],
        ["--workers", "0"],
        ["--listen", "8470"],
        ["--listen", "h:99999"],
        ["--internal-listen", ":1"],
        ["--store", "memcached://:hunter2@x"],
        ["--store", "redis+sentinel://:hunter2@h1:26379"],
        ["--store", "redis+sentinel://u:1/hunter2@h1/seats"],
        ["--store", "redis+sentinel://u:1/hunter2@h1"],
        ["--store", "redis+sentinel://:hunter2@h1:port/seats"],
        ["--store", "redis+sentinel://h1/seats?hunter2=1"],
        ["--store", "redis+sentinel://h1/seats?ssl=hunter2"],
        ["--q-ms", "4000", "--store", "redis+sentinel://h1/seats"],
        ["--q-ms", "3999", "--w-ms", "0", "--store", "redis+sentinel://h1/seats"],
        ["--q-ms", "500", "--w-ms", "501"],
        ["--keep-usage-months", "3", "--forget-users-after-days", "400"],
        ["--database", "mysql://u:hunter2@x/y"],
        ["--log-level", "loud"],
    ],
)
def test_a_wrong_setting_is_a_sentence_and_status_2(flags: list[str], tmp_path: Path) -> None:
    for command in ("serve", "config"):
        refused = call(command, "--data", str(tmp_path / "d"), *flags)
        assert (refused.status, refused.out) == (2, "")
        assert flags[0] in refused.err.splitlines()[-1]
        assert "hunter2" not in refused.err
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("flags", "q_ms", "w_ms"),
    [
        ([], 500, 0),
        (["--w-ms", "900"], 900, 900),
        (["--store", "redis+sentinel://h1,h2/seats"], 11_000, 11_000),
        (["--store", "redis+sentinel://h1/seats", "--w-ms", "3000"], 4_000, 3_000),
        (["--store", "redis+sentinel://h1/seats", "--w-ms", "3000", "--delta-ms", "100"], 3_000, 3_000),
        (["--store", "redis+sentinel://h1/seats", "--q-ms", "20000"], 20_000, 11_000),
    ],
)
def test_waits_that_were_not_set_suit_the_store(flags: list[str], q_ms: int, w_ms: int) -> None:
    shown = json.loads(call("config", "--json", *flags).out)
    assert (shown["q_ms"], shown["w_ms"]) == (q_ms, w_ms)


def test_a_sentinel_url_says_who_watches_what_and_how_both_are_spoken_to() -> None:
    read = parse_sentinel_url(
        "redis+sentinel://u%40x:p%2Fw@h1:1,[::1],h3/sea-ts.1/2?ssl=true&ssl_check_hostname=no"
    )
    assert read.sentinels == (Address("h1", 1), Address("::1", 26_379), Address("h3", 26_379))
    assert (read.service, read.db, read.username, read.password) == ("sea-ts.1", 2, "u@x", "p/w")
    assert read.asks("ssl")
    assert not read.asks("ssl_check_hostname", default=True)
    assert not read.asks("sentinel_ssl")
    assert "p/w" not in repr(read)


def test_a_second_seatd_is_kept_out(seatd: SeatdProcess) -> None:
    refused = run(
        "serve", "--data", str(seatd.data), "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"
    )
    assert refused.status == 2
    assert "Another seatd" in refused.err.splitlines()[-1]


def test_the_database_without_a_server(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "d"))
    none = call("database", "current", *data)
    assert (none.status, none.err.count("\n")) == (1, 1)
    made = call("database", "upgrade", *data)
    assert made.status == 0
    assert call("database", "current", *data).out == f"{made.out.strip()} (the newest)\n"
    assert call("database", "upgrade", *data).out == made.out
    wrong = call("database", "upgrade", "--database", "mysql://u:hunter2@h/d")
    assert (wrong.status, "hunter2" in wrong.err) == (2, False)
    away = call("database", "current", "--database", f"postgresql://u:hunter2@/d?host={tmp_path}")
    assert (away.status, away.err.count("\n"), "hunter2" in away.err) == (1, 1, False)


def test_instants_are_local_with_their_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    import time  # noqa: PLC0415

    try:
        monkeypatch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        assert instant(1_774_746_000_000) == "2026-03-29 03:00:00+02:00"
        assert instant(1_774_745_999_999) == "2026-03-29 01:59:59+01:00"
        assert instant_ms("2026-03-29T03:00") == instant_ms("2026-03-29T01:00:00Z") == 1_774_746_000_000
        assert instant_ms("1774746000000") == 1_774_746_000_000
    finally:
        monkeypatch.undo()
        time.tzset()
    with pytest.raises(click.BadParameter):
        instant_ms("yesterday")
