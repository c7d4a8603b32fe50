"""The broker's configuration and the small decisions around it."""

import base64
from pathlib import Path

import pytest

from headrace.stack.kafka import Credentials
from headrace.stack.kafka_config import Ports, SecureListener, server_properties
from headrace.stack.kafka_identity import new_cluster_id
from headrace.stack.process import Exit, RestartPolicy, bound_log, log_tail

PORTS = Ports(plain=1, controller=2, secure=3)


def parsed(secure: SecureListener | None) -> dict[str, str]:
    """The properties, by name."""
    lines = server_properties(PORTS, Path("/data"), secure).splitlines()
    return {key: value for key, value in (line.split("=", 1) for line in lines)}  # noqa: C416 - splits are lists


def test_all_listeners_are_on_the_loopback_address() -> None:
    """Nobody else on the network reaches a development broker."""
    assert parsed(None)["listeners"] == "PLAIN://127.0.0.1:1,CONTROLLER://127.0.0.1:2"
    assert parsed(None)["advertised.listeners"] == "PLAIN://127.0.0.1:1"


def test_the_secure_listener_escapes_the_password_for_both_of_its_files() -> None:
    """A quote and a backslash arrive in Kafka's login module as they were given."""
    properties = parsed(SecureListener("alice", 'a"b\\c', Path("/store"), "storepass"))
    assert properties["listeners"].endswith(",SECURE://127.0.0.1:3,CONTROLLER://127.0.0.1:2")
    assert properties["listener.security.protocol.map"].endswith("SECURE:SASL_SSL")
    assert properties["listener.name.secure.plain.sasl.jaas.config"].endswith(r'user_alice="a\\"b\\\\c";')


def test_credentials_do_not_show_the_password() -> None:
    """Neither in a log nor in an error; a user name that would end the line is refused."""
    assert "hunter2" not in repr(Credentials("alice", "hunter2"))
    with pytest.raises(ValueError, match="letters, digits"):
        Credentials("alice smith", "x")


def test_a_cluster_id_is_sixteen_bytes_and_no_option() -> None:
    """Kafka decodes the id; its tool takes a leading dash for an option."""
    for _ in range(300):
        cluster_id = new_cluster_id()
        assert len(base64.urlsafe_b64decode(cluster_id + "==")) == 16
        assert not cluster_id.startswith("-")


def test_restart_delays_double_up_to_the_limit() -> None:
    """The first restart is at once for a person; a process that keeps dying does not keep the machine busy."""
    policy = RestartPolicy(first_delay_s=0.2, max_delay_s=1.0)
    assert [policy.delay_s(deaths) for deaths in range(6)] == [0.2, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_an_exit_reads_as_a_sentence() -> None:
    """The signal by its name, the status by its number."""
    assert str(Exit(7, -9, 0.5)) == "process 7 was killed by SIGKILL after 0.5 s"
    assert str(Exit(7, 2, 12)) == "process 7 ended with status 2 after 12.0 s"


def test_a_log_over_its_limit_keeps_its_end_in_one_older_file(tmp_path: Path) -> None:
    """The writer appends and goes on; a log within its limit is left alone."""
    log = tmp_path / "worker.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"first\nsecond\n")
        bound_log(log, 13)
        assert log.read_bytes() == b"first\nsecond\n"
        bound_log(log, 7)
        writer.write(b"third\n")
    assert log.read_bytes() == b"third\n"
    assert (tmp_path / "worker.log.1").read_bytes() == b"second\n"


def test_a_log_tail_is_text_whatever_the_log_holds(tmp_path: Path) -> None:
    """Bytes that are no text, and a log that was never written, do not hide the error they belong to."""
    log = tmp_path / "worker.log"
    assert log_tail(log, 2) == ""
    log.write_bytes(b"one\ntwo\n\xff three\n")
    assert log_tail(log, 2) == "two\n\ufffd three"
