"""Read the account mapping of the DATEV booking batch from TOML; nothing else is known here.

consultant = 29098            # Beraternummer
client = 55003                # Mandantennummer
chart = "03"                  # Sachkontenrahmen: "03", "04", or left out
account_length = 4            # digits of revenue accounts; debtors have one more
fiscal_year_month = 1         # the month in which the fiscal year begins
final = false                 # Festschreibung
debtor = "10000"              # all customers who have none of their own; left out: each must
[rates]                       # VAT percent, as the price list writes it without trailing zeros
19 = { account = "8400" }     # tax_key = "3" where the account is not an automatic one
[products]                    # goes before the rate
support = { account = "8410" }
[debtors]                     # by customer
acme = "10001"
"""

import tomllib
from decimal import Decimal, InvalidOperation
from typing import Annotated

import msgspec
from msgspec import Meta

from seatd.billing.amounts import plain
from seatd.billing.datev import Accounts, Revenue

_Account = Annotated[str, Meta(pattern=r"^[1-9][0-9]{2,8}\Z")]


class _Revenue(msgspec.Struct, forbid_unknown_fields=True):
    account: _Account
    tax_key: Annotated[str, Meta(pattern=r"^[0-9]{0,4}\Z")] = ""


class _Mapping(msgspec.Struct, forbid_unknown_fields=True):
    consultant: Annotated[int, Meta(ge=1001, le=9_999_999)]
    client: Annotated[int, Meta(ge=1, le=99_999)]
    rates: dict[str, _Revenue] = {}
    products: dict[str, _Revenue] = {}
    debtors: dict[str, _Account] = {}
    debtor: _Account | None = None
    chart: Annotated[str, Meta(pattern=r"^([0-9]{2})?\Z")] = ""
    account_length: Annotated[int, Meta(ge=4, le=8)] = 4
    fiscal_year_month: Annotated[int, Meta(ge=1, le=12)] = 1
    final: bool = False


class AccountsError(ValueError):
    """An account mapping is wrong; the message says where and why."""


def parse_accounts(text: str) -> Accounts:
    """Read an account mapping; raises `AccountsError`."""
    try:
        read = msgspec.convert(tomllib.loads(text), _Mapping)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise AccountsError(str(error)) from None
    _check_lengths(read)
    return Accounts(
        consultant=read.consultant,
        client=read.client,
        rates={_rate(rate): Revenue(each.account, each.tax_key) for rate, each in read.rates.items()},
        products={product: Revenue(each.account, each.tax_key) for product, each in read.products.items()},
        debtors=read.debtors,
        debtor=read.debtor or "",
        chart=read.chart,
        account_length=read.account_length,
        fiscal_year_month=read.fiscal_year_month,
        final=read.final,
    )


def _rate(text: str) -> str:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise AccountsError(f"rates: {text!r} is no percentage") from None
    if not value.is_finite() or not 0 <= value <= 100:
        raise AccountsError(f"rates: {text!r} is no percentage")
    return plain(value)


def _check_lengths(read: _Mapping) -> None:
    # DATEV tells debtors from other accounts by their one digit more.
    for each in (*read.rates.values(), *read.products.values()):
        if len(each.account) > read.account_length:
            raise AccountsError(
                f"account {each.account} has more than account_length = {read.account_length} digits"
            )
    for debtor in (*read.debtors.values(), *([read.debtor] if read.debtor else [])):
        if len(debtor) != read.account_length + 1:
            raise AccountsError(f"debtor {debtor} must have {read.account_length + 1} digits")
