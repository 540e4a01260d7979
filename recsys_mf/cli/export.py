"""`recsys-mf export`: the factors of a run as files for other programs."""

from __future__ import annotations

import click

from recsys_mf.cli import options
from recsys_mf.cli.places import OUTPUT, PLACE
from recsys_mf.cli.replacing import WritingCommand
from recsys_mf.errors import printable
from recsys_mf.storage import Place


@click.command(cls=WritingCommand)
@click.argument("run", type=PLACE)
@click.option("--output", "-o", required=True, type=OUTPUT, help="Directory to write to.")
@click.option("--format", "kind", type=click.Choice(["parquet", "npz", "faiss"]), default="parquet",
              show_default=True, help="Tables of ids and vectors; NumPy arrays; or the tables and a flat index of the "
              "items for faiss.")  # fmt: skip
@click.option("--rank", type=int, metavar="K", help="Rank at which a sampled model (gibbs) is exported.  "
              "[default: 64, or the number of users or items if that is lower]")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the export in the output directory.")
@options.quiet_option
def export(run: Place, output: Place, kind: str, rank: int | None, force: bool, quiet: bool) -> None:
    """Write the factors of the model in the directory RUN for databases, vector indices and NumPy.

    The biases are folded in as two more columns, so the inner product of the vectors of a user and an item is the
    predicted rating before it is clipped. A sampled model is first reduced to one factorisation; the
    command prints how well this ranks items as the model does. The file export.json describes the vectors.
    """
    from recsys_mf import exporting, store
    from recsys_mf.cli.progress import announce_compilation

    exporting.check_export(output, kind, force=force)
    announce_compilation(quiet=quiet)
    facts = exporting.export(store.load(run), output, format=kind, rank=rank, force=force)
    counts = f"{facts['users']:,} users and {facts['items']:,} items, {facts['dimensions']} columns each"
    options.say(f"{printable(output)}: {counts}")
    options.say(f"inner product: {facts['score']}")
    if facts["agreement"] is not None:
        options.say(_describe(facts["agreement"]))


def _describe(agreement: dict[str, float | None]) -> str:
    """How well the exported ranking agrees with that of the model, in a line."""
    spearman, overlap = agreement["spearman"], agreement["overlap"]
    found = "cannot be measured" if spearman is None else f"{spearman:.4f}"
    return (
        f"ranking compared with the model's, mean over {agreement['users']} users: Spearman correlation {found}, "
        f"{overlap:.1%} of the top {agreement['top']} the same"
    )
