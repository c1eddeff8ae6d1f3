"""The extra packages that some arms and transports need, each with the version that nccl-bench works with."""

from collections.abc import Mapping
from importlib import metadata

# pyproject.toml pins this version too. We call private parts of nccl4py, and these differ between its versions.
EXTRA_VERSIONS: Mapping[str, str] = {"nccl4py": "0.6.0"}


def installed_version(package: str) -> str | None:
    """Return the version of a package without importing the package; ``None`` if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def has_extra(extra: str) -> bool:
    """Return True if the package of ``extra`` is installed in the version that nccl-bench works with."""
    return installed_version(extra) == EXTRA_VERSIONS[extra]
