"""A recipe's backbone, loaded where nothing has been written yet."""

from pathlib import Path

from torch import nn

from model.clip.backbone import load_backbone
from model.config import BackboneConfig
from model.store.checkpoint import BUNDLED, CONFIG, read_config
from training.errors import RecipeError
from training.recipe import MethodRecipe
from training.run import find_backbone


def loaded_backbone(recipe: MethodRecipe) -> tuple[BackboneConfig, nn.Module]:
    """The backbone and its configuration, paths from the root: a recipe's start at a folder that
    its run makes.

    Raises:
        DataError: a folder that holds no backbone.
        BackboneError: weights that can't be had, or do not fit.
    """
    config, _ = find_backbone(recipe)
    if config.path is not None:
        path = str((recipe.out / config.path).resolve())
        config = config.model_copy(update={"path": path})
    return config, load_backbone(config, recipe.out)


def refuse_checkpoint(recipe: MethodRecipe) -> None:
    """Refuses the folder of a checkpoint, or the name of a bundled one, in a backbone's place.

    Raises:
        RecipeError: says of which method it is.
    """
    if not isinstance(recipe.backbone, Path):
        return
    for folder in (BUNDLED / recipe.backbone, recipe.out / recipe.backbone):
        if (folder / CONFIG).is_file():
            raise RecipeError(
                f"{recipe.backbone} is a checkpoint of {read_config(folder).method}, no backbone: "
                "name the folder of a backbone, or a file of CLIP's weights"
            )
