"""Store: a run as a directory of safetensors, Parquet and JSON files; nothing in it can run code.

    run.json                settings, history, provenance, and the parts with their sizes and digests; its last field is
                            a digest of all text before it
    model.safetensors       the arrays of the model, by the names they have in its class
    baselines.safetensors   the same for every baseline, under "label/name"
    users.parquet, items.parquet   id and number of training ratings; the row number is the dense index
    rated.parquet           optional: the training ratings, a row per user
    report.json             optional: the report that was printed

docs/run-directory.md describes the format. The directory is written under another name and renamed, so it is complete
or absent, and a reader sees either the old run or the new one. A loaded run predicts the same bits. At an address
(`storage`), run.json is sent last: without it there is no run.
"""

from recsys_mf.store.layout import FORMAT, VERSION
from recsys_mf.store.loading import is_run, load, load_provenance
from recsys_mf.store.saving import check_free, save

__all__ = ["FORMAT", "VERSION", "check_free", "is_run", "load", "load_provenance", "save"]
