"""A tenant of each tariff to try seatd with, and prices for them; what exists already stays as it is.

The client keys lie in a private file, so that a second start shows lines that work too.
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from seatd import folder
from seatd.accounts.records import TenantFields
from seatd.accounts.tokens import make as make_key
from seatd.flows.price_lists import PriceLists
from seatd.flows.services import Services
from seatd.model import AGENT_PRODUCT, SERVICE_PRODUCT, Refusal, Scope, Tariff

TEAM: Final = "demo-team"
AGENT: Final = "demo-agent"
ACTOR: Final = "demo"
KEYS: Final = "demo.keys"
"""The file of the client keys in the data folder: a line a tenant, its id and its key."""


@dataclass(frozen=True, slots=True)
class DemoTenant:
    """What is booked and who is named in a demo tenant that is made new."""

    name: str
    tariff: Tariff
    seats: int
    named: tuple[tuple[str, str], ...]


TENANTS: Final = {
    TEAM: DemoTenant(
        "Demo call centre (Team)", Tariff.TEAM, 3, (("social", "ana"), (SERVICE_PRODUCT, "vendor"))
    ),
    AGENT: DemoTenant(
        "Demo back office (Agent)", Tariff.AGENT, 2, ((AGENT_PRODUCT, "ana"), (AGENT_PRODUCT, "bob"))
    ),
}


async def prepare(services: Services, price_lists: PriceLists, path: Path) -> None:
    """Make the demo tenants that are missing, and let the keys in the file at `path` open them.

    Where there is no price list at all, the example becomes one.  Raises `Refusal` where SQL is away, `SettingError`
    where the file can be neither read nor made.
    """
    keys = dict(line.split() for line in folder.write_once(path, _keys_text).splitlines())
    if not await price_lists.listed():
        await price_lists.add(_example(), actor=ACTOR)
    for tenant, demo in TENANTS.items():
        if not await _exists(services, tenant):
            await _make(services, tenant, demo)
        if tenant in keys:
            await services.accounts.install_key(keys[tenant], actor=ACTOR)
        await services.project(tenant)


async def _make(services: Services, tenant: str, demo: DemoTenant) -> None:
    fields: TenantFields = {"name": demo.name, "tariff": demo.tariff, "seats": demo.seats}
    await services.accounts.put_tenant(tenant, fields, actor=ACTOR)
    for product, user in demo.named:
        await services.accounts.bind(tenant, product, user, actor=ACTOR)


async def _exists(services: Services, tenant: str) -> bool:
    try:
        await services.accounts.tenant(tenant)
    except Refusal as refusal:
        if refusal.code != "not_found":
            raise
        return False
    return True


def _keys_text() -> str:
    return "\n".join(f"{tenant} {make_key(Scope.CLIENT, tenant)}" for tenant in TENANTS)


def _example() -> str:
    return (files("seatd.catalogue") / "example.toml").read_text()
