"""From the settings to what aiokafka and Faust take."""

from pathlib import Path

import faust
import pytest
from aiokafka.partitioner import DefaultPartitioner
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from pydantic import SecretStr

from runtime.kafka import (
    changelog_topic_name,
    client_arguments,
    faust_broker_urls,
    faust_credentials,
    partition_for,
    topic_name,
)
from runtime.settings import Security, Settings, SettingsError
from schemas.topics import USER_MESSAGES

SASL = {"sasl_mechanism": "SCRAM-SHA-256", "sasl_username": "ann", "sasl_password": SecretStr("hunter2")}


def test_plaintext() -> None:
    """Without security there are no credentials, and every broker is in both forms."""
    settings = Settings(brokers="a:1, b:2")
    assert client_arguments(settings) == {
        "bootstrap_servers": "a:1,b:2",
        "client_id": "headrace",
        "security_protocol": "PLAINTEXT",
    }
    assert faust_broker_urls(settings) == ["aiokafka://a:1", "aiokafka://b:2"]
    assert faust_credentials(settings) is None


@pytest.mark.parametrize(
    ("security", "protocol"),
    [
        (Security(tls=True), "SSL"),
        (Security.model_validate(SASL), "SASL_PLAINTEXT"),
        (Security.model_validate({**SASL, "tls": True}), "SASL_SSL"),
    ],
)
def test_faust_and_aiokafka_agree(security: Security, protocol: str) -> None:
    """Faust's credentials, turned into aiokafka's arguments by Faust, are the ones that our own clients use."""
    settings = Settings(security=security)
    ours = client_arguments(settings)
    credentials = faust_credentials(settings)
    assert isinstance(credentials, faust.SASLCredentials | faust.SSLCredentials)
    theirs = credentials_to_aiokafka_auth(credentials)
    assert ours["security_protocol"] == protocol
    assert theirs["security_protocol"] == protocol
    assert (theirs.get("ssl_context") is None) == (ours.get("ssl_context") is None)
    for name in ("sasl_mechanism", "sasl_plain_username", "sasl_plain_password"):
        assert theirs.get(name) == ours.get(name)


def test_names_carry_the_prefix() -> None:
    """Two installations on one cluster share no topic and no group."""
    settings = Settings(topic_prefix="eu.", app_id="mill")
    assert topic_name(settings, USER_MESSAGES) == "eu.user-messages"
    assert changelog_topic_name(settings) == "eu.mill-sessions-changelog"


@pytest.mark.parametrize("session_id", ["s1", "", "0123456789", "é", "a-rather-long-session-id:agent"])
def test_partition_is_the_producers(session_id: str) -> None:
    """A reader looks for a session where the producer's partitioner put it."""
    key = session_id.encode()
    assert partition_for(key, 8) == DefaultPartitioner()(key, list(range(8)), list(range(8)))


def test_partition_is_javas() -> None:
    """The values of Kafka's own UtilsTest.testMurmur2, signs dropped."""
    assert partition_for(b"21", 2**31) == -973932308 & 0x7FFFFFFF
    assert partition_for(b"foobar", 2**31) == -790332482 & 0x7FFFFFFF


def test_certificate_that_is_none(tmp_path: Path) -> None:
    """The setting and the file are named."""
    file = tmp_path / "ca.pem"
    file.write_text("not a certificate")
    settings = Settings(security=Security(tls=True, ca_file=file))
    with pytest.raises(SettingsError, match=r"security\.ca_file: expected certificates in PEM, got .*ca\.pem"):
        client_arguments(settings)
