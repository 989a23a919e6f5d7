"""CLIP-IQA in the place of a training: nothing is learned, the same test parts are measured."""

from model.config import CheckpointConfig
from model.methods.registry import build_network
from model.scorer import Scorer
from training.engine.devices import processes
from training.engine.state import Progress
from training.evaluation.evaluate import evaluate
from training.prepared_data import read_sets
from training.recipe import MethodRecipe
from training.research.reproduce.backbones import loaded_backbone
from training.run import Trained, find_backbone, sparing
from training.sampling.pictures import Shelf
from training.splits.split import draw

METHOD = "clip-iqa"
# As the paper's table calls it.
PAPER_NAME = "CLIP-IQA"


def measure(recipe: MethodRecipe, command: str, shelf: Shelf) -> Trained | None:
    """CLIP-IQA on the backbone, views and test parts of a CLIP-IQA+ recipe. No checkpoint is
    written.

    Returns:
        None in all processes but the main one.

    Raises:
        DataError: unusable data.
        CheckpointError: a backbone that can't be loaded or used.
    """
    del command, shelf
    if not processes(recipe.device).is_main_process:
        return None
    recipe = sparing(recipe, find_backbone(recipe)[1])
    backbone, clip = loaded_backbone(recipe)
    network = build_network(METHOD, clip, {})
    config = CheckpointConfig(
        name=METHOD,
        revision="0",
        method=METHOD,
        backbone=backbone,
        options=network.options.model_dump(mode="json"),
        heads=network.heads,
        crop_policy=recipe.crop_policy,
        normalisation=recipe.normalisation,
    )
    scorer = Scorer(config, network, device=recipe.device, dtype="float32")
    sets = read_sets(recipe).items()
    reports = {name: evaluate(scorer, draw(recipe.split, s), "test") for name, s in sets}
    return Trained(config, reports, Progress())
