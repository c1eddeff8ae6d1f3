"""The report of ``nccl-bench doctor``: the worst first, and a command is never broken."""

from __future__ import annotations

import json

from nccl_bench.doctor.diagnosis import changes, fine, stops
from nccl_bench.doctor.examination import Examination
from nccl_bench.report.doctor import TerminalExamination, json_examination, markdown_examination

LONG = "docker run --shm-size 8g --gpus all some-image-with-a-long-name nccl-bench run --preset llama3-70b-tp"
EXAMINATION = Examination(
    host="node7",
    diagnoses=(
        fine("2x NVIDIA H200"),
        changes("the load is 9", "Other work takes CPU time, so times are longer and less exact than needed.", "top"),
        stops("/dev/shm is full", "NCCL fails.", LONG),
    ),
)


def test_the_terminal_has_the_worst_first_and_breaks_no_command() -> None:
    text = TerminalExamination(width=60, styled=False).render(EXAMINATION)
    assert text == (
        "nccl-bench doctor: node7\n"
        "1 thing will stop a benchmark. 1 thing can change figures,\n"
        "or stop some benchmarks.\n"
        "\n"
        "Stops a benchmark\n"
        "    /dev/shm is full\n"
        "      NCCL fails.\n"
        f"      $ {LONG}\n"
        "\n"
        "Changes figures, or stops some benchmarks\n"
        "    the load is 9\n"
        "      Other work takes CPU time, so times are longer and\n"
        "      less exact than needed.\n"
        "      $ top\n"
        "\n"
        "Fine\n"
        "    2x NVIDIA H200\n"
    )


def test_json_has_every_diagnosis_and_the_exit_code() -> None:
    document = json.loads(json_examination(EXAMINATION))
    assert (document["host"], document["exit_code"]) == ("node7", 3)
    assert document["diagnoses"][0] == {"severity": "fine", "seen": "2x NVIDIA H200"}
    assert document["diagnoses"][2]["command"] == LONG


def test_markdown_has_the_command_as_code() -> None:
    text = markdown_examination(EXAMINATION)
    assert f"NCCL fails. `{LONG}`\n" in text
    assert text.index("Stops a benchmark") < text.index("**Fine**")
