"""The values that a shell offers for an option when the user presses Tab."""

from collections.abc import Callable, Iterable


def offer(names: Callable[[], Iterable[str]], *, several: bool = False) -> Callable[[str], list[str]]:
    """Return a function that completes the beginning of one of ``names``.

    With ``several``, the option takes names with commas between them: the last one is completed, and a name is offered
    once. ``names`` is called when Tab is pressed, so that no other command pays for it.
    """

    def complete(incomplete: str) -> list[str]:
        before, comma, begun = incomplete.rpartition(",") if several else ("", "", incomplete)
        taken = before.split(",")
        return [f"{before}{comma}{name}" for name in names() if name.startswith(begun) and name not in taken]

    return complete
