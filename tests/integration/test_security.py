"""TLS and SASL towards a real broker, from the settings to topics and messages."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from pydantic import SecretStr

from headrace.client import Headrace
from headrace.errors import StartBrokersError
from headrace.stack.kafka import Credentials, EmbeddedKafka
from headrace.topics import apply_topics, check_topics
from runtime.settings import Security, Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

PASSWORD = "only-for-this-test"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kafka(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedKafka]:
    """A broker with a SASL_SSL listener, whose certificate only its own clients trust."""
    secure = Credentials("ann", PASSWORD)
    async with EmbeddedKafka(tmp_path_factory.mktemp("kafka"), secure=secure, progress=print) as kafka:
        yield kafka


def settings_for(kafka: EmbeddedKafka, password: str = PASSWORD, ca_file: Path | None = None) -> Settings:
    security = Security(
        tls=True,
        ca_file=ca_file,
        sasl_mechanism="PLAIN",
        sasl_username="ann",
        sasl_password=SecretStr(password),
    )
    return Settings(brokers=kafka.secure_bootstrap, security=security, partitions=2)


async def test_encrypted_and_authenticated(kafka: EmbeddedKafka) -> None:
    """Topics are created and messages sent over the secure listener."""
    settings = settings_for(kafka, ca_file=kafka.certificate)
    await apply_topics(settings)
    assert await check_topics(settings) == []
    async with Headrace.of(settings) as headrace:
        assert (await headrace.send("s1", "hi")).offset == 0


async def test_wrong_password(kafka: EmbeddedKafka) -> None:
    """The error names the settings to correct, and not the password."""
    settings = settings_for(kafka, password="a-wrong-one", ca_file=kafka.certificate)
    with pytest.raises(StartBrokersError, match=r"not the credentials.*security\.sasl_") as caught:
        await check_topics(settings)
    assert "a-wrong-one" not in str(caught.value)


async def test_unknown_authority(kafka: EmbeddedKafka) -> None:
    """A broker whose certificate is not trusted gets no password, and the error says what to correct."""
    with pytest.raises(StartBrokersError, match=r"no TLS connection.*security settings"):
        await check_topics(settings_for(kafka))


async def test_plain_to_the_secure_listener(kafka: EmbeddedKafka) -> None:
    """Somebody is there, but it is not a broker that speaks without TLS."""
    with pytest.raises(StartBrokersError, match="does not speak as expected"):
        await check_topics(Settings(brokers=kafka.secure_bootstrap))
