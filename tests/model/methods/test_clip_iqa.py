"""CLIP-IQA against its equations written out once more, its pairs, and that nothing learns."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import CLIP_NORMALISATION, CropPolicy
from model.methods.clip_iqa import PAIRS, ClipIqa, ClipIqaOptions
from model.methods.network import Network, Views
from model.scorer import Scorer
from model.scores import Score
from tests.model import tiny
from tests.model.clip.test_prompts import plain_text_feature, sentence
from tests.model.clip.test_resnet import plain_resnet_feature, resnet_clip

CLIPS: dict[str, Callable[[], nn.Module]] = {"vit": tiny.random_clip, "resnet": resnet_clip}
every_backbone = pytest.mark.parametrize("backbone", CLIPS)

# The paper's pairs, in words of the test's own.
TEXTS = {
    "quality": ("Good photo.", "Bad photo."),
    "brightness": ("Bright photo.", "Dark photo."),
    "noisiness": ("Clean photo.", "Noisy photo."),
    "colorfulness": ("Colorful photo.", "Dull photo."),
    "sharpness": ("Sharp photo.", "Blurry photo."),
    "contrast": ("High contrast photo.", "Low contrast photo."),
}


def network(backbone: str = "vit", **options: Any) -> ClipIqa:
    return ClipIqa(CLIPS[backbone](), ClipIqaOptions(**options)).eval()


def scorer_of(net: Network, policy: CropPolicy) -> Scorer:
    config = tiny.config_of(
        net.options,
        method="clip-iqa",
        heads=("quality",),
        crop_policy=policy,
        normalisation=CLIP_NORMALISATION,
    )
    return Scorer(config, net, device="cpu", dtype="float32")


def pixels(count: int) -> Tensor:
    return torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(2))


def plain_crop(image: Image.Image, x: int, y: int, width: int, height: int) -> Tensor:
    """Normalised pixels float64 [3, h, w] of a box, with CLIP's own constants."""
    box = np.asarray(image, np.float64)[y : y + height, x : x + width] / 255
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    return torch.from_numpy(((box - mean) / std).transpose(2, 0, 1).copy())


def plain_image_feature(clip: Any, crop: Tensor) -> Tensor:
    """Feature [d] of normalised pixels, from open_clip's own towers."""
    if hasattr(clip.visual, "attnpool"):
        return plain_resnet_feature(clip.visual, crop)
    return clip.visual(crop[None])[0]


def plain_probability(clip: Any, x: Tensor, first: Tensor, second: Tensor) -> float:
    """Equations 1 and 2: softmax over the two scaled cosines, of the first text."""
    scale = math.exp(float(clip.logit_scale))
    cosines = [float(x @ t / (x.norm() * t.norm())) for t in (first, second)]
    good, bad = (math.exp(scale * cosine) for cosine in cosines)
    return good / (good + bad)


@pytest.mark.parametrize(
    ("backbone", "policy", "boxes"),
    [
        ("vit", CropPolicy(), [(0, 0, 224, 224), (76, 0, 224, 224)]),
        ("resnet", CropPolicy(), [(0, 0, 224, 224), (76, 0, 224, 224)]),
        ("resnet", CropPolicy.whole(), [(0, 0, 300, 224)]),
    ],
    ids=["vit-crops", "resnet-crops", "resnet-whole"],
)
def test_quality_and_attributes_are_equations_1_and_2_averaged_over_the_windows(
    backbone: str, policy: CropPolicy, boxes: list[tuple[int, int, int, int]]
) -> None:
    image = tiny.picture(300, 224)
    net = network(backbone)
    exact: Any = CLIPS[backbone]().double()
    with torch.no_grad():
        x = [plain_image_feature(exact, plain_crop(image, *box)) for box in boxes]
        each = {
            name: [
                plain_probability(exact, one, *(plain_text(exact, text) for text in pair))
                for one in x
            ]
            for name, pair in TEXTS.items()
        }
    score: Any = scorer_of(net, policy).score(image)
    wanted = {name: pytest.approx(np.mean(values), abs=1e-5) for name, values in each.items()}
    assert score.quality == wanted.pop("quality")
    assert score.attributes == wanted
    assert score.crop_quality == pytest.approx(each["quality"], abs=1e-5)
    assert score.crops == len(boxes)


def plain_text(clip: Any, text: str) -> Tensor:
    return plain_text_feature(clip, sentence(None, text, None))


@every_backbone
def test_text_features_are_those_of_plain_clip(backbone: str) -> None:
    net = network(backbone).double()
    with torch.no_grad():
        ours = net.text_features()
        for name, pair in TEXTS.items():
            plain = torch.stack([plain_text(net.text.text, text) for text in pair])
            plain = plain / plain.norm(dim=1, keepdim=True)
            torch.testing.assert_close(ours[name], plain, atol=1e-10, rtol=1e-10)
    assert list(ours) == list(PAIRS) == list(TEXTS)


def read(net: ClipIqa, z: Tensor, whole: Tensor | None = None) -> Score:
    return net.fold().read({"quality": Views(z, whole)})


@every_backbone
def test_folding_changes_no_score(backbone: str) -> None:
    net, x = network(backbone), pixels(3)
    with torch.no_grad():
        z = F.normalize(net.vision.encode(net.vision.patchify(x)), dim=-1)
        logits = {n: net.logit_scale.exp() * z @ t.T for n, t in net.text_features().items()}
        each = {name: pair.softmax(-1)[:, 0] for name, pair in logits.items()}
        rows = net.fold()(x, torch.tensor([0, 1, 2]), torch.zeros(3, dtype=torch.long))
        score: Any = read(net, rows)
    torch.testing.assert_close(rows, z, atol=1e-5, rtol=1e-5)
    means = {name: pytest.approx(float(values.mean()), abs=1e-5) for name, values in each.items()}
    assert score.quality == means.pop("quality")
    assert score.attributes == means


@every_backbone
def test_nothing_learns_and_nothing_moves_in_training_mode(backbone: str) -> None:
    net = network(backbone).train()
    before = copy.deepcopy(net.state_dict())
    z = net.vision.encode(net.vision.patchify(pixels(2)))
    assert net.trainable_parameters() == net.stored() == {}
    assert not z.requires_grad
    assert not any(t.requires_grad for t in net.text_features().values())
    assert not any(p.requires_grad for p in net.parameters())
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("chosen", "answered"),
    [
        (("sharpness",), {"sharpness"}),
        (("contrast", "brightness"), {"contrast", "brightness"}),
        (("quality", "noisiness"), {"noisiness"}),
        (tuple(TEXTS), set(TEXTS) - {"quality"}),
    ],
    ids=["one", "two", "quality-is-no-attribute", "all"],
)
def test_the_answer_has_the_attributes_that_the_options_name(
    chosen: tuple[str, ...], answered: set[str]
) -> None:
    z = F.normalize(torch.randn(2, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    every, some = read(network(), z), read(network(attributes=chosen), z)
    assert some.quality == every.quality
    assert some.attributes == {name: every.attributes[name] for name in answered}


def test_without_attributes_there_is_quality_alone() -> None:
    z = F.normalize(torch.randn(1, 16), dim=-1)
    score = read(network(attributes=()), z)
    assert score.attributes is None
    assert 0 < score.quality < 1
    assert score.crop_quality == (score.quality,)


def test_pairs_of_ones_own_are_attributes_beside_the_papers() -> None:
    net = network(
        attributes=("sharpness",),
        pairs={"beauty": ("Beautiful photo.", "Ugly photo."), "age": ("New.", "Old.")},
    )
    z = F.normalize(torch.randn(2, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    score = read(net, z)
    assert set(score.attributes or ()) == {"sharpness", "beauty", "age"}
    exact: Any = CLIPS["vit"]().double()
    with torch.no_grad():
        texts = [plain_text(exact, text) for text in ("Beautiful photo.", "Ugly photo.")]
        wanted = [plain_probability(exact, one, *texts) for one in z.double()]
    assert score.attributes["beauty"] == pytest.approx(np.mean(wanted), abs=1e-5)


@pytest.mark.parametrize("name", ["quality", "sharpness"])
def test_a_pair_of_ones_own_replaces_the_papers_of_that_name(name: str) -> None:
    def value(score: Score) -> Any:
        return score.quality if name == "quality" else score.attributes[name]

    better, worse = TEXTS[name]
    z = F.normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    papers = read(network(), z)
    turned = read(network(pairs={name: (worse, better)}), z)
    assert value(turned) == pytest.approx(1 - value(papers), abs=1e-6)
    assert abs(value(papers) - 0.5) > 1e-3  # so that turning it round means something
    assert (turned.attributes or {}).keys() == (papers.attributes or {}).keys()
    own = read(network(pairs={name: ("Splendid photo.", "Awful photo.")}), z)
    assert abs(value(own) - value(papers)) > 1e-3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"attributes": ("beauty",)}, "attributes"),
        ({"attributes": ("Sharpness",)}, "attributes"),
        ({"pairs": {"beauty": ("Beautiful photo.",)}}, "pairs.beauty"),
        ({"pairs": {"beauty": ("a", "b", "c")}}, "pairs.beauty"),
        ({"pears": {}}, "pears"),
    ],
    ids=["unknown-attribute", "misspelt-attribute", "half-a-pair", "three-texts", "unknown-option"],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ClipIqaOptions(**options)


def test_options_survive_a_configuration_file() -> None:
    options = ClipIqaOptions(attributes=("contrast",), pairs={"beauty": ("Fair.", "Foul.")})
    assert ClipIqaOptions.model_validate_json(options.model_dump_json()) == options
    assert list(options.texts()) == ["quality", "contrast", "beauty"]


def test_the_global_view_counts_as_one_more_window() -> None:
    z = F.normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    net = network()
    alone = [read(net, one[None]) for one in z]
    score = read(net, z[:2], z[2])
    assert score.quality == pytest.approx(np.mean([s.quality for s in alone]), abs=1e-6)
    for name, value in score.attributes.items():
        assert value == pytest.approx(np.mean([s.attributes[name] for s in alone]), abs=1e-6)
    assert score.crop_quality == pytest.approx([s.quality for s in alone[:2]], abs=1e-6)
    assert score.crops == 2


def test_a_users_prompt_neither_counts_nor_is_embedded() -> None:
    scorer = scorer_of(network(), CropPolicy())
    image = tiny.picture(224, 224)
    assert scorer.score(image, "a cat") == scorer.score(image)
    with pytest.raises(TypeError, match="no features of users' prompts"):
        scorer.embed(["a cat"])
    with pytest.raises(ValueError, match="no head 'consistency'"):
        scorer.score(image, "a cat", heads=("consistency",))
