"""The class of the commands ``run`` and ``verify``. For an option of nccl-tests, it names the option to use here."""

from nccl_bench.catalog.nccl_tests import ANSWERS
from nccl_bench.cli.command import Command


class MeasuringCommand(Command):
    """A command whose users know nccl-tests."""

    def _unknown(self, name: str) -> str:
        if name in ANSWERS:
            return f"{name} is an option of nccl-tests. Here {ANSWERS[name]}"
        return super()._unknown(name)
