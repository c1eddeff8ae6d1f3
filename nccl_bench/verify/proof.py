"""One proof: what to probe, in which launches of the ranks, what was found, and what follows from it. No torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from nccl_bench.capabilities import ARMS, DEVICES, ArmSpec, DeviceSpec
from nccl_bench.config import arms_of, binding, library_path, names_of, plugins_for, routes_for, seconds
from nccl_bench.errors import ExitCode
from nccl_bench.plugins import Plugin, from_list, of_arm, spec_of
from nccl_bench.routes import Routes, override
from nccl_bench.verify.catalog import DETECTOR, PROBES, blind_places, not_applicable

# Of one arm, in one launch after the other.
MOST_BROKEN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofConfig:
    """What to prove: ``arms`` without the detector, which every proof has; ``timeout_s`` is for one probe of one arm.

    ``routes`` are overrides of the coordinators' routing table.
    """

    device: str
    arms: tuple[str, ...]
    plugins: tuple[Plugin, ...]
    probes: tuple[str, ...]
    routes: tuple[str, ...]
    nccl_library: str | None
    transport: str
    timeout_s: float

    @property
    def device_spec(self) -> DeviceSpec:
        """What the device can do."""
        return DEVICES[self.device]

    def arm(self, name: str) -> ArmSpec:
        """The row of an arm of this proof."""
        return spec_of(self.plugins, name)

    @property
    def routing(self) -> Routes:
        """The coordinators' routing table."""
        return override(self.routes)


def resolve(
    device: str,
    *,
    arms: str | None,
    plugins: Sequence[Plugin] = (),
    probes: str | None,
    routes: str | None,
    nccl_library: str | None,
    transport: str | None = None,
    timeout_s: float,
) -> ProofConfig:
    """The configuration that these options mean, where ``None`` is everything, or the default.

    Raises ``UsageError`` naming the option, what was got and what is allowed.
    """
    brought = plugins_for(list(plugins), device)
    ours = [arm for name, arm in ARMS.items() if name != DETECTOR]
    if arms is None and brought:
        chosen = tuple(plugin.name for plugin in brought)
    else:
        chosen = arms_of("all" if arms is None else arms, device, ours, brought, "--arms")
    return ProofConfig(
        device=device,
        arms=chosen,
        plugins=brought,
        probes=names_of("--probes", "all" if probes is None else probes, PROBES),
        routes=routes_for(routes or "", chosen),
        nccl_library=library_path(nccl_library, device),
        transport=binding(transport, device, "--transport"),
        timeout_s=seconds(timeout_s, "--timeout"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One probe of one arm."""

    arm: str
    probe: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came of a cell: ``failed`` of ``trials``, ``raced`` of them by their order alone.

    ``detail`` is about the first that failed, or says why there was no trial, ``quiet`` the places at which none raced.
    ``broken`` says that the probe did not come to an end: an exception, a crash or a hang, which count as one trial;
    ``unmade`` that it did not begin, since the user's arm could not be made.
    """

    arm: str
    probe: str
    trials: int
    failed: int
    detail: str | None
    raced: int = 0
    quiet: tuple[str, ...] = ()
    broken: bool = False
    unmade: bool = False

    @property
    def cell(self) -> Cell:
        """Of which cell."""
        return Cell(arm=self.arm, probe=self.probe)


class Status(StrEnum):
    """What a cell shows."""

    PASS = "pass"
    FAIL = "FAIL"
    NOT_APPLICABLE = "not applicable"
    CAUGHT = "caught"  # the detector failed, as it has to
    MISSED = "missed"  # the detector passed a probe that it need not fail
    BROKEN = "broken"  # the detector hung or crashed in such a probe, which says nothing about it
    BLIND = "BLIND"  # the detector passed, or broke, where it has to fail
    ERROR = "error"  # the arm could not be made
    UNPROVEN = "unproven"  # passed, but by a blind detector's word


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A cell with its status; ``reason`` says why it is not applicable."""

    arm: str
    probe: str
    status: Status
    reason: str | None = None
    finding: Finding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Every judgement, arm by arm, the detector's last; ``notes`` say what went wrong outside of any probe.

    ``gpus`` is how many the ranks have, ``None`` where that is not known; with fewer than ranks they share.
    """

    device: str
    world_size: int
    judgements: tuple[Judgement, ...]
    notes: tuple[str, ...] = ()
    gpus: int | None = None

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms, in order."""
        return tuple(dict.fromkeys(judgement.arm for judgement in self.judgements))

    @property
    def probes(self) -> tuple[str, ...]:
        """The probes, in the catalog's order."""
        return tuple(name for name in PROBES if any(judgement.probe == name for judgement in self.judgements))

    @property
    def blind(self) -> bool:
        """Whether the detector passed where it has to fail, so that nothing is proven."""
        return any(judgement.status is Status.BLIND for judgement in self.judgements)

    @property
    def exit_code(self) -> ExitCode:
        """A blind detector's code before a failed probe's, since it makes every other word worthless."""
        if self.blind:
            return ExitCode.BLIND_DETECTOR
        seen = {judgement.status for judgement in self.judgements}
        return ExitCode.RACE if Status.FAIL in seen else ExitCode.SETUP if Status.ERROR in seen else ExitCode.OK


def asked(config: ProofConfig) -> list[Cell]:
    """Every cell of the table. The detector has the probes selected and those that it has to fail."""
    cells = [Cell(arm=arm, probe=probe) for arm in config.arms for probe in PROBES if probe in config.probes]
    probes = [name for name, probe in PROBES.items() if name in config.probes or probe.detects]
    return cells + [Cell(arm=DETECTOR, probe=probe) for probe in probes]


def reason_against(config: ProofConfig, cell: Cell) -> str | None:
    """Why ``cell`` is not applicable, or ``None`` where it is."""
    return not_applicable(PROBES[cell.probe], config.arm(cell.arm), config.device_spec)


def launches(config: ProofConfig) -> list[tuple[Cell, ...]]:
    """The applicable cells by the processes they run in: all that are harmless, then each probe that is not.

    Each communicator of somebody else's has processes of its own, where nothing else was loaded, and so has an arm with
    an environment of its own. The detector is last: there its failure ends processes that nobody needs any more.
    """
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in asked(config):
        if reason_against(config, cell) is None:
            plugin = of_arm(config.plugins, cell.arm)
            own = plugin is not None and (not plugin.ours or bool(plugin.variables))
            key = (cell.arm if own else "", cell.probe if PROBES[cell.probe].alone else "")
            groups.setdefault(key, []).append(cell)
    probes = ["", *PROBES]
    return [tuple(groups[key]) for key in sorted(groups, key=lambda key: (probes.index(key[1]), not key[0]))]


def judge(config: ProofConfig, world_size: int, findings: Iterable[Finding], notes: Sequence[str] = ()) -> Proof:
    """What follows from ``findings``, one for every applicable cell."""
    by_cell = {finding.cell: finding for finding in findings}
    judgements = [_judge(cell, config.device_spec, reason_against(config, cell), by_cell) for cell in asked(config)]
    proof = Proof(device=config.device, world_size=world_size, judgements=tuple(judgements), notes=tuple(notes))
    if not proof.blind:
        return proof
    unproven = (
        replace(judgement, status=Status.UNPROVEN) if judgement.status is Status.PASS else judgement
        for judgement in judgements
    )
    return replace(proof, judgements=tuple(unproven))


def _judge(cell: Cell, device: DeviceSpec, reason: str | None, findings: Mapping[Cell, Finding]) -> Judgement:
    if reason is not None:
        return Judgement(arm=cell.arm, probe=cell.probe, status=Status.NOT_APPLICABLE, reason=reason)
    finding = findings[cell]
    if not finding.trials:
        reason = finding.detail or "it has none of the collectives that this probe tries"
        return Judgement(arm=cell.arm, probe=cell.probe, status=Status.NOT_APPLICABLE, reason=reason)
    if finding.unmade:
        status = Status.ERROR
    elif cell.arm != DETECTOR:
        status = Status.FAIL if finding.failed else Status.PASS
    elif PROBES[cell.probe].detects:
        # Neither a crash nor a result that is wrong whatever its order is the sight of a race.
        unseen = set(finding.quiet) - blind_places(PROBES[cell.probe], device)
        status = Status.CAUGHT if finding.raced and not unseen and not finding.broken else Status.BLIND
    elif finding.broken and not PROBES[cell.probe].alone:
        status = Status.BROKEN
    else:
        status = Status.CAUGHT if finding.failed else Status.MISSED
    return Judgement(arm=cell.arm, probe=cell.probe, status=status, finding=finding)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofSpec:
    """What one launch of the ranks is to do: ``cells`` from index ``first`` on, findings appended to ``findings``."""

    config: ProofConfig
    cells: tuple[Cell, ...]
    findings: str
    scratch: str | None = None
    first: int = 0

    @property
    def variables(self) -> Mapping[str, str]:
        """What its processes have in their environment besides."""
        plugin = of_arm(self.config.plugins, self.cells[0].arm)
        return {} if plugin is None else plugin.variables

    @property
    def processes_per_rank(self) -> int:
        """One: arms that need processes of their own have launches of their own."""
        return 1

    def at(self, scratch: str, first: int) -> ProofSpec:
        """The same for one launch."""
        return replace(self, scratch=scratch, first=first)

    def write(self, path: Path) -> None:
        """Write the specification as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> ProofSpec:
        """The specification that ``write`` wrote."""
        mapping = json.loads(path.read_text(encoding="utf-8"))
        config = mapping.pop("config")
        names = ("arms", "probes", "routes")
        return cls(
            config=ProofConfig(
                **config | {name: tuple(config[name]) for name in names} | {"plugins": from_list(config["plugins"])}
            ),
            cells=tuple(Cell(**cell) for cell in mapping.pop("cells")),
            **mapping,
        )


def append_finding(path: Path, finding: Finding) -> None:
    """Add a line to the file of findings, in place of a part of one that a killed writer left."""
    whole = path.read_text(encoding="utf-8").rpartition("\n") if path.exists() else ("", "", "")
    if whole[2]:
        path.write_text(whole[0] + whole[1], encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(finding)) + "\n")


def read_findings(path: Path) -> Sequence[Finding]:
    """Every complete line of the file of findings, of which the last about a cell counts."""
    if not path.exists():
        return []
    *complete, _ = path.read_text(encoding="utf-8").split("\n")
    mappings = (json.loads(line) for line in complete)
    return [Finding(**mapping | {"quiet": tuple(mapping["quiet"])}) for mapping in mappings]


def hopeless(findings: Iterable[Finding]) -> Mapping[str, Finding]:
    """What is found of every further probe of an arm that is tried no more: each would cost another launch.

    That is of one that broke in ``MOST_BROKEN`` cells, or could not be made.
    """
    given_up: dict[str, Finding] = {}
    broken = Counter[str]()
    for finding in findings:
        broken[finding.arm] += finding.broken
        if finding.unmade:
            given_up[finding.arm] = finding
        elif broken[finding.arm] >= MOST_BROKEN:
            detail = f"not tried: the arm hung or crashed in {MOST_BROKEN} probes before"
            given_up.setdefault(finding.arm, replace(finding, trials=1, failed=1, detail=detail, broken=True))
    return given_up
