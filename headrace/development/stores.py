"""Where the stack's projections write: Valkey and PostgreSQL of its own, or those that the settings name."""

from pydantic import SecretStr

from headrace.development.progress import Steps
from headrace.development.together import together
from headrace.stack.child import Child
from headrace.stack.postgres import Postgres
from headrace.stack.valkey import Valkey
from runtime.settings import Settings


class Stores:
    """`start` them; after that `redis` and `postgres` are their URLs. `children` are the stack's own ones."""

    def __init__(self, settings: Settings, steps: Steps) -> None:
        self._data_dir = settings.data_dir
        self._steps = steps
        self.redis = settings.redis
        self.postgres = settings.postgres
        self.children: list[Child] = []

    async def start(self) -> None:
        """Return when both answer and the database is what this version needs.

        Raises:
            StackError: one does not start.
            ProjectionError: the database does not let us in, or cannot be migrated.
        """
        await together(self._start_redis(), self._start_postgres())

    async def _start_redis(self) -> None:
        self._steps.begin("valkey")
        if self.redis is not None:
            self._steps.tell("valkey", "ready", "none started: the settings name a Redis")
            return
        valkey = Valkey(self._data_dir, on_restart=self._steps.restarting)
        self.children.append(valkey)
        await valkey.start()
        self.redis = SecretStr(valkey.url)
        self._steps.tell("valkey", "ready", valkey.address)

    async def _start_postgres(self) -> None:
        from projections.migrations import migrate

        self._steps.begin("postgres")
        where = "none started: the settings name one"
        if self.postgres is None:
            postgres = Postgres(self._data_dir, on_restart=self._steps.restarting)
            self.children.append(postgres)
            await postgres.start()
            self.postgres = SecretStr(postgres.url)
            where = postgres.address
        applied = await migrate(self.postgres.get_secret_value())
        self._steps.tell("postgres", "ready", f"{where}, {len(applied)} migrations applied" if applied else where)
