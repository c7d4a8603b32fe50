"""The stack's own Kafka, kept alive, and the topics on whatever brokers it uses."""

from pathlib import Path

from headrace.development.progress import Steps
from headrace.stack.errors import KafkaStartError, StackError
from headrace.stack.kafka import EmbeddedKafka
from headrace.topics import apply_topics, check_topics
from runtime.settings import Settings

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

    @property
    def pid(self) -> int | None:
        """Of the broker's process, while it runs."""
        return self._server.process.pid if self._server.process.running else None

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


async def prepare_topics(settings: Settings, steps: Steps) -> None:
    """Create the topics that are missing; raises `StackError` where one is not as the settings want it."""
    steps.begin("topics", f"on {settings.brokers}")
    created = await apply_topics(settings)
    wrong = [finding for finding in await check_topics(settings) if finding.level == "fail"]
    if wrong:
        first = wrong[0]
        raise StackError(
            f"topic {first.topic}: expected {first.expected} {first.what}, found {first.found}. Start with the "
            "--partitions that these topics were created with, or with another --data-dir."
        )
    steps.tell("topics", "ready", f"{len(created)} created" if created else "all there")
