"""The file of keys: what it may hold, and what becomes of a change."""

import logging
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.cli.main import main
from app.key_file import Key, KeyFile, hash_of, read_keys
from app.settings import SettingsError

GALLERY, RENDER = hash_of(b"gallery-key"), hash_of(b"render-key")


def entry(name: str = "gallery", sha256: str = GALLERY, more: str = "") -> str:
    return f'[[keys]]\nname = "{name}"\nsha256 = "{sha256}"\n{more}\n'


def written(folder: Path, *entries: str) -> Path:
    """Replaces the file as an editor does, so that every content is another file."""
    new = folder / "new.toml"
    new.write_text("".join(entries))
    return new.replace(folder / "keys.toml")


def test_each_key_has_a_name_a_hash_a_weight_and_a_limit(tmp_path: Path) -> None:
    limits = "weight = 2.5\nconcurrency = 4"
    file = written(tmp_path, entry(), entry("render", RENDER.upper(), limits))
    assert read_keys(file) == {
        GALLERY: Key(name="gallery", sha256=GALLERY, weight=1, concurrency=0),
        RENDER: Key(name="render", sha256=RENDER, weight=2.5, concurrency=4),
    }


def test_the_documentation_shows_a_file_that_is_accepted(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "operations.md"
    (shown,) = re.findall(r"^```toml\n(\[\[keys\]\].*?)^```$", page.read_text(), re.M | re.S)
    (key,) = read_keys(written(tmp_path, shown)).values()
    assert (key.name, key.concurrency) == ("gallery", 8)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "keys: Field required"),
        ("keys = []", "keys: List should have at least 1 item"),
        ("keys = 3", "keys: .*list"),
        ("keys = [3]", r"key 1 \(None\)"),
        ("[[keys]", "line 1"),
        (entry() + "[other]", "other: Extra inputs"),
        (entry(sha256="gallery-key"), r"key 1 \('gallery'\): sha256: .*64 hexadecimal digits"),
        (entry(name="a\\nb"), "name: String should match"),
        (entry(name="key-1"), "name: .*AGIQA_API_KEYS"),
        (entry(more="weight = 0"), "weight: .*greater than 0"),
        (entry(more="weight = inf"), "weight: .*finite"),
        (entry(more='weight = "2"'), "weight: .*valid number"),
        (entry(more="concurrency = -1"), "concurrency: "),
        (entry(more="concurrency = 1.5"), "concurrency: .*integer"),
        (entry(more="limit = 1"), "limit: Extra inputs"),
        (entry() + entry(sha256=RENDER), r"key 2 \('gallery'\): name: key 1 has it already"),
        (entry() + entry("other"), r"key 2 \('other'\): sha256: key 1 has it already"),
        ("#" * 2**20 + "\n" + entry(), "over 1 MiB"),
    ],
)
def test_a_fault_is_named_with_the_file_and_the_key(
    tmp_path: Path, content: str, fault: str
) -> None:
    file = written(tmp_path, content)
    with pytest.raises(SettingsError, match=rf"(?s)keys\.toml: .*{fault}") as refusal:
        read_keys(file)
    assert "gallery-key" not in str(refusal.value)  # whoever pasted the key itself


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    file = written(tmp_path, entry(more="weight = 0"), entry("b", "abc"))
    with pytest.raises(SettingsError, match=r"(?s)key 1 .*weight.*key 2 .*sha256"):
        read_keys(file)


@pytest.mark.parametrize("kind", ["nothing", "folder", "pipe", "text of another alphabet"])
def test_what_is_no_readable_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "keys.toml"
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind != "nothing":
        file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"keys\.toml"):
        KeyFile(file)


def test_a_change_is_taken_over_and_a_broken_file_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = KeyFile(written(tmp_path, entry()))
    written(tmp_path, entry("render", RENDER))
    file.refresh()
    assert set(file.by_hash) == {RENDER}
    written(tmp_path, entry(more="weight = 0"))
    file.refresh()
    file.refresh()
    assert set(file.by_hash) == {RENDER}
    (tmp_path / "keys.toml").unlink()
    file.refresh()
    assert set(file.by_hash) == {RENDER}
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 2  # one for each change, not for each look
    assert "keys.toml" in errors[0]
    assert "weight" in errors[0]
    written(tmp_path, entry())
    file.refresh()
    assert set(file.by_hash) == {GALLERY}


def test_the_command_makes_a_key_and_the_lines_of_the_file(tmp_path: Path) -> None:
    results = [CliRunner().invoke(main, ["key", name]) for name in ("gallery", "render")]
    keys = [result.stderr.split()[-1] for result in results]
    found = read_keys(written(tmp_path, *(result.stdout for result in results)))
    assert [found[hash_of(key.encode())].name for key in keys] == ["gallery", "render"]
    assert all(len(key) >= 43 for key in keys)
    assert not any(key in result.stdout for key, result in zip(keys, results, strict=True))


def test_the_command_refuses_a_name_that_the_file_would_not_take() -> None:
    result = CliRunner().invoke(main, ["key", "two words"])
    assert result.exit_code == 1
    assert "name can't be used" in result.output
