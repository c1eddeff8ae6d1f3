"""The messages of each preset are those that were worked out by hand, with two and with eight ranks."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nccl_bench.catalog.timings import Timing
from nccl_bench.config.model import Model, model_values, parse_model
from nccl_bench.config.presets import preset_file
from nccl_bench.config.toml import read_toml
from nccl_bench.config.workload import Workload
from nccl_bench.errors import UsageError
from nccl_bench.plan.model import workload_of_model

Counts = dict[tuple[str, int, Timing], int]
GRAPH, EAGER = Timing.GRAPH, Timing.EAGER


def workload_of_preset(name: str, ranks: int, device: str = "cuda", changes: str = "layers=61") -> Workload:
    """Return the workload of a preset, with the changes of a command line."""
    layers = read_toml(preset_file(name))["model"], *([model_values(changes)] if changes else [])
    return workload_of_model(parse_model(device, *layers)[0], ranks)


def workload_of_text(text: str, ranks: int) -> Workload:
    """Return the workload of a command line."""
    return workload_of_model(parse_model("cuda", model_values(text))[0], ranks)


def counts_of(workload: Workload) -> Counts:
    """Return how often each message is sent."""
    return {(each.collective, each.size_bytes, each.timing): each.count for each in workload.messages}


def tensor_parallel(layers: int, hidden: int, vocabulary: int) -> Counts:
    """Return what a preset with tensor parallelism sends: bfloat16 has 2 bytes."""
    of_step = 1 + layers + layers  # after the embedding, after attention, after the MLP or the experts
    counts: Counts = {}
    for tokens in (1, 32, 128, 512):
        counts["all_reduce", tokens * hidden * 2, GRAPH] = 32 * of_step
        counts["all_gather", tokens * vocabulary * 2, GRAPH] = 32
    counts["all_reduce", 8192 * hidden * 2, EAGER] = of_step
    counts["all_gather", 1 * vocabulary * 2, EAGER] = 1  # only the last token of a prompt needs logits
    return counts


@pytest.mark.parametrize("ranks", [2, 8])
@pytest.mark.parametrize(
    ("name", "layers", "hidden", "vocabulary"),
    [("llama3-70b-tp", 80, 8192, 128256), ("qwen3-235b-tp", 94, 4096, 151936), ("deepseek-v3-tp", 61, 7168, 129280)],
)
def test_tensor_parallel_presets(name: str, layers: int, hidden: int, vocabulary: int, ranks: int) -> None:
    workload = workload_of_preset(name, ranks, changes="")
    assert counts_of(workload) == tensor_parallel(layers, hidden, vocabulary)
    assert workload.steps == 4 * 32 + 1
    assert {message.ranks for message in workload.messages} == {ranks}


def test_a_preset_in_bytes() -> None:
    assert counts_of(workload_of_preset("llama3-70b-tp", 8, changes="tokens=1,prefill=0,decode_steps=1")) == {
        ("all_reduce", 16 * 1024, GRAPH): 161,  # 1 x 8192 x 2 bytes, 1 + 2 x 80 calls
        ("all_gather", 256512, GRAPH): 1,  # 1 x 128256 x 2 bytes
    }


@pytest.mark.parametrize(("experts", "lacks"), [("", False), (",experts=4", True)])
def test_context_parallel_ranks_lack_the_messages_of_deepep_if_there_are_experts(experts: str, lacks: bool) -> None:
    workload = workload_of_text(f"layers=2,hidden=64,latent=8,prefill=8,cp=all{experts}", 2)
    assert any("DeepEP" in remark for remark in workload.remarks) == lacks


def test_context_parallel_preset() -> None:
    workload = workload_of_preset("deepseek-v3.2-cp", 8, changes="")
    mib = 1024**2
    assert counts_of(workload) == {
        ("all_gather", 36 * mib, EAGER): 61,  # 32768 tokens x 576 x 2 bytes
        ("all_gather", 8 * mib, EAGER): 61,  # 32768 tokens x 128 x 2 bytes
        ("all_gather", 448 * mib, EAGER): 1,  # 32768 tokens x 7168 x 2 bytes
        ("all_gather", 258560, EAGER): 1,  # 1 x 129280 x 2 bytes
    }
    assert workload.steps == 1


def test_data_parallel_preset() -> None:
    workload = workload_of_preset("deepseek-v3-dp", 8, changes="")
    expected: Counts = {}
    for collective in ("all_gather", "reduce_scatter"):
        for tokens in (1, 16, 64, 128):
            # 8 ranks x tokens x 7168 x 2 bytes, in each of 61 - 3 layers. 64 tokens of each rank are 7 MiB.
            expected[collective, 8 * tokens * 7168 * 2, GRAPH] = 32 * 58
        # In a prefill the ranks have different numbers of tokens, 1024 in the mean.
        expected[f"{collective}v", 8 * 1024 * 7168 * 2, EAGER] = 58
    assert counts_of(workload) == expected
    assert counts_of(workload)["all_gather", 7 * 1024**2, GRAPH] == 32 * 58


def test_reasons_add_up_to_the_calls_of_a_step() -> None:
    sums = "1 after the embedding, 61 after attention, 3 after the MLP, 58 after the experts"
    reasons = [message.reason for message in workload_of_preset("deepseek-v3-tp", 8, changes="tokens=32").messages]
    assert reasons == [
        f"tensor-parallel decode of 32 tokens: {sums}",
        "tensor-parallel decode of 32 tokens: 1 of the logits",
        f"tensor-parallel prefill of 8192 tokens: {sums}",
        "tensor-parallel prefill of 8192 tokens: 1 of the logits",
    ]


def test_messages_of_different_steps_that_are_the_same_are_one_message() -> None:
    workload = workload_of_text("layers=2,hidden=64,vocabulary=256,tokens=4,16", 2)
    same = [message for message in workload.messages if message.size_bytes == 2048]
    # 16 tokens x 64 x 2 bytes are summed, and 4 tokens x 256 x 2 bytes are gathered.
    assert [(each.collective, each.count) for each in same] == [("all_gather", 1), ("all_reduce", 5)]
    model = "layers=2,hidden=64,experts=4,dp=all,tokens=4,prefill=4"
    assert [message.timing for message in workload_of_text(model, 2).messages] == [GRAPH, GRAPH, EAGER, EAGER]


def test_experts_on_groups_of_ranks_are_summed_in_two_groups() -> None:
    workload = workload_of_text("layers=3,hidden=64,experts=8,dense_layers=1,ep=4,tokens=1", 8)
    assert [(each.ranks, each.count) for each in workload.messages] == [(8, 1 + 3 + 1), (4, 2), (2, 2)]


def test_ranks_that_the_run_does_not_have_still_have_their_messages() -> None:
    workload = workload_of_text("layers=3,hidden=64,dp=8,experts=8,tokens=2", 2)
    assert {(each.size_bytes, each.ranks) for each in workload.messages} == {(8 * 2 * 64 * 2, 8)}


def test_blocks_of_a_context_parallel_prompt_are_padded_to_the_longest() -> None:
    workload = workload_of_text("layers=1,hidden=64,heads=4,kv_heads=2,cp=all,prefill=10", 4)
    # 3 tokens of each of 4 ranks; keys have 2 heads of 64 / 4, and values, too.
    assert counts_of(workload) == {("all_gather", 12 * 32 * 2, EAGER): 2, ("all_gather", 12 * 64 * 2, EAGER): 1}


def test_the_vocabulary_is_padded_as_engines_pad_it() -> None:
    workload = workload_of_text("layers=1,hidden=64,vocabulary=100,tokens=1", 2)
    assert ("all_gather", 128 * 2, GRAPH) in counts_of(workload)


@pytest.mark.parametrize(
    "name", ["llama3-70b-tp", "qwen3-235b-tp", "deepseek-v3-tp", "deepseek-v3.2-cp", "deepseek-v3-dp"]
)
def test_a_preset_is_small_on_the_cpu_and_sends_the_same_calls(name: str) -> None:
    whole, small = (workload_of_preset(name, 2, device, changes="") for device in ("cuda", "cpu"))
    assert max(message.size_bytes for message in small.messages) <= 1024**2
    calls = [[(each.collective, each.timing, each.count) for each in work.messages] for work in (whole, small)]
    assert calls[0] == calls[1]


@pytest.mark.parametrize(
    ("text", "ranks", "message"),
    [
        ("layers=1,hidden=64,tokens=1", 1, "the model sends nothing on one rank: give --nproc 2 or more"),
        ("layers=1,hidden=64,tokens=1,heads=64", 3, "3 ranks cannot share 64 attention heads evenly: give another"),
        ("layers=1,hidden=64,tokens=1,kv_heads=4", 6, "6 ranks cannot share 4 heads of keys and values evenly"),
        ("layers=1,hidden=64,tokens=1,vocabulary=64", 6, "6 ranks cannot share a vocabulary of 64 evenly"),
        ("layers=1,hidden=64,tokens=1,experts=8,ep=4", 6, "6 ranks cannot share experts in groups of ep = 4 ranks"),
        ("layers=1,hidden=9999999,tokens=9999999,dp=1000000,experts=1000000", 2, "the model has a message of"),
    ],
)
def test_ranks_that_cannot_share_a_model_are_refused(text: str, ranks: int, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        workload_of_text(text, ranks)
    assert message in str(caught.value)


VALUES = st.none() | st.booleans() | st.integers(-1, 2**70) | st.floats() | st.sampled_from(["all", "1:9:x2", "2", "x"])
KEYS = st.sampled_from([*(field.name for field in fields(Model)), "cpu"])


@given(st.dictionaries(KEYS, VALUES | st.lists(VALUES, max_size=3) | st.dictionaries(KEYS, VALUES, max_size=3)))
def test_any_values_make_a_workload_or_are_refused(values: dict[str, object]) -> None:
    try:
        model, _ = parse_model("cpu", {"layers": 2, "hidden": 64, "tokens": 1, **values})
        assert workload_of_model(model, 2).messages
    except UsageError:
        pass


def test_no_message_is_larger_than_a_record_can_hold() -> None:
    values: dict[str, Any] = {"layers": 10_000_000, "hidden": 1, "tokens": 1, "decode_steps": 1_000_000}
    assert workload_of_model(parse_model("cuda", values)[0], 2).messages[0].count < 2**63
