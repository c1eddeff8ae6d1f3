"""The work of each scenario."""

from collections.abc import Callable, Mapping

from nccl_bench.bench.scenarios.chain import ChainWork
from nccl_bench.bench.scenarios.contended import ContendedWork
from nccl_bench.bench.scenarios.overlap import OverlapWork
from nccl_bench.bench.scenarios.skew import SkewWork
from nccl_bench.bench.scenarios.work import IsolatedWork, Surroundings, Work
from nccl_bench.catalog.cases import Scenario

_WORKS: Mapping[Scenario, Callable[[Surroundings], Work]] = {
    Scenario.ISOLATED: IsolatedWork,
    Scenario.CHAIN: ChainWork,
    Scenario.OVERLAP: OverlapWork,
    Scenario.SKEW: SkewWork,
    Scenario.CONTENDED: ContendedWork,
}


def make_work(surroundings: Surroundings) -> Work:
    """Return the work around the collective of a case. Its tensors are made on the current stream."""
    return _WORKS[surroundings.case.scenario](surroundings)
