"""The page of a comparison: the verdict, the table, the pictures, and what is needed to repeat it."""

from __future__ import annotations

from recsys_mf.comparison.pictures import draw_differences, draw_front, draw_splits, name_settings
from recsys_mf.comparison.rendering import describe_setup, describe_table, describe_verdict, list_candidates
from recsys_mf.comparison.table import Comparison
from recsys_mf.drawing import Page, PageTable, Section, lay_out
from recsys_mf.training.provenance import describe_software


@lay_out.register
def lay_out_comparison(comparison: Comparison) -> Page:
    """The page of a comparison."""
    setup = comparison.setup
    data = "" if setup.data is None else f" on {setup.data}"
    worse = frozenset(index for index, row in enumerate(comparison.rows) if row.is_worse)
    pictures = draw_differences(comparison), draw_front(comparison), draw_splits(comparison)
    candidates = Section(
        "Candidates",
        paragraphs=tuple(describe_setup(setup).split("\n")),
        tables=(PageTable("Grey: worse than the best", list_candidates(comparison), 0, worse),),
        pictures=tuple(picture for picture in pictures if picture is not None),
        notes=(" ".join(describe_table(comparison).split()),),
    )
    seeds = {} if setup.seed is None else {"first seed": str(setup.seed), "seeds": str(setup.seeds)}
    record = {
        **({} if setup.fingerprint is None else {"ratings": f"fingerprint {setup.fingerprint}"}),
        "splits": "; ".join(dict.fromkeys(setup.splits)),
        **seeds,
        **{f"settings of {row.name}": name_settings(row) for row in comparison.rows},
        "software": describe_software(),
    }
    return Page(f"{len(comparison.rows)} candidates{data}", describe_verdict(comparison), (candidates,), (), record)
