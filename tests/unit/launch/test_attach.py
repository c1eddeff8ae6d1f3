"""Detection of each launcher, and of environments that only look like one."""

from __future__ import annotations

import pytest

from nccl_bench.errors import SetupError, UsageError
from nccl_bench.launch import launchers
from nccl_bench.launch.attach import choose_attachment, detect_attachment, detect_launcher
from nccl_bench.launch.launchers import Launcher

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "9",
    "WORLD_SIZE": "16",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "8",
    "MASTER_ADDR": "node0",
    "MASTER_PORT": "29501",
}
# The variables of a batch script, which every step inherits.
SBATCH = {"SLURM_JOB_ID": "42", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "8", "SLURM_NNODES": "1"}
SRUN = SBATCH | {
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "1",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "5",
}
SRUN_TWO_NODES = SRUN | {
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_TASKS_PER_NODE": "5,3",
    "SLURM_NODEID": "1",
    "SLURM_LOCALID": "0",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "PMIX_NAMESPACE": "prterun-host-77@1",
}
HYDRA = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
PYTORCHJOB = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "job-master-0", "MASTER_PORT": "23456", "PET_NNODES": "2"}


def test_a_rank_of_torchrun_has_the_place_that_its_variables_name() -> None:
    attachment = detect_attachment(TORCHRUN)
    assert attachment is not None
    assert attachment.launcher is Launcher.TORCHRUN
    assert (attachment.rank, attachment.world_size, attachment.local_rank, attachment.local_world_size) == (9, 16, 1, 8)
    assert (attachment.nodes, attachment.master_addr, attachment.master_port) == (2, "node0", 29501)
    assert attachment.torch_variables == {name: TORCHRUN[name] for name in TORCHRUN if name != "TORCHELASTIC_RUN_ID"}


def test_a_rank_of_srun_has_the_place_that_its_variables_name() -> None:
    attachment = detect_attachment(SRUN)
    assert attachment is not None
    assert attachment.launcher is Launcher.SRUN
    assert (attachment.rank, attachment.world_size, attachment.local_rank, attachment.local_world_size) == (5, 8, 5, 8)
    assert (attachment.nodes, attachment.master_addr) == (1, "127.0.0.1")


def test_srun_on_two_nodes_gives_the_number_of_ranks_on_this_node() -> None:
    attachment = detect_attachment(SRUN_TWO_NODES, "node0:29500")
    assert attachment is not None
    assert (attachment.nodes, attachment.local_world_size, attachment.master_addr, attachment.master_port) == (
        2,
        3,
        "node0",
        29500,
    )
    even = detect_attachment(SRUN_TWO_NODES | {"SLURM_STEP_TASKS_PER_NODE": "4(x2)"}, "node0:29500")
    assert even is not None
    assert even.local_world_size == 4
    unknown = detect_attachment(
        {name: SRUN_TWO_NODES[name] for name in SRUN_TWO_NODES if name != "SLURM_NODEID"}, "node0:29500"
    )
    assert unknown is not None
    assert unknown.local_world_size is None
    assert "LOCAL_WORLD_SIZE" not in unknown.torch_variables


@pytest.mark.parametrize("variables", [OPEN_MPI, HYDRA])
def test_a_rank_of_mpirun_has_the_place_that_its_variables_name(variables: dict[str, str]) -> None:
    attachment = detect_attachment(variables)
    assert attachment is not None
    assert attachment.launcher is Launcher.MPIRUN
    assert attachment.rank == attachment.local_rank == attachment.world_size - 1
    assert attachment.local_world_size == attachment.world_size
    assert attachment.nodes == 1


def test_mpirun_comes_before_the_slurm_step_of_its_daemon() -> None:
    daemon = SRUN | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"}
    for variables in (OPEN_MPI, HYDRA):
        attachment = detect_attachment(daemon | variables)
        assert attachment is not None
        assert attachment.launcher is Launcher.MPIRUN
        assert attachment.rank == int(next(iter(variables.values())))


def test_srun_with_pmi2_is_srun() -> None:
    attachment = detect_attachment(SRUN | {"PMI_RANK": "5", "PMI_SIZE": "8"})
    assert attachment is not None
    assert attachment.launcher is Launcher.SRUN


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({}, id="nothing"),
        pytest.param(SBATCH, id="batch script"),
        pytest.param(SRUN | {"SLURM_STEP_ID": "4294967291", "SLURM_PROCID": "0"}, id="batch step"),
        pytest.param(SRUN | {"SLURM_STEP_ID": "4294967290", "SLURM_PROCID": "0"}, id="interactive step"),
        pytest.param(SRUN | {"SLURM_STEP_ID": "4294967292"}, id="extern step"),
        pytest.param(SRUN | {"SLURM_STEP_ID": "batch"}, id="a step that is no number"),
        pytest.param(SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, id="shell under srun --pty"),
        pytest.param(PYTORCHJOB, id="PyTorchJob pod"),
        pytest.param({"RANK": "0", "WORLD_SIZE": "8", "LOCAL_RANK": "0"}, id="plain variables"),
        pytest.param({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "1"}, id="indexed job pod"),
    ],
)
def test_an_environment_that_only_looks_like_a_launcher_does_not_attach(variables: dict[str, str]) -> None:
    assert detect_attachment(variables) is None
    assert choose_attachment(variables, launch=False, attach=False, rdzv_endpoint=None) is None


@pytest.mark.parametrize(
    ("base", "rank_name"),
    [(SRUN, "SLURM_PROCID"), (OPEN_MPI, "OMPI_COMM_WORLD_RANK"), (HYDRA, "PMI_RANK")],
)
def test_all_ranks_of_a_node_derive_the_same_port(base: dict[str, str], rank_name: str) -> None:
    ports = {
        attachment.master_port
        for rank in "01"
        if (attachment := detect_attachment(base | {rank_name: rank})) is not None
    }
    assert len(ports) == 1
    assert 20000 <= ports.pop() <= 29999


def test_two_steps_of_a_job_derive_different_ports() -> None:
    first, second = detect_attachment(SRUN), detect_attachment(SRUN | {"SLURM_STEP_ID": "1"})
    assert first is not None
    assert second is not None
    assert first.master_port != second.master_port


def test_without_a_job_id_the_port_comes_from_the_common_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = []
    for parent in (100, 100, 101):
        monkeypatch.setattr(launchers.os, "getppid", lambda parent=parent: parent)
        attachment = detect_attachment(HYDRA)
        assert attachment is not None
        ports.append(attachment.master_port)
    assert ports[0] == ports[1] != ports[2]


def test_the_endpoint_comes_before_master_addr_and_that_before_the_derived_port() -> None:
    variables = SRUN | {"MASTER_ADDR": "a", "MASTER_PORT": "1234"}
    both, named = detect_attachment(variables, "b:5678"), detect_attachment(variables)
    assert both is not None
    assert (both.master_addr, both.master_port) == ("b", 5678)
    assert named is not None
    assert (named.master_addr, named.master_port) == ("a", 1234)


@pytest.mark.parametrize(
    "variables",
    [
        SRUN_TWO_NODES,
        OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "0"},
        HYDRA | {"MPI_LOCALNRANKS": "1", "MPI_LOCALRANKID": "0"},
    ],
)
def test_several_nodes_need_an_address_where_they_can_meet(variables: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="--rdzv-endpoint HOST:PORT, or set MASTER_ADDR"):
        detect_attachment(variables)
    attachment = detect_attachment(variables | {"MASTER_ADDR": "node0"})
    assert attachment is not None
    assert (attachment.nodes, attachment.master_addr, attachment.master_port) == (2, "node0", 29500)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (TORCHRUN | {"RANK": "x"}, "RANK is 'x'"),
        (TORCHRUN | {"RANK": "16"}, "RANK is '16'.* 0 to 15"),
        (TORCHRUN | {"LOCAL_RANK": "8"}, "LOCAL_RANK is '8'"),
        (TORCHRUN | {"MASTER_PORT": "70000"}, "MASTER_PORT is '70000'"),
        (TORCHRUN | {"MASTER_ADDR": ""}, "MASTER_ADDR is not set"),
        (SRUN | {"SLURM_STEP_NUM_TASKS": ""}, "SLURM_STEP_NUM_TASKS is not set"),
        (SRUN | {"SLURM_LOCALID": "-1"}, "SLURM_LOCALID is '-1'"),
        (SRUN_TWO_NODES | {"SLURM_STEP_TASKS_PER_NODE": "4x2"}, "SLURM_STEP_TASKS_PER_NODE is '4x2'"),
        (OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "four"}, "OMPI_COMM_WORLD_SIZE is 'four'"),
        (OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_RANK": ""}, "OMPI_COMM_WORLD_LOCAL_RANK is not set"),
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, "MPI_LOCALNRANKS is not set"),
    ],
)
def test_a_malformed_variable_is_refused_with_its_name_and_value(variables: dict[str, str], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        detect_attachment(variables)


def test_launch_forces_a_launch_and_excludes_attach() -> None:
    assert choose_attachment(TORCHRUN, launch=True, attach=False, rdzv_endpoint=None) is None
    with pytest.raises(UsageError, match="exclude each other"):
        choose_attachment(TORCHRUN, launch=True, attach=True, rdzv_endpoint=None)


def test_attach_accepts_plain_variables_and_a_step_of_one_task() -> None:
    plain = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "a"}
    attachment = choose_attachment(plain, launch=False, attach=True, rdzv_endpoint=None)
    assert attachment is not None
    assert attachment.launcher is Launcher.ENVIRONMENT
    assert (attachment.rank, attachment.world_size, attachment.nodes, attachment.master_port) == (1, 2, None, 29500)
    shell = SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    alone = choose_attachment(shell, launch=False, attach=True, rdzv_endpoint=None)
    assert alone is not None
    assert alone.launcher is Launcher.SRUN
    assert alone.world_size == 1


def test_attach_without_ranks_to_join_is_refused() -> None:
    with pytest.raises(UsageError, match="found no ranks to join"):
        choose_attachment(SBATCH, launch=False, attach=True, rdzv_endpoint=None)
    with pytest.raises(SetupError, match="LOCAL_RANK is not set"):
        choose_attachment(PYTORCHJOB, launch=False, attach=True, rdzv_endpoint=None)


def test_an_endpoint_is_refused_for_ranks_that_already_have_one() -> None:
    with pytest.raises(UsageError, match="leave the option out"):
        choose_attachment(TORCHRUN, launch=False, attach=False, rdzv_endpoint="a:1")


@pytest.mark.parametrize(
    ("environ", "launcher"),
    [
        ({"TORCHELASTIC_RUN_ID": "none"}, Launcher.TORCHRUN),
        ({"OMPI_COMM_WORLD_RANK": "0", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}, Launcher.MPIRUN),
        ({"PMI_RANK": "1"}, Launcher.MPIRUN),
        ({"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}, Launcher.SRUN),
        # The only rank: it can start ranks of its own.
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "1"}, None),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, None),
        # A shell under `srun --pty`, a batch script, a pod: one process that launches ranks itself.
        ({"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"SLURM_STEP_ID": "4294967291", "SLURM_STEP_NUM_TASKS": "8"}, None),
        ({"SLURM_PROCID": "0"}, None),
        ({"RANK": "0", "WORLD_SIZE": "8"}, None),
        ({}, None),
    ],
)
def test_the_launcher_is_detected_without_a_check_of_its_other_variables(
    environ: dict[str, str], launcher: Launcher | None
) -> None:
    assert detect_launcher(environ) is launcher
