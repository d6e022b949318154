"""A tenant of each tariff to try seatd with; what exists already stays as it is.

The client keys lie in a private file, so that a second start shows lines that work too.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from seatd.accounts.records import TenantFields
from seatd.accounts.tokens import make as make_key
from seatd.flows.services import Services
from seatd.model import AGENT_PRODUCT, SERVICE_PRODUCT, Refusal, Scope, Tariff

TEAM: Final = "demo-team"
AGENT: Final = "demo-agent"
ACTOR: Final = "demo"


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


def keys_text() -> str:
    """Make the text of a new key file: a line a tenant, its id and its client key."""
    return "\n".join(f"{tenant} {make_key(Scope.CLIENT, tenant)}" for tenant in TENANTS)


def read_keys(path: Path) -> dict[str, str]:
    """Read the key file: tenant -> client key."""
    return dict(line.split() for line in path.read_text().splitlines() if line.strip())


async def prepare(services: Services, keys: dict[str, str]) -> None:
    """Make the demo tenants that are missing, and let the keys open them.

    Raises `Refusal` where SQL is away.
    """
    accounts = services.accounts
    for tenant, demo in TENANTS.items():
        if not await _exists(services, tenant):
            fields: TenantFields = {"name": demo.name, "tariff": demo.tariff, "seats": demo.seats}
            await accounts.put_tenant(tenant, fields, actor=ACTOR)
        for product, user in demo.named:
            await accounts.bind(tenant, product, user, actor=ACTOR)
        await accounts.install_key(keys[tenant], actor=ACTOR)
        await services.project(tenant)


async def _exists(services: Services, tenant: str) -> bool:
    try:
        await services.accounts.tenant(tenant)
    except Refusal as refusal:
        if refusal.code != "not_found":
            raise
        return False
    return True
