"""Files that hide an installed package which every rank needs."""

from importlib.machinery import PathFinder

from nccl_bench.errors import SetupError

_NEEDED = ("torch", "numpy")


def refuse_hidden_packages() -> None:
    """Raise ``SetupError`` if a module in a single file hides torch or numpy, which are packages. Import nothing."""
    for name in _NEEDED:
        spec = PathFinder.find_spec(name)
        if spec is not None and spec.submodule_search_locations is None:
            raise SetupError(
                f"{spec.origin} hides the installed package {name}, which every rank needs: rename this file, or take "
                "its directory out of PYTHONPATH"
            )
