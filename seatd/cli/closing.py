"""`seatd billing close` and `seatd billing verify`: end a month for good; prove one, without server or database."""

import sys
from pathlib import Path
from typing import Final

import click

from seatd.billing.verification import verify as verify_bundle
from seatd.billing.verify_bundle import signed_of
from seatd.cli.client import Api, path, speaks_api
from seatd.cli.output import Output

CLOSE_TIMEOUT_S: Final = 3_600.0
_EXIT_WRONG: Final = 1
_EXIT_BAD_INPUT: Final = 2


@click.command(epilog="\b\nExample:\n  seatd billing close 2026-03")
@click.argument("month", metavar="YYYY-MM")
@click.option(
    "--accept-gap",
    metavar="REASON",
    help="Close although usage events were lost or their chain is broken; goes into the audit log.",
)
@speaks_api
def close(month: str, accept_gap: str | None, api: Api, out: Output) -> None:
    """Close a month: its files never change again; what becomes known later is corrected in the next month.

    Refused before the month is over and its last lease must have ended, and while usage of it is missing.
    """
    api.timeout_s = CLOSE_TIMEOUT_S
    asked = {} if accept_gap is None else {"accept_gap": accept_gap}
    with out.busy(f"{month} is being closed"):
        body = api.call("POST", path("billing", month, "close"), asked).body
    said = f"{body['period']} is closed: net {body['net']} {body['currency']}, {len(body['tenants'])} tenants; signed by {body['kid']}."
    out.answer(body, lambda: out.say(said))


@click.command(epilog="\b\nExample:\n  seatd billing verify acme.2026-03.tar.gz")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--kid", default="", help="The key that must have signed, as `seatd billing close` told it.")
def verify(bundle: Path, kid: str) -> None:
    """Verify an evidence bundle, packed or unpacked; needs no server.

    Every line is reckoned again, every digest, the chain and the signature are held against the files.  Exit status 1, and a
    line for each file that is wrong.
    """
    try:
        found, files = verify_bundle(bundle, kid)
    except OSError as error:
        click.echo(f"Error: {bundle}: cannot be read: {error.strerror}", err=True)
        sys.exit(_EXIT_BAD_INPUT)
    for each in found:
        click.echo(each)
    if found:
        sys.exit(_EXIT_WRONG)
    signed = signed_of(files)
    click.echo(f"{bundle}: {signed['period']}, price list {signed['price_list']}: all of it holds.")
