"""The jars that run are the jars of the lock file, or nothing runs."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace.stack import artifacts
from headrace.stack.artifacts import Jar, KafkaLock, default_cache_dir, ensure_jars, load_lock
from headrace.stack.errors import JarMismatchError, KafkaUnavailableError

CONTENT = {"broker-1.0.jar": b"the broker", "library-2.1.jar": b"a library"}
LOCK = KafkaLock(
    "1.0",
    [
        Jar("org.example:broker:1.0", hashlib.sha256(b"the broker").hexdigest(), 10),
        Jar("org.example.deep:library:2.1", hashlib.sha256(b"a library").hexdigest(), 9),
    ],
)


@pytest.fixture
def kafka_dir(tmp_path: Path) -> Path:
    """A cache as a good fetch leaves it."""
    jars = tmp_path / "kafka" / "jars"
    jars.mkdir(parents=True)
    for name, content in CONTENT.items():
        (jars / name).write_bytes(content)
    return tmp_path / "kafka"


def ignore(_message: str) -> None:
    """No one watches the progress."""


def test_good_jars_are_accepted_and_then_not_read_again(kafka_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second start compares sizes and times only: reading 45 MB at each start would be felt."""
    assert ensure_jars(LOCK, kafka_dir, ignore) == kafka_dir / "jars"

    def read(*_: object) -> None:
        raise AssertionError("the jars were read again")

    monkeypatch.setattr(artifacts, "_verify", read)
    ensure_jars(LOCK, kafka_dir, ignore)


def test_a_corrupted_jar_is_refused_by_name(kafka_dir: Path) -> None:
    """A jar of the same size with other bytes does not get past a check that has seen it good."""
    ensure_jars(LOCK, kafka_dir, ignore)
    (kafka_dir / "jars/broker-1.0.jar").write_bytes(b"the hacker")
    for _ in range(2):
        with pytest.raises(JarMismatchError, match=r"with another sha256: broker-1\.0\.jar.*Remove that folder"):
            ensure_jars(LOCK, kafka_dir, ignore)


def test_a_missing_and_an_extra_jar_are_refused(kafka_dir: Path) -> None:
    """Nothing joins the class path by lying in the folder, and nothing may be absent from it."""
    (kafka_dir / "jars/library-2.1.jar").rename(kafka_dir / "jars/library-2.2.jar")
    with pytest.raises(JarMismatchError, match=r"missing: library-2\.1\.jar; not expected: library-2\.2\.jar"):
        ensure_jars(LOCK, kafka_dir, ignore)


def test_a_new_lock_file_is_a_reason_to_check_in_full(kafka_dir: Path) -> None:
    """What was verified against the lock file of another version of Headrace is not verified."""
    ensure_jars(LOCK, kafka_dir, ignore)
    newer = KafkaLock("1.0", [LOCK.jars[0], Jar("org.example.deep:library:2.1", "0" * 64, 9)])
    with pytest.raises(JarMismatchError, match=r"another sha256: library-2\.1\.jar"):
        ensure_jars(newer, kafka_dir, ignore)


def test_a_fetch_puts_all_jars_in_place_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an interrupted fetch left behind is removed; the folder `jars` appears only when it is complete."""
    (tmp_path / "fetch-abandoned").mkdir()

    def download(jar: Jar, staging: Path) -> None:
        assert not (tmp_path / "jars").exists()
        (staging / "jars" / jar.file_name).write_bytes(CONTENT[jar.file_name])

    monkeypatch.setattr(artifacts, "_download", download)
    said: list[str] = []
    ensure_jars(LOCK, tmp_path, said.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fetch.lock", "jars", "verified.json"]
    assert said[0] == "fetching Apache Kafka 1.0 from Maven Central, once: 2 jars, 0 MB"


def test_without_network_the_error_says_what_is_missing_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline for the first time: no jars folder stays behind, so the next start fetches."""

    def download(_jar: Jar, _staging: Path) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(artifacts, "_download", download)
    with pytest.raises(KafkaUnavailableError, match=r"Apache Kafka 1\.0 .*--brokers HOST:PORT.*no route to host"):
        ensure_jars(LOCK, tmp_path, ignore)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fetch.lock"]


def test_two_starts_at_once_fetch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits, says so, and uses what the first one fetched."""
    monkeypatch.setattr(artifacts, "LOCK_POLL_INTERVAL_S", 0)
    second_waits = threading.Event()
    downloads: list[str] = []

    def download(jar: Jar, staging: Path) -> None:
        assert second_waits.wait(10)
        downloads.append(jar.file_name)
        (staging / "jars" / jar.file_name).write_bytes(CONTENT[jar.file_name])

    monkeypatch.setattr(artifacts, "_download", download)

    def progress(message: str) -> None:
        if message.startswith("waiting for another process"):
            second_waits.set()

    with ThreadPoolExecutor(2) as pool:
        starts = [pool.submit(ensure_jars, LOCK, tmp_path, progress) for _ in range(2)]
        assert [start.result() for start in starts] == [tmp_path / "jars"] * 2
    assert sorted(downloads) == sorted(CONTENT)


def test_a_fetch_that_is_cancelled_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The person's Ctrl-C arrives through the progress report."""
    monkeypatch.setattr(artifacts, "PROGRESS_STEP_MB", 0)

    def download(jar: Jar, staging: Path) -> None:
        (staging / "jars" / jar.file_name).write_bytes(CONTENT[jar.file_name])

    def cancel(message: str) -> None:
        if not message.startswith("fetching"):
            raise InterruptedError("the start was cancelled")

    monkeypatch.setattr(artifacts, "_download", download)
    with pytest.raises(KafkaUnavailableError, match="the start was cancelled"):
        ensure_jars(LOCK, tmp_path, cancel)
    assert [path.name for path in tmp_path.iterdir()] == ["fetch.lock"]


def test_a_download_with_other_bytes_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check stands between the network and the class path."""

    def download(jar: Jar, staging: Path) -> None:
        (staging / "jars" / jar.file_name).write_bytes(b"something else")

    monkeypatch.setattr(artifacts, "_download", download)
    with pytest.raises(JarMismatchError):
        ensure_jars(LOCK, tmp_path, ignore)
    assert not (tmp_path / "jars").exists()


def test_the_committed_lock_names_each_jar_once_with_its_hash() -> None:
    """The lock file is complete: the broker, and the logging backend that Kafka's POM leaves out."""
    lock = load_lock()
    names = [jar.file_name for jar in lock.jars]
    assert len(names) == len(set(names))
    assert f"kafka_2.13-{lock.kafka_version}.jar" in names
    assert any(name.startswith("log4j-slf4j-impl-") for name in names)
    assert all(len(jar.sha256) == 64 and jar.size_bytes > 0 for jar in lock.jars)


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ("/somewhere/cache", "/somewhere/cache/headrace"),
        ("", "/home/ada/.cache/headrace"),
        ("x", "/home/ada/.cache/headrace"),
    ],
)
def test_the_cache_lies_where_the_user_keeps_caches(
    configured: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The XDG variable decides when it holds an absolute path."""
    monkeypatch.setenv("XDG_CACHE_HOME", configured)
    monkeypatch.setenv("HOME", "/home/ada")
    assert default_cache_dir() == Path(expected)
