from collections.abc import Sequence

import pytest

from app.batching.errors import Loading, UnknownModel
from app.catalogue import GENERATED, PHOTOGRAPHS, Models, default_for, default_models, describe
from app.device.messages import LoadedModel
from model.config import BackboneConfig, CheckpointConfig, CropPolicy, Head, Provenance

KINDS: dict[str, tuple[Head, ...]] = {
    "photo": ("quality",),
    "aligned": ("quality", "alignment"),
    "generated": ("quality", "alignment", "consistency"),
}


def config(name: str, **changes: object) -> CheckpointConfig:
    backbone = BackboneConfig(source="open_clip", name="ViT-B-32", pretrained="openai")
    heads = KINDS[name.rstrip("0123456789")]
    fields = {"name": name, "method": "any", "backbone": backbone, "heads": heads} | changes
    return CheckpointConfig.model_validate(fields)


@pytest.mark.parametrize(
    ("loaded", "score", "score_agi"),
    [
        (["photo", "generated"], "photo", "generated"),
        (["generated", "photo"], "photo", "generated"),
        (["photo1", "photo2"], "photo1", "photo1"),
        (["generated1", "generated2"], "generated1", "generated1"),
        (["photo1", "aligned", "generated", "photo2"], "photo1", "generated"),
        (["aligned", "photo"], "photo", "aligned"),
        (["generated"], "generated", "generated"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else value,
)
def test_each_endpoint_has_the_first_model_of_its_kind_or_else_the_first(
    loaded: Sequence[str], score: str, score_agi: str
) -> None:
    defaults = default_models([config(name) for name in loaded])
    assert defaults == {"/score": score, "/score-agi": score_agi}


def test_a_model_is_told_what_it_serves() -> None:
    defaults = default_models([config("photo"), config("generated")])
    assert default_for("photo", defaults) == ["/score"]
    assert default_for("generated", defaults) == ["/score-agi"]
    assert default_for("photo", default_models([config("photo")])) == ["/score", "/score-agi"]
    assert default_for("another", defaults) == []


def test_a_model_is_chosen_by_its_name_or_by_the_endpoint() -> None:
    configs = [config("generated"), config("photo")]
    models = Models([LoadedModel(c, c.crop_policy, "cpu", "float32") for c in configs])
    assert [model.config.name for model in models] == ["generated", "photo"]
    assert models.choose(None, PHOTOGRAPHS).config.name == "photo"
    assert models.choose(None, GENERATED).config.name == "generated"
    assert models.choose("generated", PHOTOGRAPHS).config.name == "generated"
    with pytest.raises(UnknownModel, match="choose one of generated, photo"):
        models.choose("none", PHOTOGRAPHS)


def test_before_the_models_are_loaded_none_can_be_chosen() -> None:
    with pytest.raises(Loading):
        Models().choose(None, PHOTOGRAPHS)


def test_the_description_has_the_measured_srcc_first_and_by_both_names() -> None:
    provenance = Provenance(trained_on=("A",), metrics={"quality_plcc": 0.5, "quality_srcc": 0.6})
    described = describe(config("photo", provenance=provenance), CropPolicy.liqe(), ["/score"])
    assert next(iter(described["metrics"].items())) == ("srcc", 0.6)
    assert described["metrics"]["quality_srcc"] == 0.6
    assert described["backbone"] == "ViT-B-32"
    assert described["crop_policy"]["kind"] == "liqe"
    assert described["default_for"] == ["/score"]
    assert "srcc" not in describe(config("photo"), CropPolicy(), [])["metrics"]
