"""The deployment files, as far as they can be checked without a container engine."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from headrace.cli import app
from runtime.settings import load_settings

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file, with its anchors and merges resolved."""
    loaded: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
    return loaded


def test_the_compose_file_follows_the_specification(compose: dict[str, Any]) -> None:
    """A misspelt key would be refused by `docker compose`, on somebody else's machine."""
    # Only the file is read: importing the package pulls in its command line.
    package = importlib.util.find_spec("check_jsonschema")
    assert package is not None
    assert package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0])
    (path,) = folder.rglob("compose-spec.json")
    jsonschema.validate(compose, json.loads(path.read_text()))


def one_shot(compose: dict[str, Any]) -> set[str]:
    """Services that others wait for until they have ended."""
    return {
        name
        for service in compose["services"].values()
        for name, wait in service.get("depends_on", {}).items()
        if wait["condition"] == "service_completed_successfully"
    }


def test_every_service_says_when_it_is_well(compose: dict[str, Any]) -> None:
    """Whoever waits for a service waits until it serves; one-shot services end."""
    silent = {name for name, service in compose["services"].items() if "healthcheck" not in service}
    assert silent == one_shot(compose) == {"topics", "migrate"}


def test_who_is_waited_for_exists_and_is_waited_for_by_its_health(compose: dict[str, Any]) -> None:
    """A service that belongs to a profile may be missing, so nobody may require it who does not belong to it too."""
    services = compose["services"]
    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            assert wait["condition"] != "service_started", (name, other)
            optional = set(services[other].get("profiles", [])) - set(service.get("profiles", []))
            assert not optional or wait["required"] is False, (name, other)


def test_images_are_pinned_and_what_holds_data_has_a_volume(compose: dict[str, Any]) -> None:
    """A start next month runs what was tried today, and data outlives its container."""
    for name, service in compose["services"].items():
        assert re.search(r":v?\d+\.\d+", service["image"]), name
    own = {service["image"] for service in compose["services"].values() if "build" in service}
    assert own == {f"headrace:{PROJECT['project']['version']}"}
    used = {volume.split(":")[0] for service in compose["services"].values() for volume in service.get("volumes", [])}
    assert used == set(compose["volumes"])
    assert {"redpanda-0", "worker-1", "postgres", "redis"} <= used


def test_no_secret_is_in_the_compose_file(compose: dict[str, Any]) -> None:
    """Keys and passwords come from the environment; nothing but this machine reaches a port."""
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|KEY|SECRET|TOKEN", variable):
                assert re.fullmatch(r"\$\{[A-Z_]+:[-?].*\}", value), (name, variable)
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_workers_share_neither_name_nor_volume(compose: dict[str, Any]) -> None:
    """Two workers of one name would drive each other out; two on one directory refuse to start."""
    workers = [service for service in compose["services"].values() if service.get("command") == ["worker"]]
    assert len(workers) > 1
    assert len({worker["environment"]["HEADRACE_NAME"] for worker in workers}) == len(workers)
    assert len({tuple(worker["volumes"]) for worker in workers}) == len(workers)


def seconds(duration: str) -> float:
    """Of compose's `30s`."""
    return float(duration.removesuffix("s"))


def test_every_setting_in_the_compose_file_is_one(compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable is refused when the container starts, on somebody else's machine."""
    for service in compose["services"].values():
        with monkeypatch.context() as patch:
            for variable, value in service.get("environment", {}).items():
                if variable.startswith("HEADRACE_"):
                    # As compose fills in what `.env` leaves out: the default, or the password that it asks for.
                    patch.setenv(variable, re.sub(r"\$\{[A-Z_]+:(-|\?[^}]*)([^}]*)\}", r"\2", value) or "x")
            load_settings()


def test_the_gateway_is_reached_with_a_key_from_this_machine_only(
    compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it listens on is what is published and looked at; nobody gets in without a key."""
    gateway = compose["services"]["gateway"]
    for variable in ("HEADRACE_GATEWAY_HOST", "HEADRACE_GATEWAY_PORT"):
        monkeypatch.setenv(variable, gateway["environment"][variable])
    settings = load_settings().gateway
    assert "HEADRACE_GATEWAY_OPEN" not in gateway["environment"]
    assert not settings.open
    assert gateway["ports"] == [f"127.0.0.1:{settings.port}:{settings.port}"]
    assert f"http://127.0.0.1:{settings.port}/health/ready" in gateway["healthcheck"]["test"][-1]
    assert seconds(gateway["stop_grace_period"]) > settings.drain_timeout_s
    assert {"topics", "migrate", "redis", "redpanda-0"} == set(gateway["depends_on"])


def test_roles_are_commands_that_the_image_runs(compose: dict[str, Any]) -> None:
    """Each service of ours is called as the command line understands it; so are the keys that the first lines show."""
    ours = [service["command"] for service in compose["services"].values() if "build" in service]
    assert ["gateway"] in ours
    (shown,) = re.findall(r"docker compose run --rm gateway (.+)", (ROOT / "docker-compose.yml").read_text())
    for arguments in (*ours, shown):
        command: Any
        command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
        assert callable(command)
        assert bound is not None


def test_the_image_has_every_package_and_runs_without_root() -> None:
    """A new package is added to the image with the wheel."""
    copied = re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE)
    assert sorted(copied) == sorted(PACKAGES)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert allowed == {*PACKAGES, "constraints.txt", "pyproject.toml", "README.md"}
    assert re.search(r"^USER [1-9]\d*$", DOCKERFILE, re.MULTILINE)


def test_every_installed_version_is_pinned_by_name() -> None:
    """Names and versions only: addresses would tie the project to somebody's mirror."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.!+]*", line) for line in lines)
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines}
    extras = PROJECT["project"]["optional-dependencies"]
    required = [*PROJECT["project"]["dependencies"], *extras["dev"], *extras["test"]]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=;~! ]", line)[0]).lower() for line in required}
    assert names <= pinned
