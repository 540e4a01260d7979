"""Mismatch: a table whose pairs are nearly all unknown to a model, and how its ids differ from the known ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recsys_mf.conversion.origin import format_value
from recsys_mf.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

_SHARE = 0.9  # of pairs with an unknown id, above which the ids are probably written differently
_SAMPLE = 1000  # unknown ids that are examined
_EXPLAINED = 0.5  # share of them that a change of spelling must turn into known ids


@dataclass
class _Side:
    role: str
    known: Vocabulary
    unknown: int = 0  # pairs
    samples: list[pa.Array] = field(default_factory=list)  # of unknown ids

    def add(self, indices: NDArray[np.int32], ids_at: Callable[[NDArray[np.int64]], pa.Array]) -> None:
        rows = np.flatnonzero(indices < 0)
        self.unknown += len(rows)
        wanted = _SAMPLE - sum(map(len, self.samples))
        if len(rows) and wanted > 0:
            self.samples.append(ids_at(rows[:wanted]).drop_null())

    def sample(self) -> pa.Array:
        """Distinct unknown ids as text; None if they are integers, which have only one spelling."""
        import pyarrow as pa

        texts = [sample for sample in self.samples if not pa.types.is_integer(sample.type)]
        return pa.concat_arrays([text.cast(pa.large_string()) for text in texts]).unique() if texts else None


class UnknownIds:
    """Counts the pairs with ids that a model does not know, table by table or batch by batch, and explains them."""

    def __init__(self, users: Vocabulary, items: Vocabulary) -> None:
        self._sides = _Side("user", users), _Side("item", items)
        self._pairs = self._unknown = 0

    def add(
        self,
        users: NDArray[np.int32],
        items: NDArray[np.int32],
        user_ids_at: Callable[[NDArray[np.int64]], pa.Array],
        item_ids_at: Callable[[NDArray[np.int64]], pa.Array],
    ) -> None:
        """Count pairs.

        users, items : int32[n] dense indices of the model, -1 for unknown
        user_ids_at, item_ids_at : the ids of the pairs in some rows, null if they are no longer known
        """
        self._pairs += len(users)
        self._unknown += int(((users < 0) | (items < 0)).sum())
        for side, indices, ids_at in zip(self._sides, (users, items), (user_ids_at, item_ids_at), strict=True):
            side.add(indices, ids_at)

    def message(self, table: str, pairs: str = "pairs") -> str | None:
        """The warning that over 90 % of the pairs are unknown, with the difference; else None.

        table, pairs : their names in the message: "the test table", "test pairs"
        """
        if self._unknown <= _SHARE * self._pairs:
            return None
        users, items = self._sides
        facts = (
            f"{self._unknown:,} of {self._pairs:,} {pairs} have an id that training did not see "
            f"({users.unknown:,} users, {items.unknown:,} items unknown), so their predictions are fallbacks; "
        )
        for side in self._sides:
            way = _difference(side)
            if way is not None:
                return facts + f"the {side.role} ids differ only in {way}: write them as in training"
        side = max(self._sides, key=lambda side: side.unknown)
        examples = f"training has {side.role} ids like {format_value(side.known.entries[0])}"
        here = next((sample[0] for sample in side.samples if len(sample)), None)
        if here is not None:
            examples = f"{table} has {side.role} id {format_value(here)}, {examples}"
        return facts + f"{examples}: check that both write ids in the same way"


def _difference(side: _Side) -> str | None:
    """How most of the unknown ids differ from known ones, with an example of each; None if no way is found."""
    import pyarrow as pa
    import pyarrow.compute as pc

    sample = side.sample()
    if sample is None or not len(sample) or not len(side.known):
        return None
    known = side.known.entries.cast(pa.large_string())
    for name, plain in _ways().items():
        found = pc.index_in(plain(sample), value_set=plain(known))
        matched = found.is_valid().to_numpy(zero_copy_only=False)
        if matched.mean() > _EXPLAINED:
            row = int(matched.argmax())
            return f"{name} ({format_value(sample[row])} here, {format_value(known[found[row].as_py()])} in training)"
    return None


def _ways() -> dict[str, Callable[[Any], Any]]:
    """Ways to spell one id differently, each with the function that makes both spellings equal."""
    import pyarrow.compute as pc

    def replacing(pattern: str, by: str) -> Callable[[Any], Any]:
        return lambda texts: pc.replace_substring_regex(texts, pattern, by)

    ways: dict[str, Callable[[Any], Any]] = {
        "spaces around them": pc.utf8_trim_whitespace,
        "quotes around them": lambda texts: pc.utf8_trim(texts, characters="\"'`“”‘’"),
        "upper and lower case": pc.utf8_lower,
        "hyphens and braces": replacing("[-{}]", ""),
        "leading zeros": replacing("^0+(.)", r"\1"),
        "a decimal part of zeros": replacing(r"^(-?[0-9]+)\.0*$", r"\1"),
    }
    steps = tuple(ways.values())

    def all_of_them(texts: Any) -> Any:
        for step in steps:
            texts = step(texts)
        return texts

    return ways | {"spaces, quotes, case, zeros or hyphens": all_of_them}
