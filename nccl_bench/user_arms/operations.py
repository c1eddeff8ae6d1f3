"""The operations of our protocol as calls of a user's methods.

A user's method that takes our arguments is used unchanged. For any other method a function is generated once. This
function only calls the user's method: one frame, no ``*args``, no look at a signature. Every adapter adds the same
small cost to each call, whatever the adapter translates (``tests/experiments/adapter_cost.py`` measures it).
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, NoReturn

from torch import Tensor

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.communicators.protocol import RETURNING, Communicator
from nccl_bench.errors import InvalidArgumentError
from nccl_bench.user_arms import signatures

Method = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """The parameters of an operation of ``communicators.protocol.Communicator``."""

    leading: tuple[str, ...]  # parameters without a default, in their order
    options: tuple[str, ...] = ()  # parameters with a default, in their order, after `leading`


def _form(method: Method) -> _Form:
    _, *parameters = inspect.signature(method).parameters.values()
    return _Form(
        leading=tuple(each.name for each in parameters if each.default is each.empty),
        options=tuple(each.name for each in parameters if each.default is not each.empty),
    )


# All methods of the protocol except those that change the state of the communicator.
PROTOCOL_OPERATIONS: Mapping[str, _Form] = {
    name: _form(method)
    for name, method in vars(Communicator).items()
    if inspect.isfunction(method) and not name.startswith("_") and name not in ("change_state", "close")
}
# A user's `send` and `recv` together can be a `send_recv`.
_HALVES: Mapping[str, _Form] = {
    "send": _Form(leading=("tensor", "dst")),
    "recv": _Form(leading=("tensor", "src")),
}
METHODS = {**PROTOCOL_OPERATIONS, **_HALVES}
# The operations that return their output as a new tensor (`ArmCommunicator.returning`).
_RETURNING_OPERATIONS: Mapping[str, _Form] = {
    f"return_{name}": _Form(
        leading=tuple(parameter for parameter in PROTOCOL_OPERATIONS[name].leading if parameter != "output"),
        options=tuple(option for option in PROTOCOL_OPERATIONS[name].options if option != "out"),
    )
    for name in RETURNING
}
FORMS = {**METHODS, **_RETURNING_OPERATIONS}
_DEFAULTS = {"op": "SUM", "sizes": "None", "out": "None"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Binder:
    """The maker of operations from a user's methods."""

    redops: Mapping[RedOp, object] | None  # our reduction -> the user's reduction; None if both are the same
    current: Callable[[], Any] | None  # the source of the `stream` argument; None if calls get no stream

    def options(self, name: str, method: Method) -> Mapping[str, str]:
        """Return the options that ``method`` has for operation ``name``: our name of an option -> the user's name."""
        return signatures.options(method, len(FORMS[name].leading))

    def bind(self, name: str, method: Method) -> Method | None:
        """Return operation ``name`` as a call of ``method``, or ``None`` if ``method`` cannot do it.

        The returned call raises ``InvalidArgumentError`` for an option that ``method`` does not take.
        """
        form, taken = FORMS[name], self.options(name, method)
        if self.current is not None and "stream" not in taken:
            return None
        if form.leading[0] == "output" and not signatures.writes_first(method):
            return None
        if self._is_ours(name, taken, method):
            return method
        passed = {taken[option]: option for option in form.options if option in taken}
        if "op" in taken and self.redops is not None:
            passed[taken["op"]] = "redops[op]"
        if self._gives_output(name, taken):
            passed[taken["out"]] = form.leading[0]  # as in NCCL, the same tensor twice means in place
        if self.current is not None:
            passed[taken["stream"]] = "current()"
        if not signatures.takes(method, *form.leading, **passed):
            return None
        refused = [option for option in form.options if option not in taken]
        return self._generate(name, method, passed, refused)

    def _is_ours(self, name: str, taken: Mapping[str, str], method: Method) -> bool:
        form = FORMS[name]
        parameters = [parameter.name for parameter in signatures.positional(method)]
        first = len(form.leading)
        return (
            self.current is None
            and tuple(parameters[first : first + len(form.options)]) == form.options
            and not ("op" in form.options and self.redops is not None)
            and not self._gives_output(name, taken)
            and signatures.takes(method, *form.leading)
        )

    def _gives_output(self, name: str, taken: Mapping[str, str]) -> bool:
        """Return whether the operation must give its tensor as the output too, so that the method works in place."""
        return "out" in taken and "out" not in FORMS[name].options and name not in _RETURNING_OPERATIONS

    def _generate(self, name: str, method: Method, passed: Mapping[str, str], refused: list[str]) -> Method:
        form = FORMS[name]
        parameters = [*form.leading, *(f"{option}={_DEFAULTS[option]}" for option in form.options)]
        arguments = [*form.leading, *(f"{key}={value}" for key, value in passed.items())]
        lines = [
            f"def {name}({', '.join(parameters)}):",
            *(f"    if {option} is not {_DEFAULTS[option]}: refuse({option!r}, {option})" for option in refused),
            f"    return method({', '.join(arguments)})",
        ]

        def refuse(option: str, value: object) -> NoReturn:
            advice = "it only sums" if option == "op" else f"leave out `{option}`"
            raise InvalidArgumentError(
                f"{signatures.signature_text(method)} takes no {option}, and got {value}: {advice}"
            )

        namespace: dict[str, Any] = {"method": method, "redops": self.redops, "current": self.current}
        namespace |= {"SUM": RedOp.SUM, "refuse": refuse}
        # The code gets the name of this file, so that `tracebacks` does not count it as the user's code.
        exec(compile("\n".join(lines), f"{__file__}:{name}", "exec"), namespace)
        operation: Method = namespace[name]
        operation.__qualname__ = signatures.name_of(method)
        return update_wrapper(operation, method, assigned=(), updated=())


def make_send_recv(start: Method, send: Method, recv: Method, end: Method) -> Method:
    """Return a ``send_recv`` that calls ``send`` and ``recv`` within one group."""

    def send_recv(output: Tensor, input: Tensor, dst: int, src: int) -> None:
        start()
        try:
            send(input, dst)
            recv(output, src)
        finally:
            # An open group would hold back all later calls of this thread, even those of other arms.
            end()

    return send_recv
