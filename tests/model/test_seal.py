"""Sealed checkpoints: nothing but what was sealed is loaded, and nothing that gives no numbers."""

import logging
import pickle
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import model
from model import self_test
from model.clip.backbone import WEIGHTS
from model.errors import CheckpointError
from model.scorer import Scorer
from model.seal import seal
from model.store.checkpoint import PARAMETERS, find, read_config, without_digests, write_config
from tests.model import tiny
from tests.model.clip.test_weights import Malice

Damage = Callable[[Path, Path], object]
SUMS = [1170067142, 4265039923, 2744873866]


@pytest.fixture
def sealed(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint, sealed, that a test may damage."""
    copy = Path(shutil.copytree(tiny_checkpoint, tmp_path / "tiny"))
    seal(copy)
    return copy


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that code in a pickle would make."""
    return tmp_path / "victim"


def load(folder: Path, dtype: str = "float32") -> Scorer:
    return model.load(str(folder), device="cpu", dtype=dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_sealed_says_what_it_scores_and_loads_in_any_type(
    dtype: str, sealed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = read_config(sealed)
    assert config.self_test is not None
    assert config.is_sealed
    assert config.self_test.scores.keys() == set(config.heads)
    assert config.self_test.prompt
    assert load(sealed, dtype).config == config
    assert not caplog.records


@pytest.mark.parametrize("name", ["tiny-clip-agiqa", "tiny-mpiqe"])
def test_the_bundled_models_are_sealed_far_from_the_ends_of_the_scale(name: str) -> None:
    sealed = read_config(find(name)).self_test
    assert sealed is not None
    assert all(0.05 < score < 0.95 for score in sealed.scores.values())


def test_sealing_again_changes_nothing(sealed: Path) -> None:
    before = read_config(sealed)
    assert seal(sealed) == before


def test_the_pictures_never_change() -> None:
    """Checkpoints out there are sealed with them."""
    drawn = [self_test.draw_picture(number) for number in (1, 2, 3)]
    assert [picture.size for picture in drawn] == [(256, 256)] * 3
    assert [zlib.crc32(picture.tobytes()) for picture in drawn] == SUMS


def cut(name: str, part: float) -> Damage:
    def damage(folder: Path, victim: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * part)])

    return damage


def swapped(name: str) -> Damage:
    """The tensors of another checkpoint of the same shapes."""

    def damage(folder: Path, victim: Path) -> None:
        save_file({k: v + 0.01 for k, v in load_file(folder / name).items()}, folder / name)

    return damage


def not_a_number(name: str) -> Damage:
    def damage(folder: Path, victim: Path) -> None:
        tensors = load_file(folder / name)
        first = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
        tensors[first].view(-1)[0] = torch.nan
        save_file(tensors, folder / name)

    return damage


def malicious(name: str) -> Damage:
    return lambda folder, victim: (folder / name).write_bytes(pickle.dumps(Malice(victim)))


def garbage(name: str) -> Damage:
    return lambda folder, victim: (folder / name).write_bytes(b"\xff" * 5000)


DAMAGES: dict[str, Damage] = {
    f"{what}-{name.partition('.')[0]}": damage
    for name in (PARAMETERS, WEIGHTS)
    for what, damage in {
        "cut-at-0": cut(name, 0.0),
        "cut-in-the-header": cut(name, 0.01),
        "cut-at-half": cut(name, 0.5),
        "cut-at-the-end": cut(name, 0.999),
        "swapped": swapped(name),
        "nan": not_a_number(name),
        "code": malicious(name),
        "garbage": garbage(name),
    }.items()
}
every_damage = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())


@every_damage
def test_other_files_than_the_sealed_ones_are_refused_by_their_digest(
    damage: Damage, sealed: Path, victim: Path
) -> None:
    damage(sealed, victim)
    with pytest.raises(CheckpointError, match=r"safetensors is not the .*SHA-256 differs") as no:
        load(sealed)
    assert "\n" not in str(no.value)
    assert not victim.exists()


@pytest.mark.parametrize(
    "damage", [d for k, d in DAMAGES.items() if "swapped" not in k], ids=lambda d: d.__qualname__
)
def test_without_a_seal_what_is_damaged_is_refused_all_the_same(
    damage: Damage, sealed: Path, victim: Path
) -> None:
    write_config(sealed, without_digests(read_config(sealed)))
    damage(sealed, victim)
    with pytest.raises(CheckpointError, match=r"damaged|no numbers|holds no weights") as no:
        load(sealed)
    assert "\n" not in str(no.value)
    assert not victim.exists()


@every_damage
def test_what_is_damaged_can_not_be_sealed_unless_it_scores(
    damage: Damage, sealed: Path, victim: Path, request: pytest.FixtureRequest
) -> None:
    damage(sealed, victim)
    before = read_config(sealed)
    if "swapped" in request.node.callspec.id:
        assert seal(sealed) != before
        load(sealed)
        return
    with pytest.raises(CheckpointError):
        seal(sealed)
    assert read_config(sealed) == before


def test_another_score_than_the_sealed_one_is_refused_by_head(sealed: Path) -> None:
    config = read_config(sealed)
    assert config.self_test is not None
    for head, value in config.self_test.scores.items():
        scores = config.self_test.scores | {head: abs(value - 0.02)}
        changed = config.self_test.model_copy(update={"scores": scores})
        write_config(sealed, config.model_copy(update={"self_test": changed}))
        with pytest.raises(CheckpointError, match=rf"the self-test gives {head} .* config\.json"):
            load(sealed)


def test_a_network_that_gives_no_numbers_is_refused_though_its_tensors_are_some(
    sealed: Path,
) -> None:
    def too_large(folder: Path) -> None:
        tensors = load_file(folder / PARAMETERS)
        save_file({k: torch.full_like(v, 3e38) for k, v in tensors.items()}, folder / PARAMETERS)

    write_config(sealed, without_digests(read_config(sealed)))
    too_large(sealed)
    with pytest.raises(CheckpointError, match=r"the self-test gives \w+ nan, which is no score"):
        load(sealed)


def test_a_checkpoint_of_older_versions_loads_with_a_warning(
    sealed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_config(sealed, without_digests(read_config(sealed)))
    assert load(sealed).score(tiny.picture(224, 224)).quality is not None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "tiny is not sealed" in record.getMessage()


def test_the_self_test_is_of_the_checkpoints_own_crops_whatever_policy_is_asked_for(
    sealed: Path,
) -> None:
    scorer = model.load(str(sealed), device="cpu", dtype="float32", crop_policy="random")
    assert self_test.run(scorer, 1) == self_test.run(load(sealed), 1)
    assert scorer.planner.policy.kind == "random"
