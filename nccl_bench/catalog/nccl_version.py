"""NCCL's version number as text."""


def version_text(version: int) -> str:
    """Return ``22809`` as ``2.28.9``.

    Before 2.9 the minor version had one digit, so ``2804`` is ``2.8.4`` (``NCCL_VERSION`` in nccl.h).
    """
    major, rest = divmod(version, 10_000 if version >= 10_000 else 1000)
    return f"{major}.{rest // 100}.{rest % 100}"
