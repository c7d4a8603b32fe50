"""What a projection is: the topics it reads, the rows that each record makes, and where they go."""

from collections.abc import Callable, Iterable
from datetime import datetime

from msgspec import Struct

from projections.record import Record
from runtime.settings import ProjectionSettings
from schemas.topics import Topic


class Row(Struct, frozen=True):
    """A row of a table: its fields are the parameters of the table's insert, in order.

    Every row has a time, and the place of the record that it was made of.
    """

    at: datetime
    topic: str
    partition: int
    offset: int


class Table(Struct, frozen=True, kw_only=True):
    """A table of PostgreSQL. `insert` names a file in `sql/`; `monthly` tables have one partition for each month."""

    name: str
    row: type[Row]
    insert: str
    monthly: bool = False


class Projection(Struct, frozen=True, kw_only=True):
    """Rows made of records, one record at a time, without looking at anything else.

    The same record makes the same rows each time, and a row that is there already is not written again: so records may
    come twice. `rows` raises one of `UNREADABLE` for a record that is not what its topic carries.

    `wait_ms`: how long records may wait at the broker for others to come with them. A fetch for each record would take
    the processor from the workers. aiokafka has one fetch per broker in flight: that of a projection which `is_prompt`
    returns with the first record, and what arrives on another partition meanwhile waits so long at most.
    """

    name: str
    topics: tuple[Topic, ...]
    rows: Callable[[Record], Iterable[Row]]
    wait_ms: int = 200
    is_prompt: bool = False


class TableProjection(Projection, frozen=True, kw_only=True):
    """A projection into tables. `retain` names the file in `sql/` that removes what is older than `keep_days`."""

    tables: tuple[Table, ...]
    retain: str
    keep_days: Callable[[ProjectionSettings], float]
