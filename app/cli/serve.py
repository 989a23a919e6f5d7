"""``agiqa serve``, and ``agiqa doctor``, which looks whether it would work."""

import json
import signal
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.errors import as_messages
from app.cli.options import together

if TYPE_CHECKING:
    from app.settings import Settings

_SIGNS = {"ok": ("ok", "green"), "warning": ("warn", "yellow"), "fault": ("FAULT", "red")}
_SETTINGS = together(
    click.option("--host", help="Address to listen on  [127.0.0.1]"),
    click.option("--port", type=int, help="Port to listen on  [8000]"),
    click.option(
        "--model",
        "models",
        multiple=True,
        help="Bundled name, checkpoint folder or hf://owner/name; repeat for several.",
    ),
    click.option("--device", help="auto, cpu, cuda, cuda:1 ..., or several: cuda:0,cuda:1."),
    click.option("--workers", type=int, help="Processes that compute on each device  [measured]"),
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        envvar="AGIQA_CONFIG",
        help="TOML file with settings.",
    ),
)


@click.command()
@_SETTINGS
@click.option(
    "--ray",
    "address",
    is_flag=False,
    flag_value="local",
    metavar="[ADDRESS]",
    help="Run on Ray Serve: on the cluster at ADDRESS (auto, or HOST:PORT), or on one of this "
    "machine alone.",
)
@click.option(
    "--print-config",
    is_flag=True,
    help="Print the settings in effect, and where each comes from, and end.",
)
def serve(*, print_config: bool, address: str | None, **given: Any) -> None:
    """Run the service."""
    if print_config:
        _print_config(given)
        return
    if address is not None:
        sys.exit(_serve_on_ray(address, given))
    # Until the service has handlers of its own: nothing is to be finished yet. The first process of
    # a container would not end at all without one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Before the imports of the service, so that both import at the same time.
    from app.device.launch import EarlyWorker, variables_for
    from model.resources import usable_cores

    variables = variables_for(given, usable_cores())
    with closing(EarlyWorker(variables=variables)) as early:
        from app.device.arena import ArenaError
        from app.main import serve as run
        from app.settings import SettingsError
        from app.startup.sockets import ListenError

        with as_messages(ArenaError, ListenError, SettingsError):
            status = run(_settings(given), early)
    sys.exit(status)


@click.command()
@_SETTINGS
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(*, as_json: bool, **given: Any) -> None:
    """Check what the service needs: torch, device, checkpoints, decoders, memory and port.

    Takes the settings of `agiqa serve`, and changes nothing. Exits with 1 if there is a fault;
    warnings are what the service can run without.
    """
    from app.cli.doctor import examine

    findings = []
    for finding in examine(_settings(given)):
        findings.append(finding)
        if not as_json:
            sign, colour = _SIGNS[finding.verdict]
            click.echo(f"{click.style(f'{sign:5}', fg=colour)}  {finding.check}: {finding.found}")
            if finding.remedy:
                click.echo(f"       -> {finding.remedy}")
    faults = sum(finding.verdict == "fault" for finding in findings)
    if as_json:
        click.echo(json.dumps({"findings": [asdict(f) for f in findings]}, indent=2))
    elif faults:
        click.echo(f"\n{faults} to mend before the service can run")
    else:
        click.echo("\nthe service can run: agiqa serve")
    sys.exit(1 if faults else 0)


def _serve_on_ray(address: str, given: dict[str, Any]) -> int:
    settings = _settings(given)
    try:
        from app.ray import run
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"Ray Serve needs the package {error.name}: pip install 'agiqa[ray]'"
        ) from error
    with as_messages(ConnectionError, RuntimeError):
        return run(settings, address)


def _print_config(given: dict[str, Any]) -> None:
    from app.cli.configuration import as_toml
    from app.settings import origins

    settings = _settings(given)
    click.echo(as_toml(settings, origins(_flags(given), given["config"])))


def _settings(given: dict[str, Any]) -> "Settings":
    from app.settings import SettingsError, load_settings

    with as_messages(SettingsError):
        return load_settings(_flags(given), given["config"])


def _flags(given: dict[str, Any]) -> dict[str, Any]:
    flags = {name: value for name, value in given.items() if name not in {"config", "models"}}
    return flags | {"models": given["models"] or None}
