"""The option ``--model`` and the table ``model`` of a preset, as the workload of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from nccl_bench.cli.destination import refuse_unwritable, write_workload_text
from nccl_bench.config.model import model_values, parse_model
from nccl_bench.config.workload import Workload, workload_text
from nccl_bench.errors import UsageError
from nccl_bench.plan.model import workload_of_model


def with_workload(
    layers: Sequence[Mapping[str, object]], text: str | None, device: str, world_size: int
) -> list[Mapping[str, object]]:
    """Return the layers of options, with a workload for ``world_size`` ranks instead of their models.

    ``text`` is the value of --model, which changes the model of a preset or is a model of its own. Raises
    ``UsageError`` if a model is malformed, or if the layers also have a workload.
    """
    tables = {str(layer["name"]): layer["model"] for layer in layers if "model" in layer}
    rest: list[Mapping[str, object]] = [
        {name: value for name, value in layer.items() if name != "model"} for layer in layers
    ]
    if text is not None:
        tables[f"--model {text}"] = model_values(text)
    if not tables:
        return rest
    if any(layer.get("workload") is not None for layer in layers):
        raise UsageError("a workload and a model are given, and each decides the messages: leave one of them out")
    shapes = []
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise UsageError(f"{name} has the model {table!r}: give a table, such as [model] with layers = 61 below it")
        shapes.append(table)
    model, remarks = parse_model(device, *shapes)
    return [*rest, {"workload": workload_of_model(model, world_size, source=tuple(tables), remarks=remarks)}]


def write_workload(workload: Workload | None, file: Path) -> None:
    """Write the workload of a run to ``file``, the value of --save-workload."""
    if workload is None:
        raise UsageError("--save-workload writes the messages of a model: give --model or a --preset of a model, too")
    refuse_unwritable(file, "--save-workload")
    write_workload_text(workload_text(workload), file, "--save-workload")
