"""Options that several commands have."""

from pathlib import Path

import click

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
checkpoint = click.option(
    "--checkpoint",
    default="tiny-clip-agiqa",
    show_default=True,
    help="Bundled name, folder or hf://owner/name.",
)
declared_range = click.option(
    "--range",
    "declared",
    nargs=2,
    type=float,
    metavar="LOW HIGH",
    help="Read the folder's CSV (image,mos,...), with scores on this scale.",
)
lower_better = click.option(
    "--lower-better", is_flag=True, help="On the scale of --range, low is better."
)
recipe_settings = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Overrides a setting; dots reach inside.",
)
protocol = click.option(
    "--protocol",
    type=click.Choice(["clean", "paper"]),
    help="paper: repeat the published protocol, which chooses epochs on the test part.",
)
