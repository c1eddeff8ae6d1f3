"""The diagnoses of a machine in every format: the worst first, each with the command that helps."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import ClassVar, TextIO

from rich.text import Text

from nccl_bench.analysis.wording import counted
from nccl_bench.doctor.diagnosis import Diagnosis, Severity
from nccl_bench.doctor.examination import Examination
from nccl_bench.report import NARROWEST_EXAMINATION, Format, Report
from nccl_bench.report.escaping import markdown_code, markdown_text
from nccl_bench.report.formats import json_text
from nccl_bench.report.text import TextReport

_TITLES: Mapping[Severity, str] = {
    Severity.STOPS: "Stops a benchmark",
    Severity.CHANGES: "Changes figures, or stops some benchmarks",
    Severity.FINE: "Fine",
}
_STYLES: Mapping[Severity, str] = {Severity.STOPS: "bold red", Severity.CHANGES: "yellow", Severity.FINE: "green"}


def reports(stream: TextIO, width: int | None) -> dict[Format, Report[Examination]]:
    """Return the report of each format; without ``width`` the width of ``stream`` applies."""
    return {
        Format.TERMINAL: TerminalExamination.for_stream(stream, width).render,
        Format.MARKDOWN: markdown_examination,
        Format.JSON: json_examination,
    }


class TerminalExamination(TextReport[Examination]):
    """Three lists. A command is never broken into lines, so that it can be copied."""

    narrowest: ClassVar[int] = NARROWEST_EXAMINATION

    def _lines(self, content: Examination) -> Iterator[Text]:
        yield from self._wrapped(f"nccl-bench doctor: {content.host}", "bold")
        yield from self._wrapped(_summary(content))
        margin = max((len(each.subject) for each in content.diagnoses), default=0) + 4
        for severity in Severity:
            previous = ""
            diagnoses = content.of(severity)
            if diagnoses:
                yield Text()
                yield Text(_TITLES[severity], _STYLES[severity])
            for diagnosis in diagnoses:
                name = "" if diagnosis.subject == previous else diagnosis.subject
                previous = diagnosis.subject
                yield from self._wrapped(diagnosis.seen, bullet=f"  {name}".ljust(margin))
                yield from self._remedy(diagnosis, " " * (margin + 2))

    def _remedy(self, diagnosis: Diagnosis, indent: str) -> Iterator[Text]:
        if diagnosis.effect:
            yield from self._wrapped(diagnosis.effect, "dim", bullet=indent)
        if diagnosis.command:
            yield Text(f"{indent}$ {diagnosis.command}", "bold")


def markdown_examination(content: Examination) -> str:
    """Return GitHub's Markdown, to paste into an issue."""
    lines = [f"**nccl-bench doctor: {markdown_text(content.host)}**", "", _summary(content), ""]
    for severity in Severity:
        diagnoses = content.of(severity)
        if diagnoses:
            lines += [f"**{_TITLES[severity]}**", "", *map(_item, diagnoses), ""]
    return "\n".join(lines)


def json_examination(content: Examination) -> str:
    """Return JSON: the machine, the exit code, and an object for each thing that was seen."""
    diagnoses = [{key: value for key, value in asdict(diagnosis).items() if value} for diagnosis in content.diagnoses]
    return json_text({"host": content.host, "exit_code": int(content.exit_code), "diagnoses": diagnoses})


def _item(diagnosis: Diagnosis) -> str:
    seen = f"- {markdown_text(diagnosis.subject)}: {markdown_text(diagnosis.seen)}."
    command = markdown_code(diagnosis.command) if diagnosis.command else ""
    return " ".join(filter(None, (seen, markdown_text(diagnosis.effect), command)))


def _summary(content: Examination) -> str:
    stopping, changing = len(content.of(Severity.STOPS)), len(content.of(Severity.CHANGES))
    first = f"{counted(stopping, 'thing')} will stop a benchmark." if stopping else "Nothing here stops a benchmark."
    second = f" {counted(changing, 'thing')} can change figures, or stop some benchmarks." if changing else ""
    return first + second
