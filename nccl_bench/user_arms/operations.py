"""The operations of our protocol as calls of a user's methods.

A user's method that can be called as ours is taken as it is. For any other one a function is generated, once, that
makes the user's call and nothing else: one frame, no ``*args``, no look at a signature. So what an adapter adds to a
call is the same small amount whatever it has to translate (``tests/figures/adapter_cost.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, NoReturn

from torch import Tensor

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.errors import InvalidArgumentError, SetupError
from nccl_bench.streams.base import Streams
from nccl_bench.user_arms import signatures
from nccl_bench.user_arms.tracebacks import definition_line

Operation = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """How ``communicators.base.Communicator`` calls an operation: its leading parameters, then those with defaults."""

    leading: tuple[str, ...]
    options: tuple[str, ...] = ()


PROTOCOL_OPERATIONS: Mapping[str, _Form] = {
    "all_reduce": _Form(leading=("tensor",), options=("op",)),
    "outplace_all_reduce": _Form(leading=("input",), options=("out", "op")),
    "all_gather": _Form(leading=("output", "input"), options=("sizes",)),
    "reduce_scatter": _Form(leading=("output", "input"), options=("op", "sizes")),
    "all_to_all": _Form(leading=("output", "input")),
    "broadcast": _Form(leading=("tensor", "src"), options=("out",)),
    "reduce": _Form(leading=("tensor", "dst"), options=("op", "out")),
    "send_recv": _Form(leading=("output", "input", "dst", "src")),
}
# What a user's `send_recv` may consist of.
_HALVES: Mapping[str, _Form] = {
    "send": _Form(leading=("tensor", "dst")),
    "recv": _Form(leading=("tensor", "src")),
}
FORMS = {**PROTOCOL_OPERATIONS, **_HALVES}
_DEFAULTS = {"op": "SUM", "sizes": "None", "out": "None"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Binder:
    """Makes operations. ``redops`` translates ours, if need be; ``current`` gives the stream to hand to every call."""

    redops: Mapping[RedOp, object] | None
    current: Callable[[], Any] | None

    def options(self, name: str, method: Operation) -> Mapping[str, str]:
        """Which options ``method`` takes where it is called as operation ``name``: our name of each, and the user's."""
        return signatures.options(method, len(FORMS[name].leading))

    def bind(self, name: str, method: Operation) -> Operation | None:
        """Operation ``name`` by calling ``method``; ``None`` where ``method`` cannot be called so.

        An option that the method does not take raises ``InvalidArgumentError`` when it is used.
        """
        form, taken = FORMS[name], self.options(name, method)
        if self.current is not None and "stream" not in taken:
            return None
        if form.leading[0] == "output" and not signatures.writes_first(method):
            return None
        if self._is_ours(form, taken, method):
            return method
        passed = {taken[option]: option for option in form.options if option in taken}
        if "op" in taken and self.redops is not None:
            passed[taken["op"]] = "redops[op]"
        if "out" in taken and "out" not in form.options:
            passed[taken["out"]] = form.leading[0]  # in place, which is how NCCL spells it too
        if self.current is not None:
            passed[taken["stream"]] = "current()"
        if not signatures.takes(method, *form.leading, **passed):
            return None
        refused = [option for option in form.options if option not in taken]
        return self._generate(name, method, passed, refused)

    def _is_ours(self, form: _Form, taken: Mapping[str, str], method: Operation) -> bool:
        parameters = [one.name for one in signatures.positional(method)]
        first = len(form.leading)
        return (
            self.current is None
            and tuple(parameters[first : first + len(form.options)]) == form.options
            and not ("op" in form.options and self.redops is not None)
            and not ("out" in taken and "out" not in form.options)
            and signatures.takes(method, *form.leading)
        )

    def _generate(self, name: str, method: Operation, passed: Mapping[str, str], refused: list[str]) -> Operation:
        form = FORMS[name]
        parameters = [*form.leading, *(f"{option}={_DEFAULTS[option]}" for option in form.options)]
        arguments = [*form.leading, *(f"{key}={value}" for key, value in passed.items())]
        lines = [
            f"def {name}({', '.join(parameters)}):",
            *(f"    if {option} is not {_DEFAULTS[option]}: refuse({option!r}, {option})" for option in refused),
            f"    return method({', '.join(arguments)})",
        ]

        def refuse(option: str, value: object) -> NoReturn:
            only = "it only sums" if option == "op" else f"leave `{option}` away"
            raise InvalidArgumentError(f"{signatures.written(method)} takes no {option}, and got {value}: {only}")

        namespace: dict[str, Any] = {
            "method": method,
            "redops": self.redops,
            "current": self.current,
            "SUM": RedOp.SUM,
            "refuse": refuse,
        }
        # Named after this file, so that a traceback tells it from the user's code.
        exec(compile("\n".join(lines), f"{__file__}:{name}", "exec"), namespace)
        operation: Operation = namespace[name]
        operation.__qualname__ = signatures.name_of(method)
        return update_wrapper(operation, method, assigned=(), updated=())


def copying(call: Operation, streams: Streams, private: Any) -> Operation:
    """``outplace_all_reduce`` by an all-reduce that returns a new tensor, which is then copied into ``out``.

    The copy is queued where ``call`` runs: on the stream ``private``, or on the current one where that is ``None``.
    """
    submit, follows = streams.submit, streams.follows
    # Looking at a result takes longer than all the rest, so it is done once for each output.
    seen: set[int] = set()

    def look(result: object, input: Tensor, out: Tensor | None) -> None:
        if not fits(result, input):
            refuse_result(call, result, input)
        seen.add(id(out))

    def outplace_all_reduce(input: Tensor, out: Tensor | None = None, op: RedOp = RedOp.SUM) -> Tensor:
        result: Tensor = call(input, op)
        if id(out) not in seen:
            look(result, input, out)
        if out is None:
            return result
        if private is not None:
            with streams.stream(private):
                submit(out.copy_, result)
        elif follows:
            out.copy_(result)
        else:
            submit(out.copy_, result)
        return out

    return outplace_all_reduce


def fits(result: object, input: Tensor) -> bool:
    """Whether an all-reduce of ``input`` can have this result."""
    return isinstance(result, Tensor) and result.shape == input.shape and result.dtype is input.dtype


def refuse_result(call: Operation, result: object, input: Tensor) -> NoReturn:
    """Raise ``SetupError`` for what an all-reduce of ``input`` returned."""
    is_tensor = isinstance(result, Tensor)
    got = f"{result.dtype} of shape {tuple(result.shape)}" if is_tensor else f"{type(result).__name__}"  # type: ignore[attr-defined]
    raise SetupError(
        f"{signatures.name_of(call)}{_at(call)} of a {input.dtype} of shape {tuple(input.shape)} returned a {got}: "
        "return None, the tensor itself, or a new one of its type and shape"
    )


def _at(call: Operation) -> str:
    place = definition_line(call)
    return f" ({place})" if place else ""


def exchange(start: Operation, send: Operation, recv: Operation, end: Operation) -> Operation:
    """``send_recv`` by a send and a receive within one group."""

    def send_recv(output: Tensor, input: Tensor, dst: int, src: int) -> None:
        start()
        try:
            send(input, dst)
            recv(output, src)
        finally:
            # NCCL's groups belong to the thread: left open, it would hold back everybody else's calls too.
            end()

    return send_recv
