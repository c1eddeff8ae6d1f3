"""The questions that an engine asks its communicator before a call: whether it takes the message, and how."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from nccl_bench.catalog.collectives import Placement
from nccl_bench.communicators.observations import Reply
from nccl_bench.user_arms import signatures

# Collective -> the methods that an engine asks, each with the input of the call.
_QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "all_reduce": (
        *("get_all_reduce_mode", "can_all_reduce", "should_custom_ar", "should_quick_allreduce"),
        *("should_torch_symm_mem_allreduce", "should_mscclpp_allreduce", "should_pcie_ipc_ar"),
    ),
    "all_gather": ("should_custom_ag",),
}
# A method of the answer -> the placement that is allowed if this method returns True.
_ALLOWED = {"can_inplace": Placement.IN_PLACE, "can_outplace": Placement.RETURNED}


class Inquiries:
    """The questions that a user's object answers."""

    def __init__(self, user_object: Any) -> None:
        self._questions: dict[str, Callable[[Tensor], Any]] = {}
        for collective, names in _QUESTIONS.items():
            methods = (getattr(user_object, name, None) for name in names)
            answering = (method for method in methods if callable(method) and signatures.takes(method, None))
            if (method := next(answering, None)) is not None:
                self._questions[collective] = method

    def concern(self, collective: str) -> bool:
        """Return whether the object answers questions about ``collective``."""
        return collective in self._questions

    def ask(self, collective: str, input: Tensor) -> Reply:
        """Return the answer of the object about a call of ``collective`` with ``input``."""
        question = self._questions.get(collective)
        if question is None:
            return Reply()
        answer = question(input)
        if answer is None or answer is False:
            return Reply(declined=f"{signatures.name_of(question).rpartition('.')[2]} returned {answer}")
        allowed = {
            placement: method for name, placement in _ALLOWED.items() if callable(method := getattr(answer, name, None))
        }
        if not allowed:
            return Reply()
        return Reply(placements=frozenset(placement for placement, method in allowed.items() if method()))
