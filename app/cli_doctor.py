"""``agiqa doctor``: whether this installation will serve."""

import json
import sys
from pathlib import Path
from typing import Any

import click

_SIGNS = {"ok": ("ok", "green"), "warning": ("warn", "yellow"), "fault": ("FAULT", "red")}


@click.command()
@click.option("--host", help="Address to listen on  [127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on  [8000]")
@click.option("--model", "models", multiple=True, help="Instead of the settings'; repeat.")
@click.option("--device", help="auto, cpu, cuda, cuda:1 ...")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="AGIQA_CONFIG",
    help="TOML file with settings.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(config: Path | None, models: tuple[str, ...], *, as_json: bool, **flags: Any) -> None:
    """Check what the service needs: torch, device, checkpoints, decoders, memory and port.

    Takes the settings of `agiqa serve`, and changes nothing. Exits with 1 if there is a fault;
    warnings are what the service can run without.
    """
    from app.doctor import examine
    from app.settings import SettingsError, load_settings

    try:
        settings = load_settings({**flags, "models": models or None}, config)
    except SettingsError as error:
        raise click.ClickException(str(error)) from error
    findings = []
    for finding in examine(settings):
        findings.append(finding)
        if not as_json:
            sign, colour = _SIGNS[finding.verdict]
            click.echo(f"{click.style(f'{sign:5}', fg=colour)}  {finding.check}: {finding.found}")
            if finding.remedy:
                click.echo(f"       -> {finding.remedy}")
    faults = sum(finding.verdict == "fault" for finding in findings)
    if as_json:
        click.echo(json.dumps({"findings": [f.as_json() for f in findings]}, indent=2))
    elif faults:
        click.echo(f"\n{faults} to mend before the service can run")
    else:
        click.echo("\nthe service can run: agiqa serve")
    sys.exit(1 if faults else 0)
