"""Two jobs that begin at once over one folder: one says what its parts are made of."""

from pathlib import Path
from typing import Any

import fsspec
import pytest

from app.bulk.errors import CannotScore
from app.bulk.parts.output import Output

STORES = pytest.mark.parametrize("store", ["memory", "file"])


@pytest.fixture
def address(store: str, tmp_path: Path) -> str:
    return f"{store}://{tmp_path}/out"


class Late(Output):
    """Looks before the other has written, and writes after it."""

    def __init__(self, address: str, other: Output) -> None:
        super().__init__(address)
        self._other = other
        self._looked = False

    def run(self) -> dict[str, Any] | None:
        if not self._looked:
            self._looked = True
            self._other.claim({"model": "first"})
            return None
        return super().run()


@STORES
def test_the_later_of_two_with_other_models_is_refused(address: str) -> None:
    late = Late(address, Output(address))
    with pytest.raises(CannotScore, match='model "first", this run has "second"'):
        late.claim({"model": "second"})
    assert Output(address).run() == {"model": "first"}


@STORES
def test_the_later_of_two_alike_goes_on(address: str) -> None:
    Late(address, Output(address)).claim({"model": "first"})
    assert Output(address).run() == {"model": "first"}


@STORES
def test_a_part_is_listed_only_once_it_is_there(address: str) -> None:
    output = Output(address)
    name = f"part-{'0' * 32}.parquet"
    assert not output.has(name)
    output.put(name, b"whole")
    output.put(".part-unfinished", b"cut")
    assert output.parts() == {name}
    fs, path = fsspec.core.url_to_fs(f"{address}/{name}")
    assert fs.cat_file(path) == b"whole"
