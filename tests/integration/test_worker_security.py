"""Workers whose settings are not the default ones: encrypted brokers, topic prefixes, tables in memory."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from chaos.cluster import Cluster, Worker
from line import Line, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

Served = tuple[Line, Worker]


def security(cluster: Cluster) -> dict[str, str]:
    """The settings with which a worker is let in."""
    assert cluster.secure is not None
    return {
        "HEADRACE_BROKERS": cluster.kafka.secure_bootstrap,
        "HEADRACE_SECURITY_TLS": "true",
        "HEADRACE_SECURITY_CA_FILE": str(cluster.kafka.certificate),
        "HEADRACE_SECURITY_SASL_MECHANISM": "PLAIN",
        "HEADRACE_SECURITY_SASL_USERNAME": cluster.secure.user,
        "HEADRACE_SECURITY_SASL_PASSWORD": cluster.secure.password,
    }


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pipelines(cluster: Cluster) -> AsyncIterator[tuple[Served, Served]]:
    """Two at once on one cluster: an encrypted one, and one whose tables are in memory."""
    encrypted = serving(cluster, "team-a.", **security(cluster))
    in_memory = serving(cluster, "team-b.", HEADRACE_STORE="memory")
    served = await asyncio.gather(encrypted.__aenter__(), in_memory.__aenter__())
    yield served[0], served[1]
    await asyncio.gather(encrypted.__aexit__(None, None, None), in_memory.__aexit__(None, None, None))


async def test_an_encrypted_worker_answers(cluster: Cluster, pipelines: tuple[Served, Served]) -> None:
    """Over SASL_SSL, with tool calls and tables; the password is in no log."""
    (line, worker), _ = pipelines
    assert "391" in (await line.ask("s", "What is 17*23?"))["text"]
    assert "42" in (await line.ask("s", "What is 6*7?"))["text"]
    assert cluster.secure is not None
    assert cluster.secure.password not in worker.process.log_path.read_text()


REFUSED: list[tuple[str, dict[str, str], str]] = [
    ("a wrong password", {"HEADRACE_SECURITY_SASL_PASSWORD": "a-wrong-one"}, "correct the security.sasl_… settings"),
    ("an unknown authority", {"HEADRACE_SECURITY_CA_FILE": ""}, "makes no TLS connection"),
    ("nobody there", {"HEADRACE_BROKERS": "127.0.0.1:9"}, "no broker answers at 127.0.0.1:9"),
    ("no topics", {"HEADRACE_TOPIC_PREFIX": "nobody-made-these."}, "create it with `headrace topics apply`"),
    ("other partitions", {"HEADRACE_TOPIC_PREFIX": "team-b.", "HEADRACE_PARTITIONS": "5"}, "expected 5, found 8"),
]


@pytest.mark.usefixtures("pipelines")
@pytest.mark.parametrize(("case", "wrong", "says"), REFUSED, ids=[case for case, _, _ in REFUSED])
async def test_a_worker_that_cannot_work_says_why(
    cluster: Cluster, case: str, wrong: dict[str, str], says: str
) -> None:
    """It ends at once with one line that says what to correct, and tells no password."""
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "headrace", "worker"],
        env=security(cluster)
        | {"HEADRACE_DATA_DIR": str(cluster.home / case), "ANTHROPIC_BASE_URL": cluster.model_url}
        | wrong,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "a-wrong-one" not in ended.stderr


async def test_two_prefixes_never_meet(pipelines: tuple[Served, Served]) -> None:
    """The same session id under two prefixes is two conversations, on topics of their own."""
    (a, _), (b, _) = pipelines
    for line, name in ((a, "Ada"), (b, "Bob")):
        await line.ask("shared", f"My name is {name}.", id=name)
    for line, name, other in ((a, "Ada", "Bob"), (b, "Bob", "Ada")):
        assert name in (await line.ask("shared", "What is my name?"))["text"]
        assert other not in {event["message_id"] for event in line.bodies("agent-events")}


async def test_tables_in_memory_come_back(pipelines: tuple[Served, Served]) -> None:
    """They are read from the changelog: a conversation goes on after SIGKILL, and after a stop."""
    _, (line, worker) = pipelines
    await line.ask("kept", "My name is Ada.")
    await worker.kill()
    await worker.start()
    assert "Ada" in (await line.ask("kept", "What is my name?"))["text"]
    await worker.stop()
    await worker.start()
    assert "Ada" in (await line.ask("kept", "And again: what is my name?"))["text"]
    assert [event["turn_id"] for event in line.events("kept")] == [f"kept/{n}" for n in (1, 1, 2, 2, 3, 3)]
