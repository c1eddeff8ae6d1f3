"""The values that a shell offers for an option when the user presses Tab."""

from collections.abc import Callable, Iterable


def offer(names: Callable[[], Iterable[str]], *, several: bool = False) -> Callable[[str], list[str]]:
    """Return a function that completes the beginning of one of ``names``.

    With ``several``, the option takes comma-separated names. Then the last name is completed, and no name is offered
    twice. ``names`` is called only when Tab is pressed, because it can take time.
    """

    def complete(incomplete: str) -> list[str]:
        before, comma, begun = incomplete.rpartition(",") if several else ("", "", incomplete)
        taken = before.split(",")
        return [f"{before}{comma}{name}" for name in names() if name.startswith(begun) and name not in taken]

    return complete
