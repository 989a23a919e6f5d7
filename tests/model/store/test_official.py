"""Published CLIP-AGIQA weights: the import, and the published network's scores on two images.

The golden weights are numbers drawn by name, in the layout of the published code, so that they do
not depend on the version of torch; the scores are those of the published network in float32.
"""

import json
import math
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import open_clip
import pytest
import skimage.data
import torch
from torch import Tensor, nn

import model
from model.config import CropPolicy
from model.errors import CheckpointError
from model.scorer import Scorer
from model.store.checkpoint import load_network
from model.store.official import convert, import_official, learner_weights
from tests.model import tiny
from tests.model.clip.test_weights import save_openai_archive
from training.data.samples import Sample
from training.errors import DataError
from training.evaluation.evaluate import part_of
from training.splits.groups import paper_rounds


def drawn(key: str, shape: tuple[int, ...], std: float, mean: float = 0.0) -> Tensor:
    state = np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF)
    return torch.from_numpy((mean + std * state.standard_normal(shape)).astype(np.float32))


def backbone_weights(clip: nn.Module) -> dict[str, Tensor]:
    """A CLIP's state dict with every number drawn by the name of its tensor."""
    weights = {}
    for name, value in clip.state_dict().items():
        shape = tuple(value.shape)
        if name == "attn_mask" or not shape:
            continue
        if "ln_" in name and name.endswith("weight"):
            weights[name] = drawn(name, shape, 0.02, mean=1.0)
        elif name.endswith("bias") or len(shape) == 1:
            weights[name] = drawn(name, shape, 0.02)
        else:
            weights[name] = drawn(name, shape, shape[-1] ** -0.5)
    return weights | {"logit_scale": torch.tensor(math.log(100.0))}


class Widths(NamedTuple):
    """What the published layout depends on."""

    length: int
    text: int
    vision: int
    layers: int


def learner(task: str, widths: Widths, *, conditioned: bool) -> dict[str, Tensor]:
    """One task's published tensors; the main task ("tar") holds the Linears too."""
    n, text, vision, layers = widths
    shapes: dict[str, tuple[int, ...]] = {"ctx": (n, text)}
    shapes |= {f"prompts_text.{i}": (n, text) for i in range(layers - 1)}
    shapes |= {f"prompts_vis.{i}": (n, vision) for i in range(layers)}
    weights = {name: drawn(f"{task}.{name}", shape, 0.2) for name, shape in shapes.items()}
    if conditioned:
        later = [f"compound_prompt_projections.{i}" for i in range(layers - 1)]
        for linear in ["proj", *later]:
            key = f"{task}.{linear}.weight"
            weights[f"{linear}.weight"] = drawn(key, (vision, 2 * vision), (2 * vision) ** -0.5)
            weights[f"{linear}.bias"] = drawn(f"{task}.{linear}.bias", (vision,), 0.02)
    return weights


GOLDEN = {
    "astronaut": {"crops": 25, "quality": 0.446461541056633, "alignment": 0.7279412586987019},
    "coffee": {"crops": 18, "quality": 0.3737375612060229, "alignment": 0.8240991400347816},
}
VIT_B_32 = Widths(length=8, text=512, vision=768, layers=12)


@pytest.fixture(scope="session")
def golden(vit_b_32: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scorer]:
    folder = tmp_path_factory.mktemp("golden")
    torch.save(backbone_weights(vit_b_32), folder / "backbone.pt")
    torch.save(learner("aux", VIT_B_32, conditioned=False), folder / "aux.pth")
    torch.save(learner("tar", VIT_B_32, conditioned=True), folder / "tar.pth")
    out = folder / "imported"
    import_official(folder / "backbone.pt", folder / "aux.pth", folder / "tar.pth", out)
    yield model.load(str(out), device="cpu", dtype="float32", crop_policy="official")
    shutil.rmtree(folder)  # over a gigabyte


@pytest.mark.parametrize(("name", "published"), GOLDEN.items(), ids=GOLDEN.keys())
def test_imported_weights_give_the_published_networks_scores(
    name: str, published: dict[str, float], golden: Scorer
) -> None:
    score = golden.score(getattr(skimage.data, name)())
    assert score.crops == published["crops"]
    assert score.quality == pytest.approx(published["quality"], abs=1e-4)
    assert score.alignment == pytest.approx(published["alignment"], abs=1e-4)


TINY_NAME = "agiqa-test-tiny"
TINY = Widths(length=3, text=16, vision=32, layers=4)
Learner = dict[str, Tensor]


class Published(NamedTuple):
    """Published files of a tiny architecture, which open_clip knows by name."""

    backbone: Path
    auxiliary: Path
    main: Path


@pytest.fixture(scope="session")
def architecture(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("architectures") / f"{TINY_NAME}.json"
    layers = {"layers": TINY.layers}
    config = {
        "embed_dim": tiny.ARCHITECTURE.embed_dim,
        "quick_gelu": True,
        "vision_cfg": tiny.ARCHITECTURE.vision_cfg | layers,
        "text_cfg": tiny.ARCHITECTURE.text_cfg | layers,
    }
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    return TINY_NAME


@pytest.fixture
def published(architecture: str, tmp_path: Path) -> Published:
    files = Published(tmp_path / "backbone.pt", tmp_path / "aux.pth", tmp_path / "tar.pth")
    torch.save(backbone_weights(open_clip.create_model(architecture)), files.backbone)
    torch.save(learner("aux", TINY, conditioned=False), files.auxiliary)
    torch.save(learner("tar", TINY, conditioned=True), files.main)
    return files


def imported(files: Published) -> Path:
    out = files.main.parent / "imported"
    import_official(files.backbone, files.auxiliary, files.main, out, architecture=TINY_NAME)
    return out


def test_an_imported_checkpoint_says_what_it_is(published: Published) -> None:
    config, network = load_network(imported(published))
    assert (config.name, config.method) == ("imported", "clip-agiqa")
    assert config.crop_policy == CropPolicy()
    assert config.measured_policy == CropPolicy.official()
    assert (config.score_range.low, config.score_range.high) == (0, 5)
    assert (config.options["context_length"], config.options["visual_length"]) == (3, 3)
    learned = network.trainable_parameters()
    torch.testing.assert_close(learned["quality.context"].data, drawn("tar.ctx", (3, 16), 0.2))
    torch.testing.assert_close(
        learned["condition.2.bias"].data,
        drawn("tar.compound_prompt_projections.1.bias", (32,), 0.02),
    )


def listed(data_set: str = "AGIQA-3K", prompts: int = 300) -> list[Sample]:
    return [
        Sample(data_set, Path(f"{4 * n}.png"), f"prompt {n:03}", 0.5, prompt=f"prompt {n:03}")
        for n in range(prompts)
    ]


@pytest.mark.parametrize(
    ("data_set", "prompts", "high"), [("AGIQA-3K", 300, 5), ("AIGCIQA2023", 100, 100)]
)
def test_imported_weights_are_measured_on_the_prompts_that_their_round_tests(
    published: Published, data_set: str, prompts: int, high: float
) -> None:
    out = published.main.parent / "imported"
    config = import_official(*published, out, architecture=TINY_NAME, trained_on=data_set, round=3)
    samples = listed(data_set, prompts)
    assert part_of(config, samples, "test")["test"] == paper_rounds(samples, 3)["test"]
    assert config.provenance.trained_on == (data_set,)
    assert config.score_range.high == high
    assert "round 3 of the published splits" in (out / "README.md").read_text()
    with pytest.raises(DataError, match="use --part test"):
        part_of(config, samples, "unseen")


@pytest.mark.parametrize(
    ("data_set", "number"), [("AGIQA-3K", 10), ("AGIQA-3K", None), ("LIVE", 0), (None, 0)]
)
def test_a_split_that_was_not_published_is_refused_before_a_file_is_read(
    tmp_path: Path, data_set: str | None, number: int | None
) -> None:
    nothing = tmp_path / "nothing.pt"
    with pytest.raises(CheckpointError, match=r"AGIQA-3K or AIGCIQA2023.*\(0 to 9\), or neither"):
        import_official(
            *(nothing, nothing, nothing, tmp_path / "out"), trained_on=data_set, round=number
        )
    assert not (tmp_path / "out").exists()


def test_an_import_rounds_the_backbones_matrices_as_openai_ships_them(
    published: Published,
) -> None:
    out = imported(published)
    _, network = load_network(out)
    weights = torch.load(published.backbone, weights_only=True)
    projection = network.vision.visual.proj
    torch.testing.assert_close(projection, weights["visual.proj"].half().float(), atol=0, rtol=0)
    norm = network.vision.visual.ln_post.weight
    torch.testing.assert_close(norm, weights["visual.ln_post.weight"], atol=0, rtol=0)


def test_openais_archive_gives_the_checkpoint_that_its_plain_weights_give(
    published: Published,
) -> None:
    _, plain = load_network(imported(published))
    clip = open_clip.create_model(TINY_NAME)
    clip.load_state_dict(torch.load(published.backbone, weights_only=True))
    save_openai_archive(clip, published.backbone)
    _, from_archive = load_network(imported(published))
    wanted = plain.state_dict()
    assert all(torch.equal(v, wanted[name]) for name, v in from_archive.state_dict().items())


def test_names_are_read_below_any_prefix_and_recomputable_tensors_are_ignored(
    published: Published,
) -> None:
    plain = learner_weights(published.auxiliary)
    dressed: dict[str, Tensor] = {f"module.prompt_learner.{k}": v for k, v in plain.items()}
    dressed["module.prompt_learner.token_prefix"] = torch.zeros(2, 1, 16)
    dressed["module.prompt_learner.token_suffix"] = torch.zeros(2, 60, 16)
    torch.save({"epoch": 7, "state_dict": dressed}, published.auxiliary)
    again = learner_weights(published.auxiliary)
    assert again.keys() == plain.keys()
    assert all(torch.equal(again[name], plain[name]) for name in plain)
    load_network(imported(published))


def test_weights_in_half_precision_are_imported(published: Published) -> None:
    halves = {k: v.half() for k, v in learner_weights(published.main).items()}
    torch.save(halves, published.main)
    _, network = load_network(imported(published))
    torch.testing.assert_close(network.quality.context.data, halves["ctx"].float())


def test_swapped_files_are_refused(published: Published) -> None:
    swapped = Published(published.backbone, published.main, published.auxiliary)
    with pytest.raises(CheckpointError, match=r"unknown tensor proj.*swapped"):
        imported(swapped)


def test_the_auxiliary_file_given_twice_is_refused(published: Published) -> None:
    twice = Published(published.backbone, published.auxiliary, published.auxiliary)
    with pytest.raises(CheckpointError, match=r"quality weights lack the tensor proj.weight"):
        imported(twice)


# What is wrong, in which file, and the names that the error may give (published or ours).
FAULTS: dict[str, tuple[str, Callable[[Learner], Any], str]] = {
    "no-context": ("auxiliary", lambda t: t.pop("ctx"), r"\bctx\b"),
    "no-text-prompt": ("auxiliary", lambda t: t.pop("prompts_text.1"), r"prompts_text\.1\b"),
    "no-last-text-prompt": (
        "main",
        lambda t: t.pop("prompts_text.2"),
        r"prompts_text\.2\b|quality\.text",
    ),
    "no-vision-prompt": ("main", lambda t: t.pop("prompts_vis.0"), r"prompts_vis\.0\b"),
    "no-first-linear": ("main", lambda t: t.pop("proj.bias"), r"proj\.bias"),
    "no-later-linear": (
        "main",
        lambda t: t.pop("compound_prompt_projections.1.weight"),
        r"compound_prompt_projections\.1\.weight",
    ),
    "no-last-bias": (
        "main",
        lambda t: t.pop("compound_prompt_projections.2.bias"),
        r"compound_prompt_projections\.2\.bias|condition\.3\.bias",
    ),
    "extra-in-main": ("main", lambda t: t.update(surplus=torch.zeros(1)), r"\bsurplus\b"),
    "extra-in-auxiliary": (
        "auxiliary",
        lambda t: t.update({"prompts_vis.4": torch.zeros(3, 32)}),
        r"prompts_vis\.4\b|alignment\.visual",
    ),
    "misshapen-context": (
        "auxiliary",
        lambda t: t.update(ctx=torch.zeros(3, 15)),
        r"\bctx\b|alignment\.context",
    ),
    "misshapen-text-prompt": (
        "auxiliary",
        lambda t: t.update({"prompts_text.1": torch.zeros(2, 16)}),
        r"prompts_text\.1\b|alignment\.text",
    ),
    "misshapen-vision-prompts": (
        "auxiliary",
        lambda t: t.update({f"prompts_vis.{i}": torch.zeros(2, 32) for i in range(4)}),
        r"prompts_vis\.|alignment\.visual",
    ),
    "misshapen-linear": (
        "main",
        lambda t: t.update({"proj.weight": torch.zeros(32, 32)}),
        r"proj\.weight|condition\.0\.weight",
    ),
}


@pytest.mark.parametrize(("file", "damage", "names"), FAULTS.values(), ids=FAULTS.keys())
def test_a_wrong_published_tensor_is_named(
    file: str, damage: Callable[[Learner], Any], names: str, published: Published
) -> None:
    path: Path = getattr(published, file)
    weights = torch.load(path, weights_only=True)
    damage(weights)
    torch.save(weights, path)
    with pytest.raises(CheckpointError, match=names):
        imported(published)


def test_weights_of_another_architecture_are_refused(published: Published) -> None:
    wider = TINY._replace(vision=48)
    torch.save(learner("aux", wider, conditioned=False), published.auxiliary)
    with pytest.raises(CheckpointError, match=r"alignment\.visual is \[4, 3, 48\], wanted"):
        imported(published)


def test_a_refused_import_leaves_no_checkpoint(published: Published) -> None:
    published.main.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match=r"tar\.pth holds no weights"):
        imported(published)
    assert not (published.main.parent / "imported").exists()


def test_converting_changes_nothing_that_it_is_given(published: Published) -> None:
    files: list[Mapping[str, Tensor]] = [
        learner_weights(published.auxiliary),
        learner_weights(published.main),
    ]
    names = [set(tensors) for tensors in files]
    convert(*files)
    assert [set(tensors) for tensors in files] == names
