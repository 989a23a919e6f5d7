"""What others may import by name is there and says what it is."""

import importlib
import inspect

import pytest

EXPORTING = ["agiqa_client", "model"]


@pytest.mark.parametrize("name", EXPORTING)
def test_what_is_exported_is_there_and_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__all__ == sorted(module.__all__)
    for exported in module.__all__:
        assert getattr(module, exported).__doc__, exported


@pytest.mark.parametrize("name", EXPORTING)
def test_what_is_public_and_made_here_is_exported(name: str) -> None:
    """Names of types for signatures are no promise, classes of errors and answers are."""
    module = importlib.import_module(name)
    made_here = {
        key
        for key, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == name and not key.startswith("_")
    }
    support = {"Clock", "Connection", "CropScore", "ModelName", "Options", "Savable"}
    assert made_here - support <= set(module.__all__)
