import pytest

from training.evaluation import evaluate


@pytest.fixture(autouse=True)
def _few_bootstrap_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals take most of the time of a run in miniature."""
    few = dict.fromkeys(evaluate._ROUNDS, 20)
    monkeypatch.setattr(evaluate, "_ROUNDS", few)
