"""Read a price list from TOML, strictly: every error says where and why.

Unknown keys are errors, decimals are strings, and what may be left out has its default here.  Nothing
is priced here, and no file is opened: the caller has the text.
"""

import re
import tomllib
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, NoReturn, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from seatd.catalogue.pricelist import (
    Metric,
    Price,
    PriceList,
    PriceListError,
    Product,
    ProductScope,
    Tier,
    Tiering,
)
from seatd.catalogue.toml_lines import line_of
from seatd.model import SERVICE_PRODUCT, Tariff, is_id

_DECIMAL: Final = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,12})?\Z")
_CURRENCY: Final = re.compile(r"[A-Z]{3}\Z")
_TEXT_MAX: Final = 200
_LIST_KEYS: Final = ("version", "valid_from", "currency", "timezone", "vat", "products")
_PRODUCT_KEYS: Final = (
    "name",
    "tariff",
    "scope",
    "metric",
    "unit_price",
    "tiering",
    "tiers",
    "vat",
    "charged",
)
_TIER_KEYS: Final = ("up_to", "unit_price")

_Choice = TypeVar("_Choice", bound=StrEnum)
_Path = tuple[str, ...]


class _Charged(StrEnum):
    CHARGED_TIME = "charged_time"
    ALWAYS = "always"


def parse_price_list(text: str, *, source: str = "price list") -> PriceList:
    """Read and check the TOML of a price list; `source` names it in errors.

    Raises `PriceListError` with source, line, dotted key and reason at the first thing that is wrong.
    """
    return _Reader(text, source).price_list()


class _Reader:
    """One reading of one price list; holds the text so that errors can name a line."""

    def __init__(self, text: str, source: str) -> None:
        self._text, self._source = text, source

    def price_list(self) -> PriceList:
        root = self._load()
        self._known(root, (), _LIST_KEYS)
        vat = self._vat(root)
        return PriceList(
            version=self._word(root, (), "version"),
            valid_from=self._date(root),
            currency=self._currency(root),
            timezone=self._timezone(root),
            vat=vat,
            products={key: self._product(key, root, vat) for key in self._table(root, (), "products")},
        )

    def _fail(self, path: _Path, reason: str) -> NoReturn:
        line = line_of(self._text, path)
        raise PriceListError(reason, source=self._source, line=line, place=".".join(path))

    def _load(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self._text)
        except (ValueError, RecursionError) as error:
            found = re.search(r"at line ([0-9]+)", str(error))
            line = int(found[1]) if found else self._text.count("\n") + 1
            raise PriceListError(f"not TOML: {error}", source=self._source, line=line) from error

    def _known(self, table: Mapping[str, Any], path: _Path, keys: tuple[str, ...]) -> None:
        for key in table:
            if key not in keys:
                self._fail((*path, key), "unknown key")

    def _table(self, table: Mapping[str, Any], path: _Path, key: str) -> dict[str, Any]:
        value = table.get(key)
        if not isinstance(value, dict):
            self._fail((*path, key), "must be a table" if key in table else "is missing")
        return value

    def _word(self, table: Mapping[str, Any], path: _Path, key: str) -> str:
        value = table.get(key)
        if not isinstance(value, str):
            self._fail((*path, key), "must be a string" if key in table else "is missing")
        if not value.strip() or len(value) > _TEXT_MAX or not value.isprintable():
            self._fail((*path, key), f"must be 1 to {_TEXT_MAX} printable characters")
        return value

    def _date(self, root: Mapping[str, Any]) -> date:
        value = root.get("valid_from")
        if not isinstance(value, date) or isinstance(value, datetime):
            reason = "must be a date without quotes or time, such as 2026-01-01"
            self._fail(("valid_from",), reason if "valid_from" in root else "is missing")
        return value

    def _currency(self, root: Mapping[str, Any]) -> str:
        value = self._word(root, (), "currency")
        if not _CURRENCY.match(value):
            self._fail(("currency",), "must be three capital letters, such as EUR")
        return value

    def _timezone(self, root: Mapping[str, Any]) -> str:
        value = self._word(root, (), "timezone")
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self._fail(("timezone",), f"{value!r} is not an IANA time zone")
        return value

    def _vat(self, root: Mapping[str, Any]) -> dict[str, Price]:
        rates = {}
        for name in self._table(root, (), "vat"):
            rate = self._price(root["vat"], ("vat",), name)
            if not 0 <= rate.value <= 100:
                self._fail(("vat", name), "must be from 0 to 100 percent")
            rates[name] = rate
        return rates

    def _price(self, table: Mapping[str, Any], path: _Path, key: str) -> Price:
        value = table.get(key)
        if not isinstance(value, str):
            self._fail((*path, key), "must be a decimal in quotes" if key in table else "is missing")
        if not _DECIMAL.match(value):
            self._fail((*path, key), f"{value!r} is not a decimal of at most 12 digits and 12 decimals")
        return Price(value, Decimal(value))

    def _choice(self, table: Mapping[str, Any], path: _Path, key: str, default: _Choice) -> _Choice:
        kind = type(default)
        if key not in table:
            return default
        return self._one_of(table, path, key, kind)

    def _one_of(self, table: Mapping[str, Any], path: _Path, key: str, kind: type[_Choice]) -> _Choice:
        value = table[key]
        if not isinstance(value, str) or value not in list(kind):
            self._fail((*path, key), "must be one of " + ", ".join(kind))
        return kind(value)

    def _product(self, key: str, root: Mapping[str, Any], vat: Mapping[str, Price]) -> Product:
        path = ("products", key)
        table = self._table(root["products"], ("products",), key)
        if not is_id(key):
            self._fail(path, "is not a product id: 1 to 128 of A-Z a-z 0-9 . _ @ : + -")
        if key == SERVICE_PRODUCT:
            self._fail(path, "cannot be sold: a binding to it marks a service user, who costs nothing")
        self._known(table, path, _PRODUCT_KEYS)
        tariff = self._tariff(key, table, path)
        scope = self._choice(table, path, "scope", ProductScope.NAMED)
        tiering, tiers = self._pricing(table, path)
        vat_name = self._word(table, path, "vat") if "vat" in table else "standard"
        if vat_name not in vat:
            self._fail((*path, "vat"), f"{vat_name!r} is not a rate of [vat]")
        return Product(
            id=key,
            name=self._word(table, path, "name"),
            tariff=tariff,
            scope=scope,
            metric=self._choice(table, path, "metric", _default_metric(tariff, scope)),
            tiering=tiering,
            tiers=tiers,
            vat=vat_name,
            vat_rate=vat[vat_name],
            always=self._choice(table, path, "charged", _Charged.CHARGED_TIME) is _Charged.ALWAYS,
        )

    def _tariff(self, key: str, table: Mapping[str, Any], path: _Path) -> Tariff | None:
        # The products `team` and `agent` are the tariffs' seats, said or not; no other may say so.
        own = Tariff(key) if key in list(Tariff) else None
        if "tariff" not in table:
            return own
        said = self._one_of(table, path, "tariff", Tariff)
        if said is not own:
            self._fail(
                (*path, "tariff"), f"only the product {said.product!r} may have the tariff {said.value!r}"
            )
        return said

    def _pricing(self, table: Mapping[str, Any], path: _Path) -> tuple[Tiering | None, tuple[Tier, ...]]:
        if "unit_price" in table:
            for key in ("tiering", "tiers"):
                if key in table:
                    self._fail((*path, key), "stands beside unit_price: one of them")
            return None, (Tier(None, self._price(table, path, "unit_price")),)
        for key in ("tiering", "tiers"):
            if key not in table:
                both_missing = "tiering" not in table and "tiers" not in table
                self._fail((*path, "unit_price" if both_missing else key), "is missing")
        return self._one_of(table, path, "tiering", Tiering), self._tiers(table["tiers"], (*path, "tiers"))

    def _tiers(self, value: object, path: _Path) -> tuple[Tier, ...]:
        if not isinstance(value, list) or not value or not all(isinstance(each, dict) for each in value):
            self._fail(path, "must be a list of tables, at least one")
        tiers: list[Tier] = []
        for number, table in enumerate(value, start=1):
            here = (*path, str(number))
            self._known(table, here, _TIER_KEYS)
            self._bound(table, here, last=number == len(value))
            up_to = self._price(table, here, "up_to").value if "up_to" in table else None
            below = tiers[-1].up_to if tiers else Decimal(0)
            if up_to is not None and below is not None and up_to <= below:
                self._fail((*here, "up_to"), f"must rise: {up_to} is not above {below}")
            tiers.append(Tier(up_to, self._price(table, here, "unit_price")))
        return tuple(tiers)

    def _bound(self, table: Mapping[str, Any], path: _Path, *, last: bool) -> None:
        if last and "up_to" in table:
            self._fail((*path, "up_to"), "must not stand in the last tier, which has no end")
        if not last and "up_to" not in table:
            self._fail((*path, "up_to"), "is missing: only the last tier has no end")


def _default_metric(tariff: Tariff | None, scope: ProductScope) -> Metric:
    if tariff is Tariff.TEAM:
        return Metric.BOOKED_PEAK
    if tariff is None and scope is ProductScope.TENANT:
        return Metric.FLAT
    return Metric.DISTINCT_NAMED
