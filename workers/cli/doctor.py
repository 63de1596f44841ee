"""`nightcrew doctor`: check everything the crew stands on."""

from typing import TYPE_CHECKING

import typer

from workers.cli.context import CrewContext, open_crew
from workers.cli.options import AsJson, DataDir
from workers.cli.output import CliError, ExitCode, console, print_json, print_line, printable
from workers.settings import SettingsError

if TYPE_CHECKING:
    from workers.doctor import Finding
    from workers.supervisor.crew_file import CrewRecord

app = typer.Typer()

_MARKS = {"ok": "[green]ok     [/]", "warning": "[yellow]warning[/]", "error": "[bold red]error  [/]"}
_NAME_WIDTH = 20


@app.command()
def doctor(data_dir: DataDir = None, json: AsJson = False) -> ExitCode:
    """Check everything the crew stands on; each finding comes with the command that mends it. Changes nothing.

    Exit code: 0 all is well, 5 something needs attention, 4 the broker does not answer, 3 the settings are wrong.

    JSON: {"healthy", "findings": [{"check", "level": "ok" | "warning" | "error", "detail", "fix"}]}
    """
    try:
        with open_crew(data_dir) as crew:
            findings = _examine(crew)
    except SettingsError as error:
        findings = _without_settings(error)
    healthy = all(finding.level == "ok" for finding in findings)
    if json:
        print_json({"healthy": healthy, "findings": findings})
    else:
        _print(findings)
    return _exit_code(findings)


def _examine(crew: CrewContext) -> list["Finding"]:
    from workers.doctor import Patient, examine
    from workers.doctor.finding import ok
    from workers.lifecycle import close_runtime

    record = _record(crew)
    url = crew.address_of(record)
    runtime = crew.build_runtime(url)
    try:
        patient = Patient(
            settings=crew.settings,
            broker_url=url,
            runtime=runtime,
            timetable=crew.settings.timetable(),
            started_at=None if record is None else record.started_at,
        )
        return [ok("settings", f"those of {crew.settings.data_dir}"), *examine(patient).findings]
    finally:
        close_runtime(runtime)


def _record(crew: CrewContext) -> "CrewRecord | None":
    try:
        return crew.record()
    except CliError:  # one of the checks reads it again, and says what is wrong
        return None


def _without_settings(refusal: SettingsError) -> list["Finding"]:
    from workers.doctor import examine_installation
    from workers.doctor.finding import error

    fix = "nightcrew config validate   # ops/settings.md lists every setting"
    return [*(error("settings", problem, fix=fix) for problem in refusal.problems), *examine_installation()]


def _print(findings: list["Finding"]) -> None:
    out = console()
    for finding in findings:
        out.print(_MARKS[finding.level], end=" ")
        print_line(f"{finding.check:<{_NAME_WIDTH}} {finding.detail}")
        if finding.fix:
            print_line(f"{'':<{len('warning') + _NAME_WIDTH + 1}} fix: {printable(finding.fix)}")
    bad = sum(finding.level != "ok" for finding in findings)
    print_line(f"{len(findings)} checks, {f'{bad} need attention' if bad else 'all is well'}")


def _exit_code(findings: list["Finding"]) -> ExitCode:
    broken = {finding.check for finding in findings if finding.level == "error"}
    if "settings" in broken:
        return ExitCode.CONFIGURATION
    if "broker" in broken:
        return ExitCode.BROKER_UNREACHABLE
    return ExitCode.OK if all(finding.level == "ok" for finding in findings) else ExitCode.DEGRADED
