"""The shape of a model is read from a command line and from a table, and a wrong value is named."""

from __future__ import annotations

from typing import Any

import pytest

from nccl_bench.config.model import Model, Parallel, model_values, parse_model
from nccl_bench.errors import UsageError

SMALL: dict[str, object] = {"layers": 2, "hidden": 64, "tokens": 1}


def parsed(text: str) -> Model:
    """Return the model of a command line."""
    return parse_model("cuda", model_values(text))[0]


def test_a_command_line_gives_a_model_that_all_ranks_share() -> None:
    model = parsed("hidden=7168,layers=61,tokens=1:512:x2")
    assert model == Model(hidden=7168, layers=61, tokens=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512), tp=None)


def test_a_list_of_batch_sizes_has_commas_too() -> None:
    model = parsed("layers=2, hidden=64, tokens=1,32,8:16:+4 ,prefill=128,dtype=half")
    assert (model.tokens, model.prefill, model.dtype) == ((1, 32, 8, 12, 16), 128, "float16")


@pytest.mark.parametrize(
    ("values", "way", "degree"),
    [
        ({}, Parallel.TENSOR, None),
        ({"tp": 8}, Parallel.TENSOR, 8),
        ({"cp": "all", "latent": 576, "tokens": [], "prefill": 64}, Parallel.CONTEXT, None),
        ({"dp": 4, "experts": 8}, Parallel.DATA, 4),
    ],
)
def test_one_key_says_how_the_ranks_share_the_model(values: Any, way: Parallel, degree: int | None) -> None:
    model, _ = parse_model("cuda", SMALL | values)
    assert (model.parallel, getattr(model, way)) == (way, degree)


def test_values_for_a_device_are_used_there_and_named_and_later_layers_win() -> None:
    preset = SMALL | {"vocabulary": 640, "cpu": {"hidden": 8, "vocabulary": 64}}
    assert parse_model("cuda", preset) == (Model(layers=2, hidden=64, vocabulary=640, tokens=(1,), tp=None), ())
    model, remarks = parse_model("cpu", preset, model_values("vocabulary=320,layers=3"))
    assert model == Model(layers=3, hidden=8, vocabulary=320, tokens=(1,), tp=None)
    assert remarks == ("the sizes of the model itself: on the cpu, hidden is 8 instead of 64",)


def test_a_second_way_to_share_the_model_is_refused_in_the_values_for_a_device_too() -> None:
    preset = SMALL | {"tp": 8, "cpu": {"dp": 2, "experts": 8}}
    assert parse_model("cuda", preset)[0].parallel is Parallel.TENSOR
    with pytest.raises(UsageError, match=r"^the model has tp and dp: give one of tp, cp, dp$"):
        parse_model("cpu", preset)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layers=2,hiden=64,tokens=1", "the model has the unknown key 'hiden': did you mean 'hidden'?"),
        ("llama", "--model is 'llama': give KEY=VALUE with commas between them, such as hidden=7168,layers=61"),
        ("layers=2,layers=3", "--model has the key 'layers' twice: give it once"),
        ("layers=2,tokens=1", "the model has no hidden: give at least layers, hidden, and tokens or prefill"),
        ("layers=2,hidden=64", "neither tokens nor prefill is given: give tokens=1,32 or prefill=8192"),
        ("layers=0,hidden=64,tokens=1", "the model: layers is '0': give a whole number from 1 to 10,000,000"),
        (
            "layers=2,hidden=64,tokens=" + ",".join(map(str, range(1001, 2001))),
            "--model has 5,025 characters: give at most 4,088, with tokens as a sweep such as tokens=1:512:x2",
        ),
        ("layers=2,hidden=64,tokens=1:x", "the model: tokens: '1:x' is not a sweep"),
        (
            "layers=2,hidden=64,tokens=1:9000:+1",
            "the model: tokens has 9000 batch sizes up to 9,000: give at most 1000",
        ),
        ("layers=2,hidden=64,tokens=1,tp=some", "tp is 'some': give a whole number from 1 to 1,000,000, or 'all'"),
        ("layers=2,hidden=64,tokens=1,dtype=bf16", "the model: dtype is 'bf16': did you mean 'bfloat16'?"),
        ("layers=2,hidden=64,tokens=1,tp=2,dp=2", "the model has tp and dp: give one of tp, cp, dp"),
        ("layers=2,hidden=64,tokens=1,dense_layers=3", "dense_layers is 3, and the model has 2 layers: give fewer"),
        ("layers=2,hidden=64,tokens=1,cp=2,latent=8", "decode steps have none: give prefill and leave tokens out"),
        ("layers=2,hidden=64,prefill=1,cp=2", "gathers keys and values: give latent, or kv_heads and head_dim"),
        (
            "layers=2,hidden=64,prefill=1,cp=2,heads=3,kv_heads=1",
            "hidden is 64, which 3 heads do not divide: give head_dim",
        ),
        ("layers=2,hidden=64,tokens=1,ep=2", "ep is 2, and no layer has experts: give experts, or leave ep out"),
        ("layers=2,hidden=64,tokens=1,dp=2", "data parallel ranks exchange tokens for experts: give experts"),
        ("layers=2,hidden=64,tokens=1,dp=2,experts=4,ep=2", "all ranks share the experts, so leave ep out"),
        ("layers=2,hidden=64,tokens=1,experts=4,ep=3", "ep is 3, which does not divide 4 experts"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(text)
    assert message in str(caught.value)
