"""``repair``: shows what can be repaired of a damaged store, and with ``--yes`` repairs it."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from margin_stream.cli.error_output import failure, report
from margin_stream.cli.errors import CORRUPT, DONE
from margin_stream.cli.output import OnStore, print_json, print_note


def repair(
    *,
    yes: Annotated[bool, Parameter(negative="", help="Do it; without this option it is only shown.")] = False,
    common: OnStore = OnStore(),  # noqa: B008 (frozen)
) -> int:
    """Show what is wrong with a store and what can be repaired without loss of inputs; with --yes, repair it.

    Offered are only: to cut a torn tail behind the durable mark, to fold the tables again, to write a high-water file
    again whose content is proven. A copy of all that changes is kept in the store's folder `repaired`. Whatever else is
    damaged is refused (exit 4), and then nothing is changed.

    Try:
      margin-stream repair
      margin-stream repair --yes
      margin-stream repair --store ./s --json
    """
    import msgspec

    from margin_stream.replay.repair import Repair, findings_of

    with Repair(common.path) as work:
        plan = work.plan()
        row = {
            "findings": msgspec.to_builtins(plan.findings),
            "refused": len(plan.refused),
            "repaired": False,
            "copies": None,
            "verified": None,
        }
        if not common.json:
            for line in findings_of(plan):
                print(line)
        done = yes and bool(plan.findings) and not plan.refused
        problems = []
        if done:
            verified = work.carry_out(plan)
            problems = verified.problems
            row |= {"repaired": True, "copies": plan.copies, "verified": verified.ok}
    if common.json:
        print_json(row)
    for problem in problems:
        text = f"{problem.file}: {problem.what}: still damaged after the repair"
        report(failure("damage_found", text, store=common.store, file=problem.file), as_json=common.json)
    if plan.refused:
        counts = f"{len(plan.refused)} of {len(plan.findings)}"
        text = f"{common.store}: {counts} findings cannot be repaired here: nothing was changed"
        report(failure("repair_refused", text, store=common.store), as_json=common.json)
    elif not plan.findings:
        print_note(common, "nothing to repair")
    elif done:
        print_note(common, f"repaired; what was changed is kept in {common.path / plan.copies}")
    else:
        print_note(common, "nothing was changed; --yes does it")
    return CORRUPT if plan.refused or problems else DONE
