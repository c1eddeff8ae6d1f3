"""Mutants: threads with streams of their own, and the host that does not wait for a copy."""

from __future__ import annotations

import queue
import threading
from functools import partial

from torch import Tensor

from tests.support.audit_programs.kit import CALLS, Kit, mutant


@mutant(("write", "collective in a thread"))
def reduces_in_a_thread_whose_current_stream_is_another(kit: Kit) -> None:
    tensor = kit.tensor()
    kit.submit(tensor.fill_, 1)  # write
    thread = threading.Thread(target=lambda: kit.free.all_reduce(tensor))  # collective in a thread
    thread.start()
    thread.join()


@mutant(("prefetch", "collective"))
def hands_a_tensor_to_another_thread_without_an_event(kit: Kit) -> None:
    ready: queue.Queue[Tensor] = queue.Queue()

    def prefetch() -> None:
        with kit.streams.stream(kit.stream()):
            tensor = kit.tensor()
            kit.submit(tensor.fill_, 1)  # prefetch
            ready.put(tensor)

    thread = threading.Thread(target=prefetch)
    thread.start()
    kit.free.all_reduce(ready.get())  # collective
    thread.join()


@mutant(("copy to the host", "token"))
def reads_the_token_before_its_copy_has_ended(kit: Kit) -> None:
    logits, token = kit.tensor(), kit.pinned()
    kit.submit(logits.fill_, 1)
    kit.free.all_reduce(logits)
    kit.submit(partial(token.copy_, logits, non_blocking=True))  # copy to the host
    token.max()  # token


@mutant(("copy to the device", "next batch"))
def fills_the_hosts_buffer_again_before_its_copy_has_ended(kit: Kit) -> None:
    batch, tensor = kit.pinned(), kit.tensor()
    batch.fill_(1)
    kit.submit(partial(tensor.copy_, batch, non_blocking=True))  # copy to the device
    batch.fill_(2)  # next batch
    kit.free.all_reduce(tensor)


@mutant(("copy", "next logits"))
def overwrites_the_logits_while_a_side_stream_copies_them(kit: Kit) -> None:
    logits, token, side = kit.tensor(), kit.tensor(), kit.stream()
    for _ in range(CALLS):
        kit.submit(logits.fill_, 1)  # next logits
        kit.free.all_reduce(logits)
        side.wait_stream(kit.caller)
        with kit.streams.stream(side):
            kit.submit(token.copy_, logits)  # copy
