"""``agiqa key``: a new key, and its lines for the file of keys."""

import json
import secrets

import click

_BYTES = 32


@click.command()
@click.argument("name")
def key(name: str) -> None:
    """Make a key for NAME.

    The key itself goes to stderr, this once; what AGIQA_KEYS_FILE needs of it to stdout:

        agiqa key gallery >> keys.toml
    """
    from pydantic import ValidationError

    from app.key_file import Key, hash_of

    made = secrets.token_urlsafe(_BYTES)
    try:
        entry = Key(name=name, sha256=hash_of(made.encode()))
    except ValidationError as error:
        raise click.ClickException(f"the name can't be used: {error.errors()[0]['msg']}") from None
    click.echo(f"the key of {entry.name}, shown this once: {made}", err=True)
    click.echo(f"[[keys]]\nname = {json.dumps(entry.name)}\nsha256 = {json.dumps(entry.sha256)}\n")
