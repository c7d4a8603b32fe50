"""The stack's own Kafka, kept alive."""

from pathlib import Path

from headrace.development.progress import Steps
from headrace.stack.errors import KafkaStartError
from headrace.stack.kafka import EmbeddedKafka

# A broker that dies so soon after its start would do so again.
QUICK_DEATH_S = 10.0
NAME = "kafka"


class Kafka:
    """Tells its steps: `start`, then `keep` until it is given up, and `stop`."""

    def __init__(self, data_dir: Path, steps: Steps) -> None:
        self._steps = steps
        self._server = EmbeddedKafka(data_dir, progress=lambda message: steps.tell(NAME, "starting", message))

    @property
    def bootstrap(self) -> str:
        return self._server.bootstrap

    async def start(self) -> None:
        """Raises `StackError`."""
        self._steps.begin(NAME)
        await self._server.start()
        self._steps.tell(NAME, "ready", self.bootstrap)

    async def keep(self) -> None:
        """Start it again whenever it dies; raises `KafkaStartError` where that does not help."""
        while True:
            end = await self._server.process.wait()
            if end.lived_s < QUICK_DEATH_S:
                log = self._server.process
                raise KafkaStartError(f"Kafka died: {end}. Its log, {log.log_path}, ends with:\n{log.log_tail()}")
            self._steps.restarting(NAME, end)
            await self._server.start()
            self._steps.tell(NAME, "ready", self.bootstrap)

    async def stop(self) -> None:
        self._steps.begin(NAME, state="stopping")
        await self._server.stop()
        self._steps.tell(NAME, "stopped")
