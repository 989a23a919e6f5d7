"""CLIP-IQA+ on whole images, each looked at once each way round however many steps there are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import model
from model.clip.backbone import random_open_clip
from model.clip.weights import sha256_of
from model.config import CLIP_NORMALISATION, CropPolicy
from model.methods.registry import build_network
from tests.model import tiny
from tests.training.miniature import write_live_challenge
from training.data.datasets import DATA_SETS
from training.engine.loop import Run
from training.engine.task import Step
from training.errors import RecipeError
from training.evaluation.metrics import srcc
from training.methods.clip_iqa_plus import ClipIqaPlusObjective, ClipIqaPlusWeights
from training.recipe import MethodRecipe, load_recipe
from training.run import Trained, train
from training.sampling.batches import Batches, batch_of
from training.sampling.features import FeatureBatches
from training.sampling.pictures import Pictures, Shelf
from training.splits.split import draw

RESNET = "agiqa-whole-resnet"
IMAGES, SIZES = 24, [(80, 64), (64, 97), (100, 72)]
SCHEDULE = {
    "epochs": 2,
    "steps": 40,
    "batch": 4,
    "optimiser": "sgd",
    "lr": 0.05,
    "warmup_epochs": 0,
    "weight_decay": 0,
    "ema": 0.0,
    "period": 300,
}


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A CLIP with a ResNet of four blocks, by a name that open_clip knows."""
    folder = tmp_path_factory.mktemp("resnet")
    architecture = tiny.open_clips(tiny.variant({"image_size": 64}, stem=()))
    architecture["vision_cfg"] = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16}
    (folder / f"{RESNET}.json").write_text(json.dumps(architecture))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    clip = random_open_clip(RESNET).eval()
    tiny.shake(clip)
    weights = folder / "resnet.safetensors"
    save_file({k: v.contiguous() for k, v in clip.state_dict().items()}, weights)
    return {"source": "file", "name": RESNET, "path": str(weights), "sha256": sha256_of(weights)}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three sizes."""
    folder = write_live_challenge(tmp_path_factory.mktemp("LIVE-Challenge"), IMAGES)
    noise = np.random.default_rng(0)
    for number, path in enumerate(sorted(folder.glob("Images/*"))):
        width, height = SIZES[number % 3]
        pixels = noise.integers(0, 60, (height, width, 3)) + 8 * number
        Image.fromarray(pixels.astype(np.uint8)).save(path, format="JPEG", quality=95)
    return folder


@pytest.fixture
def recipe(backbone: dict[str, Any], photographs: Path, tmp_path: Path) -> MethodRecipe:
    torch.set_num_threads(1)
    content = {
        "kind": "method",
        "name": "whole",
        "method": "clip-iqa-plus",
        "backbone": backbone,
        "data": {"LIVE-Challenge": photographs},
        "out": tmp_path / "checkpoint",
        "work": tmp_path / "work",
        "split": {"shares": {"train": 0.5, "validation": 0.25, "test": 0.25}},
        "crop_policy": {"kind": "whole", "size": 64, "max_side": 1024},
        "options": {"context_length": 4},
        "schedule": SCHEDULE,
        "about": "A miniature.",
        "limits": ["It is a miniature."],
    }
    return MethodRecipe.model_validate(content)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of all that the tower looks at in training."""
    shapes = []
    encode = ClipIqaPlusObjective.encode

    def recorded(self: ClipIqaPlusObjective, pixels: Tensor) -> Tensor:
        shapes.append(tuple(pixels.shape))
        return encode(self, pixels)

    monkeypatch.setattr(ClipIqaPlusObjective, "encode", recorded)
    return shapes


def trained(recipe: MethodRecipe, shelf: Shelf | None = None) -> Trained:
    found = train(recipe, "agiqa train whole", shelf)
    assert found is not None
    return found


def stop_after_an_epoch(patch: pytest.MonkeyPatch) -> None:
    saved = Run._save

    def save_and_stop(self: Run, *arguments: Any) -> None:
        saved(self, *arguments)
        raise Killed

    patch.setattr(Run, "_save", save_and_stop)


def test_each_image_is_looked_at_once_each_way_round_whole_whatever_the_steps(
    recipe: MethodRecipe, looks: list[tuple[int, ...]]
) -> None:
    assert trained(recipe).progress.epochs == 2
    assert len(looks) == 18  # of training and validation part; the scorer looks at the test part
    assert {(w, h) for _, _, h, w in looks} == set(SIZES)
    assert {shape[:2] for shape in looks} == {(2, 3)}


def test_the_features_that_it_trains_on_are_the_tower_s_of_whole_images_and_their_mirrors(
    recipe: MethodRecipe,
) -> None:
    shelf = Shelf()
    trained(recipe, shelf)
    ((_, known),) = shelf.features.items()
    stored = torch.stack(list(known.values()))
    assert stored.shape == (18, 2, 16)
    scorer = model.load(str(recipe.out), device="cpu", dtype="float32")
    rows: list[list[Tensor]] = [[], []]
    for sample in DATA_SETS["LIVE-Challenge"].read(recipe.data["LIVE-Challenge"]):
        picture = Image.open(sample.path)
        for side, view in enumerate((picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))):
            rows[side].append(torch.from_numpy(scorer.rows(view, scorer.plan(*view.size)))[0])
    for side in (0, 1):
        apart = torch.cdist(stored[:, side], torch.stack(rows[side]))
        nearest = apart.min(1)
        assert nearest.values.max() < 1e-5
        assert len(set(nearest.indices.tolist())) == 18
    assert (stored[:, 0] - stored[:, 1]).norm(dim=1).min() > 1e-4


def test_a_run_that_was_killed_goes_on_without_looking_at_an_image_again(
    recipe: MethodRecipe, looks: list[tuple[int, ...]], tmp_path: Path
) -> None:
    whole = recipe.model_copy(update={"out": tmp_path / "a", "work": tmp_path / "b"})
    expected = trained(whole).progress.history
    looks.clear()
    with pytest.MonkeyPatch.context() as patch:
        stop_after_an_epoch(patch)
        with pytest.raises(Killed):
            trained(recipe)
    assert len(looks) == 18
    assert trained(recipe).progress.history == expected
    assert len(looks) == 18


def test_damaged_features_are_computed_again_and_those_of_another_file_are_not_taken(
    recipe: MethodRecipe, looks: list[tuple[int, ...]]
) -> None:
    folder = recipe.work / "features"
    trained(recipe)
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    before = len(looks)
    trained(recipe)
    assert len(looks) == 2 * before
    other = recipe.model_copy(update={"normalisation": CLIP_NORMALISATION})
    trained(other.model_copy(update={"work": recipe.work / "other", "features": folder}))
    assert len(looks) == 3 * before
    assert len(list(folder.iterdir())) == 2


def test_runs_of_one_process_and_of_one_folder_share_them(
    recipe: MethodRecipe, looks: list[tuple[int, ...]], tmp_path: Path
) -> None:
    shelf = Shelf()
    trained(recipe, shelf)
    count = len(looks)
    second = {"out": tmp_path / "a", "work": tmp_path / "b", "seed": 5}
    trained(recipe.model_copy(update=second), shelf)
    third = {"out": tmp_path / "c", "work": tmp_path / "d", "features": recipe.work / "features"}
    trained(recipe.model_copy(update=third))
    assert len(looks) == count


def test_validation_measures_what_the_checkpoint_scores(recipe: MethodRecipe) -> None:
    history = trained(recipe).progress.history
    scorer = model.load(str(recipe.out), device="cpu", dtype="float32")
    assert scorer.planner.policy == recipe.crop_policy
    samples = DATA_SETS["LIVE-Challenge"].read(recipe.data["LIVE-Challenge"])
    part = draw(recipe.split, samples)["validation"]
    scores = [scorer.score(sample.path).quality or 0.0 for sample in part]
    expected = srcc(np.array(scores), np.array([sample.mos for sample in part]))
    assert history[-1]["quality_srcc_LIVE-Challenge"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("flips", [0.0, 1.0])
def test_the_schedule_says_how_many_of_the_features_are_of_mirror_images(
    flips: float, photographs: Path
) -> None:
    samples = DATA_SETS["LIVE-Challenge"].read(photographs)
    sides = {sample.path: torch.tensor([[0.0], [1.0]]) for sample in samples}
    plain = Batches(samples, Pictures(CropPolicy.whole(64), ()), size=8, seed=1, flips=flips)
    batches = FeatureBatches(plain, sides)  # type: ignore[arg-type]
    assert {float(value) for batch in batches.epoch(0) for value in batch.windows} == {flips}


def test_a_step_costs_two_texts_whatever_the_images_size_and_number(
    backbone: dict[str, Any], photographs: Path
) -> None:
    clip = random_open_clip(RESNET)
    network = build_network("clip-iqa-plus", clip, {"context_length": 4})
    objective = ClipIqaPlusObjective(network, ClipIqaPlusWeights(), whole=False)  # type: ignore[arg-type]
    samples = DATA_SETS["LIVE-Challenge"].read(photographs)

    def never(*_: Any) -> None:
        raise AssertionError("the tower was asked for an image")

    network.vision.register_forward_pre_hook(never)
    for module in network.vision.modules():
        module.register_forward_pre_hook(never)
    counted = []
    for images in (4, 24):
        batch = batch_of(samples[:images], torch.randn(images, 1, 16))
        with FlopCounterMode(display=False) as counter:
            sum(Step(objective)(batch).values(), torch.zeros(())).backward()
        counted.append(counter.get_total_flops())
    products = 6 * 20 * 2 * 16  # of 20 more features with two texts, forward and backward
    assert 0 <= counted[1] - counted[0] <= products


def test_the_recipe_is_the_released_checkpoint_s() -> None:
    recipe = load_recipe("clip-iqa-plus/koniq-10k", ["data.KonIQ-10k=somewhere"])
    assert isinstance(recipe, MethodRecipe)
    schedule = recipe.schedule
    assert schedule.steps is not None
    assert schedule.epochs * schedule.steps == 80_000
    assert recipe.crop_policy.kind == "whole"
    for iteration in (0, 40_000, 79_999):
        expected = 0.002 * 0.5 * (1 + np.cos(np.pi * iteration / 300_000))
        assert schedule.rate(iteration, schedule.steps) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("setting", ["schedule.degraded=4", "schedule.windows=3"])
def test_windows_and_degraded_images_are_refused_for_whole_images(setting: str) -> None:
    with pytest.raises(RecipeError, match="not for whole images: leave them out"):
        load_recipe("clip-iqa-plus/koniq-10k", ["data.KonIQ-10k=somewhere", setting])
