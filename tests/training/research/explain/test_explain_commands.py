"""``agiqa explain``, from the bundled checkpoints to pictures on disk."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tests.model import tiny
from tests.training.miniature import write_live_challenge
from training.commands.explain import explain


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "one.png", tmp_path / "two.png"]
    for seed, path in enumerate(paths):
        tiny.picture(300, 224, seed).save(path)
    return paths


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(explain, [str(argument) for argument in arguments])


def test_one_image_becomes_one_picture(images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "made" / "picture.png"
    result = run(images[0], "-o", out)
    assert result.exit_code == 0, result.output
    assert f"wrote {out}" in result.output
    with Image.open(out) as picture:
        assert picture.width > 2 * picture.height


def test_the_visual_only_variant_stands_beside_the_full_model(
    images: list[Path], tmp_path: Path
) -> None:
    alone, both = tmp_path / "alone.png", tmp_path / "both.png"
    assert run(images[0], "--kind", "roll-out", "-o", alone).exit_code == 0
    result = run(images[0], "--kind", "roll-out", "--beside", "tiny-mpiqe", "-o", both)
    assert result.exit_code == 0, result.output
    with Image.open(alone) as one, Image.open(both) as two:
        assert two.width > 1.3 * one.width


def test_several_images_go_into_a_folder(images: list[Path], tmp_path: Path) -> None:
    result = run(*images, "--head", "consistency", "--prompt", "a dog", "-o", tmp_path / "made")
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in (tmp_path / "made").iterdir()) == ["one.png", "two.png"]


def test_the_features_of_a_data_set_become_a_plot(tmp_path: Path) -> None:
    folder, out = write_live_challenge(tmp_path / "LIVE", images=9), tmp_path / "features.svg"
    arguments = ("--features", folder, "--part", "all", "--checkpoint", "tiny-mpiqe", "-o", out)
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert f"wrote {out}: 9 images" in result.output
    assert b"<svg" in out.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give images, or --features"),
        (("one.png", "--features", "."), "give images, or --features"),
        (("one.png", "--head", "consistency"), "consistency needs the prompt"),
        (("one.png", "--beside", "tiny-mpiqe", "--head", "alignment"), "tiny-mpiqe has no head"),
        (("one.png", "--checkpoint", "none-such"), "no checkpoint 'none-such'"),
        (("one.png", "-o", "picture.jpg"), "picture.jpg: the picture is a .png file"),
        (("one.png", "two.png", "-o", "both.png"), "both.png: several images need a folder"),
        (("one.png", "one.png"), "several images would be called one.png"),
        (("broken.png",), "broken.png: "),
        (("--features", "."), "is no data set that is known here"),
        (("--features", ".", "-o", "plot.png"), "plot.png: the features are drawn as a .svg file"),
    ],
)
@pytest.mark.usefixtures("images")
def test_what_goes_wrong_is_said_and_nothing_is_written(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    result = run(*arguments)
    assert result.exit_code in {1, 2}
    assert message in result.output
    assert len(list(tmp_path.iterdir())) == 3
