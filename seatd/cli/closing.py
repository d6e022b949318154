"""`seatd billing close` and `seatd billing verify`: end a month for good; prove one, without server or database."""

import sys
from pathlib import Path
from typing import Final

import click

from seatd.billing.archive import LEASES, is_archive, verify_archive
from seatd.billing.parquet import NoParquetError
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


@click.command(epilog="\b\nExample:\n  seatd billing archive 2025-03")
@click.argument("month", metavar="YYYY-MM")
@speaks_api
def archive(month: str, api: Api, out: Output) -> None:
    """Archive a closed month: its leases leave the database for Parquet files under DATA/archive, and stay verifiable.

    What was billed, and the evidence of it, stays as it is; nothing of the month can be corrected afterwards.  Months are archived in
    order.  `seatd serve --keep-usage-months N` does it by itself.
    """
    api.timeout_s = CLOSE_TIMEOUT_S
    with out.busy(f"{month} is being archived"):
        answer = api.call("POST", path("billing", month, "archive"))
    body = answer.body
    done = "is archived" if answer.status == 201 else "was archived before"
    said = f"{body['period']} {done}: {body['files'][LEASES]['rows']} leases in {body['folder']}."
    out.answer(body, lambda: out.say(said))


@click.command(
    epilog="\b\nExamples:\n  seatd billing verify acme.2026-03.tar.gz\n  seatd billing verify var/archive/2025-03"
)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--kid", default="", help="The key that must have signed, as `seatd billing close` told it.")
def verify(bundle: Path, kid: str) -> None:
    """Verify an evidence bundle, packed or unpacked, or an archived month; needs no server.

    Every line is reckoned again, every digest, the chain and the signature are held against the files.  Exit status 1, and a
    line for each file that is wrong.
    """
    try:
        if is_archive(bundle):
            found, signed = verify_archive(bundle, kid)
            about = f"{signed.get('files', {}).get(LEASES, {}).get('rows')} leases"
        else:
            found, files = verify_bundle(bundle, kid)
            signed = {} if found else signed_of(files)
            about = f"price list {signed.get('price_list')}"
    except NoParquetError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        click.echo(f"Error: {bundle}: cannot be read: {error.strerror}", err=True)
        sys.exit(_EXIT_BAD_INPUT)
    for each in found:
        click.echo(each)
    if found:
        sys.exit(_EXIT_WRONG)
    click.echo(f"{bundle}: {signed['period']}, {about}: all of it holds.")
