"""The claims of the paper's text, as data that numbers can support or contradict.

`resources/claims.yaml` states each claim with a typed check; the claim's `need` says how many of
its instances must hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeAlias

import yaml
from pydantic import Field, ValidationError

from ..config.base import Model
from ..errors import UserError
from .claim_checks import (
    Best,
    Better,
    Manual,
    NotMuchWorse,
    Order,
    Peak,
    Quotation,
    Reduction,
    Reductions,
)
from .claim_sweeps import Sweep, SweepPair
from .evidence import Evidence, Instance

Need: TypeAlias = Literal["all", "any", "mixed"] | float


Check: TypeAlias = Annotated[
    Better
    | Best
    | Reduction
    | Quotation
    | Reductions
    | Order
    | NotMuchWorse
    | Sweep
    | SweepPair
    | Peak
    | Manual,
    Field(discriminator="type"),
]


class Claim(Model):
    """One sentence of the paper that numbers can support or contradict."""

    id: str
    section: str
    claim: str = Field(description="What is claimed, in our words.")
    quote: str = Field(description="The paper's words.")
    need: Need = Field(
        "all",
        description="How many instances must hold: all, any, mixed (some do and some do not), or "
        "more than this share.",
    )
    check: Check
    note: str | None = None


class Outcome(NamedTuple):
    """How a claim fares."""

    holds: bool | None
    detail: str
    instances: list[Instance]


def read_claims(path: Path) -> list[Claim]:
    """The claims; a mistake in the file is a `UserError` that names the claim."""
    claims = []
    for number, raw in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")), start=1):
        try:
            claims.append(Claim.model_validate(raw))
        except ValidationError as error:
            name = raw.get("id", f"number {number}") if isinstance(raw, dict) else f"{number}"
            raise UserError(f"{path}: claim {name}: {error}") from error
    repeated = {c.id for c in claims if sum(c.id == other.id for other in claims) > 1}
    if repeated:
        raise UserError(f"{path}: ids used twice: {', '.join(sorted(repeated))}")
    return claims


def judge(claim: Claim, evidence: Evidence) -> Outcome:
    """Evaluate one claim."""
    instances = claim.check.instances(evidence)
    holds = decide([instance.holds for instance in instances], claim.need)
    return Outcome(holds, _detail(instances, claim.need), instances)


def decide(holds: Sequence[bool | None], need: Need) -> bool | None:
    """Do enough instances hold? None where those not computed could turn the answer."""
    true, unknown = sum(h is True for h in holds), sum(h is None for h in holds)

    def enough(count: int) -> bool:
        if need == "all":
            return count == len(holds)
        if need == "mixed":
            return 0 < count < len(holds)
        return count > 0 if need == "any" else count / len(holds) > float(need)

    possible = {enough(true + count) for count in range(unknown + 1)} if holds else set()
    return possible.pop() if len(possible) == 1 else None


def _detail(instances: Sequence[Instance], need: Need) -> str:
    """By how much: a few comparisons in full; of many, how many hold and the one furthest off."""
    computed = [instance for instance in instances if instance.holds is not None]
    if not computed:
        reasons = dict.fromkeys(instance.text for instance in instances)
        return "not computed: " + "; ".join(reasons)
    if len(instances) == 1:
        return instances[0].text
    if len(instances) <= 3:
        return "; ".join(f"{instance.label}: {instance.text}" for instance in instances)
    parts = [f"{sum(bool(i.holds) for i in computed)} of {len(computed)} hold"]
    failing = [instance for instance in computed if not instance.holds]
    if failing and need not in ("any", "mixed"):
        worst = min(failing, key=lambda instance: instance.margin or 0.0)
        parts.append(f"furthest off: {worst.label} ({worst.text})")
    if len(computed) < len(instances):
        first = next(instance for instance in instances if instance.holds is None)
        missing = len(instances) - len(computed)
        parts.append(f"{missing} not computed ({first.label}: {first.text})")
    return "; ".join(parts)
