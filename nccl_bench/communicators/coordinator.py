"""The group coordinator of an inference engine: it chooses a backend for each collective and captures CUDA graphs.

The code follows the old and new ``parallel_state.GroupCoordinator`` of SGLang. The new coordinator uses the current
stream. The old coordinator passes a stream and ``use_current_stream`` through every call. Both share all other code.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nccl_bench.catalog.collectives import RedOp
from nccl_bench.catalog.routes import ROUTES, Backend, Mode, Routes
from nccl_bench.communicators import arguments
from nccl_bench.communicators.base import ArmCommunicator
from nccl_bench.communicators.dedicated_stream import DedicatedStreamCommunicator
from nccl_bench.communicators.stream_free import StreamFreeCommunicator
from nccl_bench.communicators.torch_distributed import ProcessGroupCommunicator
from nccl_bench.errors import InvalidArgumentError
from nccl_bench.transports.device import Device

_EitherCommunicator = StreamFreeCommunicator | DedicatedStreamCommunicator


class GroupCoordinator(ArmCommunicator):
    """A coordinator that sends each collective to torch.distributed (``device_group``) or to its ``communicator``.

    The table ``routes`` chooses the backend of each operation. ``group`` is a Gloo group, which only construction and
    ``barrier`` use. If ``routes`` sends eager operations to the communicator, the communicator is always enabled.
    Otherwise, as with the default ``routes``, it is enabled only within ``graph_capture()``. All work is ordered with
    the current stream. Construction is collective.
    """

    has_routes = True
    communicator: _EitherCommunicator

    def __init__(self, group: dist.ProcessGroup, device: Device, routes: Routes = ROUTES) -> None:
        self.group = group
        self.rank = dist.get_rank(group)
        self.world_size = dist.get_world_size(group)
        self._streams = device.streams
        self._routes = routes
        self._mode = Mode.EAGER
        self._capture_stream = device.streams.new_stream()
        with ExitStack() as undo:
            self.device_group = ProcessGroupCommunicator(group, device)
            undo.callback(self.device_group.close)
            self.untraced_path = self.device_group.untraced_path
            self.communicator = self._new_communicator(group, device)
            eager = {row[Mode.EAGER] for row in routes.values()}
            undo.enter_context(self.communicator.change_state(Backend.COMMUNICATOR in eager))
            undo.callback(self.communicator.close)
            # `close` undoes the steps above, the last step first.
            self._open = undo.pop_all()

    def _new_communicator(self, group: dist.ProcessGroup, device: Device) -> _EitherCommunicator:
        return StreamFreeCommunicator(group, device)

    def _enabled(self, stream: Any) -> AbstractContextManager[None]:
        """Enable the communicator within a ``with`` block, for work on ``stream``."""
        return self.communicator.change_state(True)

    def _options(self, carrier: Any) -> dict[str, Any]:
        """Return the arguments that the backend ``carrier`` gets in addition to the arguments of an operation."""
        return {}

    def _carrier(self, operation: str) -> Any:
        return self.device_group if self._routes[operation][self._mode] is Backend.TORCH else self.communicator

    # -- state ---------------------------------------------------------------------------------------------------

    def change_state(self, enable: bool | None = None) -> AbstractContextManager[None]:
        """Enable or disable the communicator within a ``with`` block; torch.distributed is always enabled."""
        return self.communicator.change_state(enable)

    @property
    def inner(self) -> _EitherCommunicator:
        """The communicator that the coordinator uses besides torch.distributed."""
        return self.communicator

    def libraries(self) -> list[str]:
        return [*self.communicator.libraries(), *self.device_group.libraries()]

    def traced(self) -> AbstractContextManager[list[tuple[str, int]]]:
        """Record the calls to the communicator's transport in a ``with`` block, but no calls to torch.distributed."""
        return self.communicator.traced()

    @property
    def async_gather(self) -> Callable[..., None]:
        """The coordinator's all-gather for context parallelism."""
        return self.cp_all_gather_into_tensor_async

    @contextmanager
    def graph_capture(self) -> Iterator[Any]:
        """Make the capture stream current, use the routes for graphs, and yield the capture stream.

        The capture stream first waits for the current stream; at the end, the current stream waits for the capture
        stream. Within the ``with`` block the communicator is enabled, and a graph can be captured by
        ``Streams.capture(body, stream)`` or ``torch.cuda.graph``. The communicator's state, the routes and the current
        stream are restored even after an exception.
        """
        stream, caller, mode = self._capture_stream, self._streams.current_stream(), self._mode
        stream.wait_stream(caller)
        with self._enabled(stream), self._streams.stream(stream):
            self._mode = Mode.GRAPH
            try:
                yield stream
            except BaseException as error:
                try:
                    caller.wait_stream(stream)
                except RuntimeError as join_error:
                    # The `with` block raised `error` and left a capture open. Raise `error`, with a note.
                    error.add_note(f"After this error, the capture stream could not be joined: {join_error}")
                raise
            finally:
                self._mode = mode
            caller.wait_stream(stream)

    def private_streams(self) -> list[Any]:
        """Return the capture stream, and the communicator's private stream if it has one."""
        private = self.communicator.stream
        return [self._capture_stream] if private is None else [self._capture_stream, private]

    def close(self) -> None:
        """Close both backends. Callers must first reset the graphs of both backends."""
        self._open.close()

    # -- operations ----------------------------------------------------------------------------------------------

    def all_reduce(self, tensor: Tensor, op: RedOp = RedOp.SUM) -> None:
        carrier = self._carrier("all_reduce")
        carrier.all_reduce(tensor, op, **self._options(carrier))

    def outplace_all_reduce(self, input: Tensor, out: Tensor | None = None, op: RedOp = RedOp.SUM) -> Tensor:
        """Reduce ``input`` over all ranks into ``out`` or, without ``out``, into a new tensor; return the output.

        If torch.distributed reduces, first copy ``input`` to the output, then reduce the output in place.
        """
        carrier = self._carrier("all_reduce")
        output = torch.empty_like(input) if out is None else out
        if carrier is not self.device_group:
            carrier.outplace_all_reduce(input, output, op, **self._options(carrier))
            return output
        if output.dtype is not input.dtype or output.numel() != input.numel():
            arguments.refuse_pair(output, input, input.numel())
        carrier._require_enabled()  # before the copy, so that a refused call writes nothing
        self._streams.submit(output.copy_, input)
        carrier.all_reduce(output, op)
        return output

    def return_all_reduce(self, input: Tensor, op: RedOp = RedOp.SUM) -> Tensor:
        """Reduce ``input`` over all ranks into a new tensor, and return the new tensor, as engines' coordinators do."""
        return self.outplace_all_reduce(input, None, op)

    def all_gather(self, output: Tensor, input: Tensor, sizes: Sequence[int] | None = None) -> None:
        if sizes is not None:
            self.all_gatherv(output, input, sizes)
            return
        carrier = self._carrier("all_gather")
        carrier.all_gather(output, input, **self._options(carrier))

    def all_gatherv(self, output: Tensor, input: Tensor, sizes: Sequence[int]) -> None:
        """Gather a block of every rank into ``output``; the block of rank r has ``sizes[r]`` rows."""
        carrier = self._carrier("all_gatherv")
        carrier.all_gather(output, input, sizes, **self._options(carrier))

    def reduce_scatter(
        self, output: Tensor, input: Tensor, op: RedOp = RedOp.SUM, sizes: Sequence[int] | None = None
    ) -> None:
        if sizes is not None:
            self.reduce_scatterv(output, input, sizes, op)
            return
        carrier = self._carrier("reduce_scatter")
        carrier.reduce_scatter(output, input, op, **self._options(carrier))

    def reduce_scatterv(self, output: Tensor, input: Tensor, sizes: Sequence[int], op: RedOp = RedOp.SUM) -> None:
        """Reduce ``input``; rank r gets a block of ``sizes[r]`` rows in ``output``."""
        carrier = self._carrier("reduce_scatterv")
        carrier.reduce_scatter(output, input, op, sizes, **self._options(carrier))

    def cp_all_gather_into_tensor_async(self, output: Tensor, input: Tensor, stream: Any) -> None:
        """Gather on ``stream``, for context parallelism. The caller must order ``stream`` with the current stream.

        The routes are not used. If the communicator is disabled, torch.distributed gathers on the current stream.
        Raises ``InvalidArgumentError`` if ``stream`` is ``None``.
        """
        if stream is None:
            raise InvalidArgumentError(
                "the asynchronous all-gather got no stream: pass a stream that waits for the input, and "
                "make the current stream wait for this stream before the output is read"
            )
        self._cp_all_gather(output, input, stream)

    def _cp_all_gather(self, output: Tensor, input: Tensor, stream: Any) -> None:
        if self.communicator.disabled:
            self.device_group.all_gather(output, input)
        else:
            self.communicator.cp_all_gather_into_tensor(output, input, stream)

    def all_to_all(self, output: Tensor, input: Tensor) -> None:
        carrier = self._carrier("all_to_all")
        carrier.all_to_all(output, input, **self._options(carrier))

    def broadcast(self, tensor: Tensor, src: int, out: Tensor | None = None) -> None:
        carrier = self._carrier("broadcast")
        carrier.broadcast(tensor, src, out, **self._options(carrier))

    def reduce(self, tensor: Tensor, dst: int, op: RedOp = RedOp.SUM, out: Tensor | None = None) -> None:
        carrier = self._carrier("reduce")
        carrier.reduce(tensor, dst, op, out, **self._options(carrier))

    def send(self, tensor: Tensor, dst: int) -> None:
        carrier = self._carrier("send")
        carrier.send(tensor, dst, **self._options(carrier))

    def recv(self, tensor: Tensor, src: int) -> None:
        carrier = self._carrier("recv")
        carrier.recv(tensor, src, **self._options(carrier))

    def send_recv(self, output: Tensor, input: Tensor, dst: int, src: int) -> None:
        carrier = self._carrier("send_recv")
        carrier.send_recv(output, input, dst, src, **self._options(carrier))

    def barrier(self) -> None:
        """Block the host until every rank has called ``barrier``. The barrier uses ``group`` and no stream."""
        dist.barrier(group=self.group)


class LegacyGroupCoordinator(GroupCoordinator):
    """The old design of the coordinator. No call uses the communicator's private stream.

    With ``use_current_stream`` the communicator itself chooses the current stream. Otherwise every call passes the
    current stream as an argument.
    """

    communicator: DedicatedStreamCommunicator

    def __init__(
        self, group: dist.ProcessGroup, device: Device, routes: Routes = ROUTES, use_current_stream: bool = False
    ) -> None:
        self.use_current_stream = use_current_stream
        super().__init__(group, device, routes)

    def _new_communicator(self, group: dist.ProcessGroup, device: Device) -> DedicatedStreamCommunicator:
        return DedicatedStreamCommunicator(group, device, self.use_current_stream)

    def _enabled(self, stream: Any) -> AbstractContextManager[None]:
        return self.communicator.change_state(True, stream)

    def _options(self, carrier: Any) -> dict[str, Any]:
        if carrier is self.device_group:
            return {}
        return {"stream": None if self.use_current_stream else self._streams.current_stream()}

    def cp_all_gather_into_tensor_async(self, output: Tensor, input: Tensor, stream: Any = None) -> None:
        """Gather on ``stream``; for ``None``, the communicator chooses the stream."""
        self._cp_all_gather(output, input, stream)
