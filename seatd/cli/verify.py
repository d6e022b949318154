"""`seatd verify`: whether this deployment keeps its promises, tried on a tenant of its own.

Decides how a run is named, bounded and told; what is tried and judged is `seatd.selftest`'s business, which needs the SDK.
Exit status 0: all promises kept; 1: one was broken; 2: it could not be tested, or not all of it.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from seatd.cli.client import Api, ApiError, SettingFault, path, read_key
from seatd.cli.output import Output

PUBLIC = "http://127.0.0.1:8470"
INTERNAL_PORT = 8471


class NotTested(click.ClickException):
    """Nothing was judged; exit status 2."""

    exit_code = 2


@click.command(
    epilog="""\b
Examples:
  seatd verify                                      the server on this machine, 20 seconds
  seatd verify --url https://seats.example.com --internal-url http://10.0.0.5:8471 --key-file admin.key
  seatd verify --clients 100 --seats 40 --seconds 120
  seatd verify --json | jq .result
It makes a tenant verify-... on trial, so that nothing is charged, and ends it on the way out, Ctrl-C included.
Exit status: 0 all promises kept, 1 one was broken, 2 not or not wholly tested.
""",
)
@click.option("--url", default=PUBLIC, show_default=True, help="Public listener, as clients reach it.")
@click.option(
    "--internal-url",
    envvar="SEATD_URL",
    show_envvar=True,
    help=f"Internal listener (default: port {INTERNAL_PORT} of the same host).",
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    envvar="SEATD_KEY_FILE",
    show_envvar=True,
    help="File of the admin key; else SEATD_ADMIN_KEY, else admin.key under SEATD_DATA or var.",
)
@click.option(
    "--seconds", type=click.FloatRange(5, 3600), default=20.0, show_default=True, help="For about so long."
)
@click.option("--clients", type=click.IntRange(2, 1000), default=12, show_default=True, help="At once.")
@click.option(
    "--seats", type=click.IntRange(1, 999), default=5, show_default=True, help="Fewer than clients."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def verify(
    *,
    url: str,
    internal_url: str | None,
    key_file: Path | None,
    seconds: float,
    clients: int,
    seats: int,
    as_json: bool,
) -> None:
    """Try whether this deployment keeps its promises, on a throwaway tenant."""
    if clients <= seats:
        raise click.UsageError("--clients must be more than --seats, or no seat is ever fought for.")
    if find_spec("seatd_client") is None:
        raise SettingFault("The self-test needs the SDK: python -m pip install 'seatd[verify]'.")
    out = Output(as_json=as_json)
    api = Api(internal_url or _internal(url), read_key(key_file))
    _look_at(url, api, out)
    report = _tried(url, api, out, seconds=seconds, clients=clients, seats=seats)
    out.answer(report, lambda: _draw(out, report))
    sys.exit({"kept": 0, "broken": 1}.get(report["result"], 2))


def _internal(url: str) -> str:
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{INTERNAL_PORT}"


def _look_at(url: str, api: Api, out: Output) -> None:
    """See that both listeners are there and which is which; raises `NotTested`."""
    try:
        about = (
            Api(url, "none").call("GET", "/v1").body
        )  # the admin key is none of the public listener's business
    except ApiError as error:
        why = f"{url} is no public listener." if error.status else error.message
        raise NotTested(f"{why} --url names the public one, --internal-url the other.") from None
    if not isinstance(about, dict) or "features" not in about:
        raise NotTested(f"{url} answers, and is no seatd.")
    try:
        api.call("GET", path("tenants"), limit=1)
        ready = api.call("GET", "/readyz").body
    except ApiError as error:
        raise NotTested(_why(error, api.url)) from None
    learning = ready.get("learning", [])
    if learning:
        most_s = max(row["for_ms"] for row in learning) // 1000
        out.note(
            f"The store was lost lately: {len(learning)} tenants learn for up to {most_s} s more. A new tenant does not."
        )


def _why(error: ApiError, url: str) -> str:
    if error.code == "unauthorized":
        return f"The key is none of {url}: name the admin key's file with --key-file, or set SEATD_ADMIN_KEY."
    if error.code == "forbidden":
        return "The key is no admin key: a tenant of its own is the admin key's to make."
    if error.status == 503:
        return f"{url} is not ready: its store or its policies are away. See {url}/readyz."
    if error.status:
        return f"{error.message} --internal-url names the internal listener."
    return f"{error.message.replace('--url or SEATD_URL', '--internal-url or SEATD_URL')}"


def _tried(url: str, api: Api, out: Output, *, seconds: float, clients: int, seats: int) -> dict[str, Any]:
    """Run the self-test on a tenant of its own; raises `NotTested`."""
    from seatd.selftest import run, tenant  # noqa: PLC0415 - needs the SDK, which seatd itself does not

    began_s = time.monotonic()
    name = tenant.new_name()
    # It cleans up as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))

    def say(sentence: str) -> None:
        out.note(f"{time.monotonic() - began_s:5.1f} s  {sentence}")

    try:
        with tenant.throwaway(_asked(api), name, seats=seats, lasts_ms=int(seconds * 1000)) as ours:
            say(f"Made the tenant {name}.")
            history, findings = asyncio.run(run.verify(url, ours, run.Plan(seconds, clients), say))
        say(f"Ended the tenant {name}: no tariff, suspended, its keys revoked.")
    except tenant.NotEndedError as error:
        left = f"seatd tenant change {name} --end-contract --suspend"
        raise NotTested(
            f"{error} Its trial ends it in {tenant.LEFT_ALONE_MS // 60_000} minutes; or: {left}"
        ) from None
    except ApiError as error:
        raise NotTested(error.message) from None
    except run.NotTestedError as error:
        raise NotTested(f"Not tested: {error}.") from None
    except KeyboardInterrupt:
        raise NotTested(f"Interrupted; the tenant {name} is ended.") from None
    took_ms = int((time.monotonic() - began_s) * 1000)
    return {
        "tenant": name,
        "url": url,
        "clients": clients,
        "took_ms": took_ms,
        **run.report(history, findings),
    }


def _asked(api: Api) -> Callable[..., Any]:
    def ask(method: str, route: str, body: Any = None, **query: Any) -> Any:
        return api.call(method, route, body, **query).body

    return ask


def _draw(out: Output, report: dict[str, Any]) -> None:
    rows = [(row["promise"], row["result"].replace("_", " "), row["seen"]) for row in report["checks"]]
    out.table(("promise", "result", "seen"), rows, empty="Nothing was checked.")
    for row in report["checks"]:
        for violation in row["first_violations"]:
            out.say(f"  {row['check']}: {violation}")
        if row["violations"] > len(row["first_violations"]):
            out.say(f"  {row['check']}: and {row['violations'] - len(row['first_violations'])} more")
    asked = report["requests"]
    out.say(
        f"{asked['ok']} requests granted, {asked['fail']} refused, {asked['unknown']} without a certain answer; "
        f"a renewal took {report['renewal_ms']['p50']:.1f} ms (p50), {report['renewal_ms']['p99']:.1f} ms (p99)."
    )
    out.say(
        {
            "kept": "All promises were kept.",
            "broken": "A PROMISE WAS BROKEN: keep this output, and the log of seatd.",
        }.get(report["result"], "Not all was put to the test: give it more --seconds or --clients.")
    )
