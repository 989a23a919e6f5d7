"""What holds for every method: the registry, checkpoints, batches, and scores of odd images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import model
from model.config import BackboneConfig, CheckpointConfig, CropPolicy
from model.errors import CheckpointError
from model.methods.network import Network
from model.methods.registry import METHODS, build_network, network_type
from model.scorer import Scorer
from model.store.checkpoint import PARAMETERS, load_network, save_checkpoint, without_digests
from tests.model import tiny
from tests.model.clip.test_resnet import VISION, resnet_clip

GRID, WHOLE = CropPolicy(max_side=1024), CropPolicy.whole(max_side=1024)
RESNET = "Tiny-ResNet-of-tests"


@dataclass(frozen=True)
class Case:
    """A method on a backbone, with a crop policy that suits it."""

    method: str
    policy: CropPolicy = GRID
    options: dict[str, Any] = field(default_factory=dict)
    resnet: bool = False

    def network(self) -> Network:
        clip = resnet_clip() if self.resnet else tiny.random_clip()
        return build_network(self.method, clip, self.options).eval()

    def config(self) -> CheckpointConfig:
        network = network_type(self.method)
        on_resnet = BackboneConfig(source="checkpoint", name=RESNET)
        on_vit = BackboneConfig(source="checkpoint", architecture=tiny.ARCHITECTURE)
        return CheckpointConfig(
            name="tiny",
            method=self.method,
            backbone=on_resnet if self.resnet else on_vit,
            options=network.options_type(**self.options).model_dump(mode="json"),
            heads=("quality",),
            crop_policy=self.policy,
        )


CASES = {
    "clip-iqa-vit": Case("clip-iqa", options={"attributes": ("sharpness",)}),
    "clip-iqa-resnet": Case("clip-iqa", WHOLE, resnet=True),
    "clip-iqa-plus-vit": Case("clip-iqa-plus", options={"context_length": 5}),
    "clip-iqa-plus-resnet": Case("clip-iqa-plus", WHOLE, resnet=True),
    "liqe": Case("liqe", CropPolicy.liqe()),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@pytest.fixture(autouse=True, scope="module")
def tiny_resnet_is_known() -> Iterator[None]:
    """open_clip knows the tiny ResNet by name, as it knows RN50."""
    text = {"width": 16, "layers": 2, "heads": 2}
    settings = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": text, "quick_gelu": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(open_clip.factory._MODEL_CONFIGS, RESNET, settings)
        yield


@pytest.fixture(scope="module")
def scorers() -> dict[str, Scorer]:
    """One of each case; tests must not change them."""
    return {
        name: Scorer(case.config(), case.network(), device="cpu", dtype="float32")
        for name, case in CASES.items()
    }


every_scorer = pytest.mark.parametrize("name", CASES)


# The registry


BUILT = {
    "clip-agiqa": "ClipAgiqa",
    "clip-iqa": "ClipIqa",
    "clip-iqa-plus": "ClipIqaPlus",
    "clipscore": "ClipScore",
    "liqe": "Liqe",
    "mp-iqe": "MpIqe",
}


def test_the_methods_are_those_of_both_papers_and_their_baselines() -> None:
    assert METHODS.keys() == BUILT.keys()


@pytest.mark.parametrize("method", BUILT)
def test_a_method_is_built_by_its_name_and_folds(method: str) -> None:
    network = build_network(method, tiny.random_clip(), {})
    assert type(network).__name__ == BUILT[method]
    assert type(network) is network_type(method)
    assert network.input_size == 224
    assert "quality" in network.heads
    assert {id(p) for p in network.trainable_parameters().values()} == {
        id(p) for p in network.parameters() if p.requires_grad
    }
    assert callable(network.fold().read)


@pytest.mark.parametrize("method", BUILT)
def test_a_method_refuses_options_that_it_does_not_have(method: str) -> None:
    with pytest.raises(ValueError, match="sprinkles"):
        build_network(method, tiny.random_clip(), {"sprinkles": True})


def test_there_is_no_unknown_method() -> None:
    with pytest.raises(KeyError, match="astrology"):
        build_network("astrology", tiny.random_clip(), {})


# What every method keeps


def saved(folder: Path, case: Case, network: Network) -> Path:
    backbone: Any = network.text.text
    save_checkpoint(
        folder,
        case.config(),
        network,
        card="",
        metrics={},
        backbone=backbone,
        dtype=torch.float32,
    )
    return folder


@every_case
def test_what_was_saved_is_loaded_again_and_scores_the_same(case: Case, tmp_path: Path) -> None:
    network = case.network()
    tiny.shake(network, seed=9, std=0.05)  # nothing is as it is built
    wanted = {name: value.clone() for name, value in network.state_dict().items()}
    folder = saved(tmp_path, case, network)
    config, loaded = load_network(folder)
    assert without_digests(config) == case.config()
    assert type(loaded) is type(network)
    assert loaded.state_dict().keys() == wanted.keys()
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, wanted[name]), name
    assert load_file(folder / PARAMETERS).keys() == network.stored().keys()
    image = tiny.picture(300, 240)
    scorer = Scorer(config, network, device="cpu", dtype="float32")
    fresh = Scorer(config, case.network(), device="cpu", dtype="float32").score(image)
    again = model.load(str(folder), device="cpu", dtype="float32").score(image)
    assert again == scorer.score(image)
    assert abs(again.quality - fresh.quality) > 1e-5  # so that equality means something


@every_case
def test_a_loaded_network_is_in_evaluation_mode(case: Case, tmp_path: Path) -> None:
    _, loaded = load_network(saved(tmp_path, case, case.network()))
    assert not any(module.training for module in loaded.modules())


@every_case
def test_a_head_that_the_method_lacks_is_refused_when_it_is_loaded(
    case: Case, tmp_path: Path
) -> None:
    folder = saved(tmp_path, case, case.network())
    config = case.config().model_copy(update={"heads": ("quality", "alignment")})
    (folder / "config.json").write_text(config.model_dump_json())
    with pytest.raises(CheckpointError, match="there is no alignment"):
        load_network(folder)


@every_scorer
def test_a_row_is_the_same_alone_and_among_rows_of_other_images(
    name: str, scorers: dict[str, Scorer]
) -> None:
    scorer = scorers[name]
    pictures = [tiny.picture(300, 260, seed) for seed in range(3)]
    crops = np.concatenate([scorer.crops(picture) for picture in pictures])
    order = np.random.RandomState(0).permutation(len(crops)).tolist()
    together = scorer.forward(crops, order, [0] * len(order))
    alone = np.concatenate([scorer.forward(crops[c : c + 1], [0], [0]) for c in order])
    assert together == pytest.approx(alone, abs=1e-5)
    assert np.abs(alone[0] - alone[1]).max() > 1e-4
    starts = np.split(np.argsort(order), len(pictures))
    for picture, own in zip(pictures, starts, strict=True):
        layout = scorer.plan(*picture.size)
        batched, single = scorer.reduce(together[own], layout), scorer.score(picture)
        assert batched.quality == pytest.approx(single.quality, abs=1e-5)
        assert batched.crop_quality == pytest.approx(single.crop_quality, abs=1e-5)


ODD: dict[str, Callable[[], Image.Image]] = {
    "one-pixel": lambda: Image.new("RGB", (1, 1), "white"),
    "line": lambda: tiny.picture(50, 1),
    "tall": lambda: tiny.picture(30, 600),
    "black": lambda: Image.new("RGB", (224, 224)),
    "white": lambda: Image.new("RGB", (230, 500), "white"),
    "primary": lambda: Image.new("RGB", (300, 224), (255, 0, 0)),
    "grey": lambda: tiny.picture(256, 256).convert("L"),
    "palette": lambda: tiny.picture(256, 256).convert("P"),
    "transparent": lambda: Image.new("RGBA", (256, 300), (10, 200, 30, 0)),
    "checkered": lambda: Image.fromarray((np.indices((256, 256)).sum(0) % 2 * 255).astype("uint8")),
}


@pytest.mark.parametrize("odd", ODD)
@every_scorer
def test_scores_of_odd_images_lie_in_0_to_1(
    name: str, odd: str, scorers: dict[str, Scorer]
) -> None:
    score: Any = scorers[name].score(ODD[odd]())
    extras = [*(score.attributes or {}).values(), *(score.scene or {}).values()]
    values = [score.quality, *score.crop_quality, *extras, *(score.distortion or {}).values()]
    assert all(0 <= value <= 1 for value in values)
    assert len(score.crop_quality) == score.crops >= 1
    for named in filter(None, (score.scene, score.distortion)):
        assert sum(named.values()) == pytest.approx(1, abs=1e-5)


@every_scorer
def test_the_plan_is_the_cost_of_the_rows(name: str, scorers: dict[str, Scorer]) -> None:
    scorer = scorers[name]
    for size in [(224, 224), (500, 300)]:
        layout = scorer.planner.layout(*size, ("quality",))
        area = layout.shape[0] * layout.shape[1] / 224**2
        assert scorer.crops(tiny.picture(*size)).shape == (layout.crops, 3, *layout.shape)
        assert scorer.plan(*size).cost == layout.cost == len(layout.row_crop) * int(np.ceil(area))
