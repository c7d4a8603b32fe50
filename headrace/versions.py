"""The versions of what is installed."""

from importlib.metadata import PackageNotFoundError, version


def installed_version(package: str) -> str:
    """The package's version; a source tree can run without being installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
