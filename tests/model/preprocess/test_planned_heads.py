"""Which heads a planner plans for."""

import pytest

from model.config import Head
from model.preprocess.crops import CropPlanner
from tests.model import tiny


def test_the_planner_knows_its_heads() -> None:
    planner = CropPlanner(tiny.config_of())
    assert planner.heads(None, prompted=False) == ("quality", "alignment")
    assert planner.heads(None, prompted=True) == ("quality", "alignment", "consistency")
    assert planner.heads(["alignment", "alignment"], prompted=True) == ("alignment",)


@pytest.mark.parametrize(
    ("heads", "prompted", "says"),
    [
        (["beauty"], True, "no head 'beauty'.*quality, alignment"),
        (["consistency"], False, "consistency needs the prompt"),
        ([], True, "at least one head"),
    ],
    ids=["unknown", "no-prompt", "none"],
)
def test_the_planner_refuses_heads_that_it_can_not_compute(
    heads: list[Head], prompted: bool, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        CropPlanner(tiny.config_of()).heads(heads, prompted=prompted)


def test_a_method_without_a_head_neither_computes_nor_accepts_it() -> None:
    planner = CropPlanner(tiny.config_of(heads=("quality",)))
    assert planner.heads(None, prompted=True) == ("quality",)
    with pytest.raises(ValueError, match="no head 'alignment'"):
        planner.heads(["alignment"], prompted=True)
