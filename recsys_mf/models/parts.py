"""Parts: groups of arrays that a model may have, under names of their own among its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from numpy.typing import NDArray

from recsys_mf.models.schema import Schema


class Part:
    """A dataclass whose fields are arrays of a model.

    schema : its arrays by their names in the model, in the order of the fields: the prefix and the name of the field
    """

    schema: ClassVar[Schema]
    prefix: ClassVar[str]

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self | None:
        """From the `arrays()` of another among those of a model; None if there are none."""
        found = [arrays[name] for name in cls.schema if name in arrays]
        return cls(*found) if len(found) == len(cls.schema) else None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name."""
        return {name: getattr(self, name.removeprefix(self.prefix)) for name in self.schema}
