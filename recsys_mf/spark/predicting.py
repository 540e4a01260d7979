"""Predicting: a run's predictions and lists, computed by tasks of Spark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from recsys_mf.arguments import instance, whole
from recsys_mf.errors import ConfigError, DataError
from recsys_mf.loaders.source import recognise
from recsys_mf.run import KNOWN, Run
from recsys_mf.spark.reading import quiet

if TYPE_CHECKING:
    import pyarrow as pa

_ADDED = ("prediction", "known")


class _Columns:
    """The names of a DataFrame's columns, as a source in which the columns of ids are recognised (`loaders.source`)."""

    where = "DataFrame"
    typed = True
    read: Any = None
    place: Any = None

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names


def predict(run: Run, pairs: Any, *, user_column: str | None = None, item_column: str | None = None) -> Any:
    """The DataFrame of pairs with two more columns: `prediction` (float, in rating units), and `known`, which says
    which ids the model knows (both, user, item, neither).

    run : as `train` or `load` returns it
    pairs : a DataFrame of Spark with a column of user ids and one of item ids, of the types of the training table
    user_column, item_column : their names, if they are not recognised
    Raises ConfigError if pairs is not a DataFrame of Spark, DataError if it lacks these columns or already has columns
    of the new names; a task raises DataError for ids of another type.
    """
    from pyspark.sql.types import FloatType, StringType, StructField, StructType

    instance(run, "run", Run, "give what train returned, or load(directory)")
    if not hasattr(pairs, "mapInArrow"):
        raise ConfigError("not a table of Spark", where="pairs", seen=type(pairs).__name__, fix="give a DataFrame")
    columns = recognise(_Columns(tuple(pairs.columns)), {"user": user_column, "item": item_column}, rated=False)
    for name in _ADDED:
        if name in pairs.columns:
            fix = "rename it, or leave it out"
            raise DataError("the table has a column of this name already", where="pairs", seen=name, fix=fix)
    shared = pairs.sparkSession.sparkContext.broadcast(_light(run))
    users, items = columns.user, columns.item

    def predicted(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        from recsys_mf.prediction import predict as predict_indices

        one = shared.value
        for batch in batches:
            at, to, known = one.indices(batch.column(users), batch.column(items))
            values = pa.array(predict_indices(one.model, at, to).values)
            words = pa.DictionaryArray.from_arrays(pa.array(known), pa.array(KNOWN)).cast(pa.string())
            yield pa.RecordBatch.from_arrays([*batch.columns, values, words], [*batch.schema.names, *_ADDED])

    more = [StructField(_ADDED[0], FloatType()), StructField(_ADDED[1], StringType())]
    with quiet():
        return pairs.mapInArrow(predicted, StructType([*pairs.schema.fields, *more]))


def recommend(run: Run, n: int = 10, *, session: Any = None, exclude: Any = "rated") -> Any:
    """The n best items of every user of the run: a DataFrame with user_id, rank, item_id and score, as `Run.recommend`.

    session : of Spark; None for the active one; exclude : "rated" or "none"
    Raises ConfigError if there is no session, and for an n that is not a whole number of at least 1.
    """
    from recsys_mf.spark.session import found

    instance(run, "run", Run, "give what train returned, or load(directory)")
    n = whole(n, "n", 1)
    standing = session or found()
    if standing is None:
        fix = "make one: SparkSession.builder.getOrCreate()"
        raise ConfigError("there is no session of Spark", where="session", fix=fix)
    _options(n, exclude)
    shared = standing.sparkContext.broadcast(replace(run, baselines={}, report=None))
    kinds = ["long" if v.is_integer else "string" for v in (run.user_vocabulary, run.item_vocabulary)]

    def listed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import numpy as np
        import pyarrow as pa

        from recsys_mf.serving.recommending import Recommender

        recommender = Recommender(shared.value, _options(n, exclude))
        for batch in batches:
            users = np.asarray(batch.column(0)).astype(np.int32)
            for _, lists in recommender.batches(users):
                columns = [c.cast(pa.string()) if pa.types.is_large_string(c.type) else c for c in lists.columns]
                yield pa.RecordBatch.from_arrays(columns, lists.schema.names)

    schema = f"user_id {kinds[0]}, rank int, item_id {kinds[1]}, score float"
    with quiet():
        return standing.range(len(run.user_vocabulary)).mapInArrow(listed, schema)


def _options(n: int, exclude: Any) -> Any:
    from recsys_mf.serving.recommending import ListOptions

    return ListOptions(n=n, exclude=exclude, threads=1)


def _light(run: Run) -> Run:
    """The run with only what predictions need."""
    return replace(run, baselines={}, report=None, rated=None)
