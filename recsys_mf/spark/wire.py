"""Wire: Arrow Flight between the driver and the workers of a job. Requests without the token of the job are refused.

An action has a name, and takes and returns plain values. Rows of a table are sent as one column of factors and one of
biases.
"""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import flight

from recsys_mf import errors
from recsys_mf.arrays.aligned import ensure_aligned
from recsys_mf.errors import RecsysError

Facts = dict[str, Any]
_HEADER = "authorization"


class Rows(NamedTuple):
    """Factors float32[n, width] on cache lines, and biases float32[n], of users or of items; width may be 0."""

    factors: NDArray[np.float32]
    bias: NDArray[np.float32]

    @classmethod
    def of_table(cls, table: NDArray[np.float32]) -> Rows:
        """From rows (factors, bias) [n, width + 1]."""
        return cls(np.ascontiguousarray(table[:, :-1]), np.ascontiguousarray(table[:, -1]))

    def to_table(self) -> NDArray[np.float32]:
        """Rows (factors, bias) [n, width + 1]."""
        return np.column_stack([self.factors, self.bias])

    @classmethod
    def of_bytes(cls, table: NDArray[Any]) -> Rows:
        """From rows of numbers of four or eight bytes; their bytes are sent as factors."""
        return cls(np.ascontiguousarray(table).view(np.float32), np.zeros(len(table), np.float32))

    def to_bytes(self, dtype: Any) -> NDArray[Any]:
        """The rows that `of_bytes` took."""
        return self.factors.view(dtype)

    def to_arrow(self) -> pa.Table:
        """As two columns, or one without factors, without a copy."""
        width, bias = self.factors.shape[1], pa.array(self.bias)
        if not width:
            return pa.table([bias], names=["bias"])
        factors = pa.FixedSizeListArray.from_arrays(pa.array(self.factors.reshape(-1)), width)
        return pa.table([factors, bias], names=["factors", "bias"])

    @classmethod
    def from_arrow(cls, table: pa.Table) -> Rows:
        """From its columns; copies that can be written to."""
        *found, bias = (column.combine_chunks() for column in table.columns)
        if not found:
            return cls(np.empty((len(bias), 0), np.float32), np.array(bias.to_numpy(zero_copy_only=False)))
        (factors,) = found
        flat = factors.flatten().to_numpy(zero_copy_only=False).reshape(len(bias), factors.type.list_size)
        return cls(ensure_aligned(np.array(flat)), np.array(bias.to_numpy(zero_copy_only=False)))


class Mailbox:
    """Rows that have arrived, by their key, until they are taken."""

    def __init__(self) -> None:
        self._rows: dict[str, Rows] = {}
        self._come = threading.Condition()

    def put(self, key: str, rows: Rows) -> None:
        """Add rows that have arrived."""
        with self._come:
            self._rows[key] = rows
            self._come.notify_all()

    def take(self, key: str, go_on: Callable[[], bool]) -> Rows:
        """The rows of a key, once they have arrived. Raises ConnectionError if they have not when `go_on` is false."""
        with self._come:
            while key not in self._rows:
                if not go_on():
                    raise ConnectionError("rows of another worker did not come")
                self._come.wait(1.0)
            return self._rows.pop(key)


class Endpoint(flight.FlightServerBase):  # type: ignore[misc]
    """A server that runs actions, receives rows and sends rows, for callers with the token.

    act : (name, facts) -> facts; give : key -> rows
    """

    def __init__(
        self, host: str, token: str, mailbox: Mailbox, act: Callable[[str, Facts], Facts], give: Callable[[str], Rows]
    ) -> None:
        super().__init__(f"grpc://{_bracketed(host)}:0", middleware={"token": _Guard(token)})
        self._mailbox, self._act, self._give = mailbox, act, give

    def do_action(self, context: Any, action: Any) -> Any:
        """Run an action; an error is returned as plain values."""
        try:
            found: Facts = {"found": self._act(action.type, json.loads(action.body.to_pybytes()))}
        except Exception as error:
            found = {"error": str(error), "kind": type(error).__name__}
        yield flight.Result(pa.py_buffer(json.dumps(found).encode()))

    def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        """Receive rows."""
        self._mailbox.put(descriptor.path[0].decode(), Rows.from_arrow(reader.read_all()))

    def do_get(self, context: Any, ticket: Any) -> Any:
        """Send rows."""
        return flight.RecordBatchStream(self._give(ticket.ticket.decode()).to_arrow())


class Peer:
    """A client of an endpoint. Its methods raise ConnectionError if the endpoint, or another one that it needs, is
    gone, and the errors of this package that an action raises there.
    """

    def __init__(self, address: str, token: str) -> None:
        self.address = address
        self._client = flight.FlightClient(f"grpc://{address}")
        self._token = (_HEADER.encode(), _bearer(token).encode())

    def call(self, name: str, facts: Facts, timeout: float | None = None) -> Facts:
        """Run an action."""
        with _gone(self.address):
            results = self._client.do_action(flight.Action(name, json.dumps(facts).encode()), self._options(timeout))
            found = json.loads(next(iter(results)).body.to_pybytes())
        if "error" in found:
            raise _as_error(found["kind"], f"worker {self.address}: {found['error']}")
        answer: Facts = found["found"]
        return answer

    def send(self, key: str, rows: Rows) -> None:
        """Put rows into its mailbox."""
        with _gone(self.address):
            table = rows.to_arrow()
            descriptor = flight.FlightDescriptor.for_path(key)
            writer, _ = self._client.do_put(descriptor, table.schema, self._options())
            with writer:
                writer.write_table(table)

    def fetch(self, key: str) -> Rows:
        """The rows that the endpoint has for a key."""
        with _gone(self.address):
            return Rows.from_arrow(self._client.do_get(flight.Ticket(key), self._options()).read_all())

    def _options(self, timeout: float | None = None) -> Any:
        return flight.FlightCallOptions(timeout=timeout, headers=[self._token])


class _Guard(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    """Refuses calls without the token."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._expected = _bearer(token)

    def start_call(self, info: Any, headers: Any) -> None:
        """Raise FlightUnauthenticatedError without the token."""
        given = (headers.get(_HEADER) or [""])[0]
        given = given.decode() if isinstance(given, bytes) else given
        if not hmac.compare_digest(given.encode(), self._expected.encode()):
            raise flight.FlightUnauthenticatedError("the token of this job is missing")


class _gone:  # noqa: N801 (reads as a statement)
    """Inside, errors of the transport become a ConnectionError."""

    def __init__(self, address: str) -> None:
        self._address = address

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, flight.FlightError | pa.ArrowException | OSError):
            raise ConnectionError(f"worker {self._address}: {str(error).splitlines()[0]}") from error


def _as_error(kind: str, text: str) -> Exception:
    """An error that was raised on a worker, with its message."""
    here = getattr(errors, kind, None)
    if isinstance(here, type) and issubclass(here, RecsysError):
        return here(text)
    return ConnectionError(text) if kind == "ConnectionError" else RuntimeError(f"{kind}: {text}")


def _bearer(token: str) -> str:
    return f"Bearer {token}"


def _bracketed(host: str) -> str:
    """A host as it is written in an address."""
    return f"[{host}]" if ":" in host else host
