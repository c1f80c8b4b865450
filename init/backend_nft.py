"""nftables through `iptables-nft-restore`: one kernel batch for each family.

The batch is all or nothing, also when this process or the tool is killed: the text reaches the
tool whole, and what lacks its COMMIT line changes nothing.
"""

from __future__ import annotations

from init.backend import RedirectError, find_tool, run_tool, save_nat
from init.plan import Family, FamilyPlan
from init.restore import Standing, write_plan, write_removal


class NftBackend:
    """The kernel's nf_tables."""

    name = "nft"

    def read(self, family: Family) -> Standing:
        """What stands in the table `nat` of the family."""
        return save_nat(family, "nft")

    def apply(self, plan: FamilyPlan, standing: Standing) -> None:
        """Put the plan in with one batch."""
        _restore(plan.family, write_plan(plan, standing))

    def remove(self, family: Family, standing: Standing) -> None:
        """Take ours away with one batch."""
        if not standing.is_empty():
            _restore(family, write_removal(standing))


def kernel_answers() -> str:
    """Empty when nf_tables can be used, else why not. Raises MissingTool and NotAllowed."""
    find_tool("iptables-nft-restore")
    try:
        save_nat(Family.V4, "nft")
    except RedirectError as error:
        if type(error) is not RedirectError:
            raise
        return str(error)
    return ""


def _restore(family: Family, text: str) -> None:
    run_tool(f"{family.tools}-nft-restore", "--noflush", given=text)
