"""The options of a run: the values that each one accepts and refuses."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import pytest

from nccl_bench.catalog.arms import ARMS, DEFAULT_ARMS, Order
from nccl_bench.catalog.cases import Scenario
from nccl_bench.catalog.collectives import COLLECTIVES, Placement, RedOp
from nccl_bench.catalog.dtypes import DTYPES
from nccl_bench.catalog.memory import Memory, Register
from nccl_bench.catalog.timings import Timing
from nccl_bench.config.options import options_of
from nccl_bench.config.run import CallerStream, RunConfig, resolve
from nccl_bench.config.user_arms import Adapter, UserArm
from nccl_bench.errors import UsageError
from tests.support.workloads import WORKLOAD

KEYS = tuple(options_of(RunConfig))
TIMED_ARMS = tuple(name for name, arm in ARMS.items() if arm.timed)
INSTALLED_ARMS = tuple(name for name in TIMED_ARMS if ARMS[name].extra is None)

# A key, a value that is accepted, and the value of the field.
ACCEPTED: list[tuple[str, object, object]] = [
    ("name", "h200.x4-nvlink_on", "h200.x4-nvlink_on"),
    ("device", "cuda", "cuda"),
    ("collectives", "all_reduce, send_recv", ("all_reduce", "send_recv")),
    ("collectives", ["broadcast", "broadcast", "reduce"], ("broadcast", "reduce")),
    ("scenario", "chain", Scenario.CHAIN),
    ("hidden", [8192, "4K"], (8192, 4096)),
    ("tokens", "1:4:x2", (1, 2, 4)),
    ("streams", "2, 1", (1, 2)),
    ("streams", 2, (2,)),
    ("product", "4096, 512,16384", (4096, 512, 16384)),
    ("product", [64, 64, 128], (64, 64, 128)),
    ("layers", 40, (40,)),
    ("workload", asdict(WORKLOAD), WORKLOAD),
    ("delays", "0, 50,0", (0, 50)),
    ("delays", 7, (7,)),
    ("sizes", "1K:4K:x2", (1024, 2048, 4096)),
    ("sizes", ["4K", 8, "4K"], (4096, 8)),
    ("dtypes", "float, half", ("float32", "float16")),
    ("redops", ["max", "avg"], (RedOp.MAX, RedOp.AVG)),
    ("placements", "out-of-place", (Placement.OUT_OF_PLACE,)),
    ("root", 3, 3),
    ("arms", "transport,dedicated-stream", ("transport", "dedicated-stream")),
    ("baseline", "torch", "torch"),
    (
        "user_arms",
        [{"name": "mine", "target": "mine.py:Mine", "order": "fork-join", "adapter": "pynccl", "tree": "../engine"}],
        (
            UserArm(
                name="mine",
                target="mine.py:Mine",
                tree="../engine",
                order=Order.FORK_JOIN,
                adapter=Adapter.PYNCCL,
            ),
        ),
    ),
    ("user_arms", [], ()),
    ("routes", "eager=communicator, all_reduce.graph=torch", ("eager=communicator", "all_reduce.graph=torch")),
    ("routes", ["eager=torch", "eager=communicator"], ("eager=torch", "eager=communicator")),
    ("routes", " ", ()),
    ("routes", [], ()),
    ("timings", "enqueue,eager", (Timing.EAGER, Timing.ENQUEUE)),
    ("launches", 5, 5),
    ("rounds", 1, 1),
    ("min_rounds", 4, 4),
    ("max_rounds", 19, 19),
    ("max_seconds", 90, 90.0),
    ("limits", [{"threshold": "5%", "sizes": ":1K"}], ({"threshold": "5%", "sizes": ":1K"},)),
    ("threshold", 0.05, 0.05),
    ("threshold", "0.05", 0.05),
    ("threshold", " 2.5 %", 0.025),
    ("threshold", ".5%", 0.005),
    ("ops_per_batch", 50, 50),
    ("warmup", 0, 0),
    ("check", False, False),
    ("check", 1, True),
    ("per_iteration", True, True),
    ("same_buffer", True, True),
    ("tuning", True, True),
    ("profile", True, True),
    ("cost_split", True, True),
    ("nvtx", True, True),
    ("memory", "nccl", Memory.NCCL),
    ("register", "window", Register.WINDOW),
    ("caller_stream", "default", CallerStream.DEFAULT),
    ("seed", 0, 0),
    ("timeout_s", 1, 1.0),
    ("timeout_s", 0.25, 0.25),
    ("nccl_library", "/opt/libnccl.so.2", "/opt/libnccl.so.2"),
    ("transport", "nccl4py", "nccl4py"),
    ("variables", {"NCCL_MAX_CTAS": "8"}, {"NCCL_MAX_CTAS": "8"}),
]
# A key, a value that is refused, and texts of the message: what was got, and what is allowed.
REFUSED: list[tuple[str, object, tuple[str, ...]]] = [
    ("name", "../escape", ("'../escape'", "letters, digits")),
    ("name", "", ("''", "letters, digits")),
    ("name", "x" * 65, ("up to 64",)),
    ("name", 3, ("3", "letters, digits")),
    ("collectives", "allreduce", ("'allreduce'", *COLLECTIVES)),
    ("collectives", [], ("empty", "all_reduce")),
    ("collectives", 7, ("7", "all_reduce")),
    ("collectives", [["all_reduce"]], ("['all_reduce']", "all_gather")),
    ("scenario", "alone", ("'alone'", *Scenario)),
    ("hidden", "2M", ("'2M'", "whole numbers from 1 to 1,000,000, such as 1,32,512 or 1:512:x2")),
    ("tokens", [0], ("[0]", "whole numbers from 1")),
    ("streams", "1,3", ("'1,3'", "give 1, 2 or 1,2")),
    ("streams", [], ("[]",)),
    ("product", "4096,4096", ("'4096,4096'", "M,N,K", "4096,4096,16384")),
    ("product", [64, 0, 64], ("[64, 0, 64]", "from 1 to 1,000,000")),
    ("product", [64, True, 64.0], ("[64, True, 64.0]",)),
    ("product", "1,1," + "9" * 5000, ("from 1 to 1,000,000",)),
    ("layers", True, ("True", "whole numbers from 1")),
    ("workload", 3, ("3", "nccl-bench trace --out")),
    ("workload", "no.toml", ("no.toml cannot be read",)),
    ("workload", {"messages": []}, ("workload has no messages", "give a list of tables")),
    ("delays", "10us", ("'10us'", "microseconds from 0 to 1,000,000")),
    ("delays", [], ("[]", "microseconds from 0")),
    ("delays", [True], ("[True]", "whole numbers")),
    ("delays", [-1], ("[-1]", "whole numbers")),
    ("delays", "9" * 5000, ("whole numbers",)),
    ("sizes", "8:1K", ("'8:1K'", "BEGIN:END:xFACTOR")),
    ("sizes", [], ("empty", "8:1G:x2")),
    ("sizes", ",", ("empty", "8:1G:x2")),
    ("sizes", 8, ("8", "a list such as ['4K', '1M']")),
    ("sizes", [1.5], ("1.5", "write bytes, such as")),
    ("sizes", [0], ("0", "at least 1")),
    ("sizes", ["9000T"], (str(9000 * 2**40), "8192T")),
    ("sizes", "9" * 400, ("8192T",)),
    ("sizes", "9" * 5000, ("is not a message size",)),
    ("sizes", f"8:16:x{'9' * 5000}", ("is not a sweep",)),
    ("sizes", f"{'9' * 400}:8:x2", ("above its end",)),
    ("dtypes", "fp64", ("'fp64'", *DTYPES)),
    ("redops", "xor", ("'xor'", *RedOp)),
    ("placements", "inplace", ("'inplace'", *Placement)),
    ("root", -1, ("-1", "from 0")),
    ("root", "0", ("'0'", "whole number")),
    ("arms", "dedicated", ("'dedicated'", *TIMED_ARMS)),
    ("arms", "dedicated-stream-unordered", ("'dedicated-stream-unordered'", *TIMED_ARMS)),
    ("baseline", "transport", ("'transport'", "no arm of this run", *DEFAULT_ARMS)),
    ("baseline", ["torch"], ("['torch']", "no arm of this run")),
    ("user_arms", "mine.py:Mine", ("'mine.py:Mine'", "a list of tables")),
    ("user_arms", ["mine.py:Mine"], ("'mine.py:Mine'", "tables with name, target")),
    ("user_arms", [{"name": "mine"}], ("the arm mine", "no target")),
    ("user_arms", [{"name": "torch", "target": "a:b"}], ("'torch'", "name of an arm")),
    ("user_arms", [{"name": "a:twin", "target": "a:b"}], ("'a:twin'", "name of an arm")),
    ("user_arms", [{"name": "a", "target": "a:b", "stream": "x"}], ("unknown key 'stream'", "adapter")),
    ("user_arms", [{"name": "a", "target": "a:b", "order": "wait-stream"}], ("'wait-stream'", "fork-join")),
    ("user_arms", [{"name": "a", "target": "a:b", "adapter": "nccl"}], ("'nccl'", "pynccl")),
    ("user_arms", [{"name": "a", "target": 3}], ("target", "3", "a text")),
    ("user_arms", [{"name": "a", "target": "a:b"}, {"name": "a", "target": "c:d"}], ("two arms are named a",)),
    (
        "user_arms",
        [{"name": "a", "target": "a:b", "order": "bare"}],
        ("the arm a has the order bare", "verify", "fork-join"),
    ),
    ("routes", "eager", ("'eager'", "[OPERATION.]MODE=BACKEND", "no backend", "communicator")),
    ("routes", "eager=torch,", ("''", "[OPERATION.]MODE=BACKEND")),
    ("routes", ["barrier.eager=torch"], ("'barrier.eager=torch'", "[OPERATION.]MODE=BACKEND")),
    ("routes", [1], ("[1]", "a list of texts or comma-separated")),
    ("routes", {"eager": "torch"}, ("{'eager': 'torch'}", "a list of texts or comma-separated")),
    ("timings", "wall", ("'wall'", *Timing)),
    ("launches", 0, ("launches is 0", "from 1")),
    ("rounds", 0, ("0", "from 1")),
    ("rounds", True, ("True", "whole number")),
    ("rounds", 2.0, ("2.0", "whole number")),
    ("rounds", 2**63, (str(2**63), "2^63 - 1")),
    ("min_rounds", 16, ("min_rounds is 16", "more than rounds (15)", "--min-rounds", "--rounds")),
    ("min_rounds", 0, ("0", "whole number")),
    ("max_rounds", 8, ("max_rounds is 8", "less than rounds (15)", "--max-rounds", "--rounds")),
    ("max_rounds", 60.0, ("60.0", "whole number")),
    ("max_seconds", 0, ("max_seconds is 0", "above 0")),
    ("max_seconds", "90", ("max_seconds is '90'", "above 0")),
    ("limits", "5%", ("not tables",)),
    ("limits", [{"threshold": "5%", "size": "8:64K"}], ("limit 1", "unknown key 'size'", "sizes")),
    ("limits", [{"sizes": "8:64K"}], ("limit 1", "no threshold")),
    ("threshold", 0, ("0", "between 0 and 1", "'2%'")),
    ("threshold", 2, ("2", "between 0 and 1")),
    ("threshold", True, ("True", "between 0 and 1")),
    ("threshold", math.nan, ("nan", "between 0 and 1")),
    ("threshold", "100%", ("'100%'", "between 0 and 1")),
    ("threshold", "2 percent", ("'2 percent'", "between 0 and 1")),
    ("threshold", "9" * 5000, ("between 0 and 1",)),
    ("threshold", [0.02], ("[0.02]", "between 0 and 1")),
    ("ops_per_batch", 0, ("0", "from 1")),
    ("warmup", -1, ("-1", "from 0")),
    ("check", 2, ("2", "true or false")),
    ("check", "true", ("'true'", "true or false")),
    ("per_iteration", [], ("[]", "true or false")),
    ("same_buffer", "", ("''", "true or false")),
    ("tuning", "yes", ("'yes'", "true or false")),
    ("profile", 2, ("2", "true or false")),
    ("cost_split", "yes", ("'yes'", "true or false")),
    ("nvtx", "on", ("'on'", "true or false")),
    ("memory", "cudaMalloc", ("'cudaMalloc'", *Memory)),
    ("register", "symmetric", ("'symmetric'", *Register)),
    ("register", True, ("True", *Register)),
    ("register", ["local"], ("['local']", *Register)),
    ("caller_stream", "side,default", ("'side,default'", *CallerStream)),
    ("caller_stream", "all", ("'all'", *CallerStream)),
    ("caller_stream", ["side"], ("['side']", *CallerStream)),
    ("seed", -1, ("-1", "from 0")),
    ("timeout_s", 0, ("0", "above 0")),
    ("timeout_s", math.inf, ("inf", "above 0")),
    ("timeout_s", math.nan, ("nan", "above 0")),
    ("timeout_s", True, ("True", "above 0")),
    ("timeout_s", 10**400, ("at most",)),
    ("nccl_library", 3, ("3", "libnccl.so")),
    ("nccl_library", "", ("''", "libnccl.so")),
    ("transport", "gloo", ("'gloo'", "nccl, nccl4py")),
    ("variables", ["A=1"], ("['A=1']", "a table of NAME = VALUE")),
    ("variables", {"path": "x"}, ("'path'", "capitals")),
    ("variables", {"A": 1}, ("A = 1", "a text")),
]
# The layer that a key needs besides.
COMPANIONS: dict[str, dict[str, object]] = {
    "routes": {"arms": "dedicated-stream,coordinator"},
    "product": {"scenario": "overlap"},
    "streams": {"scenario": "contended"},
    **{key: {"scenario": "chain"} for key in ("hidden", "tokens", "layers")},
    "delays": {"scenario": "skew"},
}


def field(key: str, value: object) -> Any:
    return getattr(resolve("cuda", COMPANIONS.get(key, {}), {key: value}), key)


@pytest.mark.parametrize(("key", "value", "expected"), ACCEPTED)
def test_each_option_parses_a_value(key: str, value: object, expected: object) -> None:
    parsed = field(key, value)
    assert parsed == expected
    assert type(parsed) is type(expected)


@pytest.mark.parametrize(("key", "value", "texts"), REFUSED)
def test_a_bad_value_is_refused_with_what_was_got_and_what_is_allowed(
    key: str, value: object, texts: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as caught:
        resolve("cuda", COMPANIONS.get(key, {}), {key: value})
    assert all(text in str(caught.value) for text in texts), str(caught.value)


def test_every_key_is_in_both_tables() -> None:
    assert {key for key, _, _ in ACCEPTED} == set(KEYS)
    # The command line checks the device, which is an argument of `resolve`.
    assert {key for key, _, _ in REFUSED} == set(KEYS) - {"device"}


def test_all_is_every_choice_that_can_be_timed() -> None:
    everything = dict.fromkeys(("collectives", "dtypes", "redops", "placements", "arms", "timings"), "all")
    config = resolve("cuda", everything)
    assert config.collectives == tuple(COLLECTIVES)
    assert config.dtypes == tuple(DTYPES)
    assert config.redops == tuple(RedOp)
    assert config.placements == tuple(Placement)
    assert config.arms == INSTALLED_ARMS
    assert config.timings == tuple(Timing)
    # Together with other names it adds the rest.
    assert field("redops", "avg,all") == (RedOp.AVG, RedOp.SUM, RedOp.PROD, RedOp.MIN, RedOp.MAX)


def test_every_name_of_nccl_tests_for_a_dtype_is_an_alias() -> None:
    for dtype in DTYPES.values():
        assert field("dtypes", dtype.nccl_tests_name) == field("dtypes", dtype.name) == (dtype.name,)


@pytest.mark.parametrize("key", KEYS)
def test_a_mapping_resolves_to_the_configuration_it_was_made_of(key: str) -> None:
    value = next(value for name, value, _ in ACCEPTED if name == key)
    config = resolve("cuda", COMPANIONS.get(key, {}), {key: value})
    as_json = json.loads(json.dumps(config.to_mapping(), allow_nan=False))
    assert resolve("cuda", config.to_mapping()) == resolve("cuda", as_json) == config
