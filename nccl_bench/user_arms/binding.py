"""The operations of our protocol as calls of a user's methods.

A user's method that takes our arguments is used unchanged. For any other method a function is generated once. This
function only calls the user's method: one frame, no ``*args``, no look at a signature. Every adapter adds the same
small cost to each call, whatever the adapter translates (``tests/experiments/adapter_cost.py`` measures it).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import update_wrapper
from inspect import Parameter
from typing import Any, NoReturn

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.errors import InvalidArgumentError
from nccl_bench.user_arms import signatures
from nccl_bench.user_arms.blocks import ListCall
from nccl_bench.user_arms.forms import FORMS, Form, Method
from nccl_bench.user_arms.parameters import Role, annotates_list, is_list, roles_of

# The role of each parameter of our operations.
_ROLES: Mapping[str, Role] = {
    "tensor": Role.INPUT,
    "input": Role.INPUT,
    "output": Role.OUTPUT,
    "out": Role.OUTPUT,
    "src": Role.SOURCE,
    "dst": Role.DESTINATION,
    "op": Role.OP,
    "sizes": Role.SIZES,
}
_DEFAULTS = {"op": "SUM", "sizes": "None", "out": "None"}
# An expression in a generated call -> the words for it in a description.
_WORDS = {"tensor": "input", "redops[op]": "op", "current()": "the current stream"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """An operation of our protocol as a call of a user's method."""

    method: Method  # the user's method
    call: Method  # the function with our arguments; it raises InvalidArgumentError for an option not in `options`
    options: frozenset[str]  # our optional arguments that the method takes
    text: str  # the call of the user's method in words: ``all_gather(input, out=output)``
    has_lists: bool  # True if the method takes or returns a list of blocks in place of a tensor
    gives_output: bool  # True if the method gets the tensor for the output
    returns: bool | None  # True if the method is annotated to return a tensor, False for `None`; otherwise None
    chooses_placement: bool  # True if the method has a parameter that chooses between in place and returning


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """A user's method that cannot do an operation."""

    reason: str  # the method's signature, and what does not fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Binder:
    """The maker of operations from a user's methods."""

    redops: Mapping[RedOp, object] | None  # our reduction -> the user's reduction; None if both are the same
    current: Callable[[], Any] | None  # the source of the `stream` argument; None if calls get no stream
    rank: int  # this rank's number in the group
    world_size: int  # the number of ranks

    def bind(self, name: str, method: Method) -> Binding | Misfit:
        """Return the operation ``name`` as a call of ``method``, or the reason why the method cannot do it."""
        form = FORMS[name]
        placed = [_ROLES[leading] for leading in form.leading]
        roles = roles_of(method, placed)
        values = {
            parameter.name: value
            for role, parameter in roles.items()
            if (value := self._value(role, parameter, form)) is not None
        }
        if reason := self._misfit(method, form, roles, values):
            return Misfit(reason=f"{signatures.signature_text(method)} {reason}")
        arguments, by_name = _split(method, values, form) or ([], {})
        taken = frozenset(option for option in form.options if _ROLES[option] in roles)
        if self._is_ours(form, method, arguments, by_name):
            call = method
        else:
            call = self._generate(name, form, method, arguments, by_name, taken)
        lists = [leading for leading in form.leading if (role := _ROLES[leading]) in roles and is_list(roles[role])]
        if lists:
            parts = {form.leading.index(each): self.world_size if each in form.blocks else 1 for each in lists}
            root = form.leading.index("dst") if form.only_root_has_blocks else None
            call = ListCall(call, parts, root=root, rank=self.rank)
        return Binding(
            method=method,
            call=call,
            options=taken,
            text=_text(method, form, arguments, by_name, lists),
            has_lists=bool(lists) or annotates_list(signatures.signature_of(method).return_annotation),
            gives_output=Role.OUTPUT in roles and roles[Role.OUTPUT].name in values,
            returns=signatures.returns_tensor(method),
            chooses_placement=Role.IN_PLACE in roles,
        )

    def _value(self, role: Role, parameter: Parameter, form: Form) -> str | None:
        """Return the expression to pass for ``parameter``; ``None`` if no argument is passed."""
        ours = {_ROLES[each]: each for each in (*form.leading, *form.options)}
        has_default = parameter.default is not parameter.empty
        match role:
            case Role.OP if role in ours:
                return "op" if self.redops is None else "redops[op]"
            case Role.STREAM if self.current is not None:
                return "current()"
            case Role.OUTPUT if form.in_place and role not in ours:
                return ours[Role.INPUT]  # as in NCCL, the same tensor twice means in place
            case Role.IN_PLACE if form.in_place is not None:
                return None if parameter.default is form.in_place else str(form.in_place)
            case Role.DIMENSION if parameter.default != 0:
                return "0"
            case Role.ASYNCHRONOUS if not has_default:
                return "False"
        return ours.get(role)

    def _misfit(
        self, method: Method, form: Form, roles: Mapping[Role, Parameter], values: Mapping[str, str]
    ) -> str | None:
        """Return the reason why ``method`` does not fit; ``None`` if it fits."""
        parameters = signatures.named_parameters(method)
        needed = [each for each in parameters if each.default is each.empty and each.name not in values]
        absent = [each for each in form.leading if _ROLES[each] not in roles]
        if needed:
            return f"needs {', '.join(each.name for each in needed)}: give it a default"
        if absent and not signatures.takes_any_number(method):
            return f"has no parameters for ({', '.join(form.leading)})"
        if self.current is not None and Role.STREAM not in roles:
            return "takes no stream, and without one it would run on the object's private stream"
        if _split(method, values, form) is None:
            return "has parameters that can be passed neither by name nor in order"
        return None

    def _is_ours(self, form: Form, method: Method, arguments: Sequence[str], by_name: Mapping[str, str]) -> bool:
        """Return whether ``method`` takes our arguments as they are."""
        places = [parameter.name for parameter in signatures.positional(method)][len(arguments) :]
        options = {option: option for option in form.options}
        return tuple(arguments) == form.leading and by_name == options and tuple(places[: len(options)]) == form.options

    def _generate(
        self,
        name: str,
        form: Form,
        method: Method,
        arguments: Sequence[str],
        by_name: Mapping[str, str],
        taken: frozenset[str],
    ) -> Method:
        parameters = [*form.leading, *(f"{option}={_DEFAULTS[option]}" for option in form.options)]
        refused = [option for option in form.options if option not in taken]
        passed = [*arguments, *(f"{key}={value}" for key, value in by_name.items())]
        lines = [
            f"def {name}({', '.join(parameters)}):",
            *(f"    if {option} is not {_DEFAULTS[option]}: refuse({option!r}, {option})" for option in refused),
            f"    return method({', '.join(passed)})",
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


def _text(
    method: Method, form: Form, arguments: Sequence[str], by_name: Mapping[str, str], lists: Sequence[str]
) -> str:
    """Return a call in words. ``lists`` are the tensors that the method takes as lists."""

    def in_words(value: str) -> str:
        text = _WORDS.get(value, value)
        if value not in lists:
            return text
        return f"blocks of {text}" if value in form.blocks else f"[{text}]"

    passed = [*map(in_words, arguments), *(f"{key}={in_words(value)}" for key, value in by_name.items())]
    return f"{signatures.name_of(method).rpartition('.')[2]}({', '.join(passed)})"


def _split(method: Method, values: Mapping[str, str], form: Form) -> tuple[list[str], dict[str, str]] | None:
    """Return the arguments by position and those by name; ``None`` if a parameter can be passed in neither way.

    Tensors and ranks are passed by position as long as no parameter before them is left out.
    """
    arguments: list[str] = []
    by_name: dict[str, str] = {}
    if signatures.takes_any_number(method) and not {*form.leading} <= {*values.values()}:
        return [*form.leading], {}
    in_order = True
    for parameter in signatures.named_parameters(method):
        value = values.get(parameter.name)
        in_order = in_order and value is not None and parameter.kind is not Parameter.KEYWORD_ONLY
        if value is None:
            continue
        ours = value in form.leading or (value in _ROLES and parameter.default is parameter.empty)
        if in_order and (ours or parameter.kind is Parameter.POSITIONAL_ONLY):
            arguments.append(value)
        elif parameter.kind is Parameter.POSITIONAL_ONLY:
            return None
        else:
            in_order = False
            by_name[parameter.name] = value
    return arguments, by_name
