"""Two jobs that begin at once over one folder: one says what its parts are made of."""

from pathlib import Path
from typing import Any

import fsspec
import pytest

from app.bulk.errors import CannotScore, Stopped
from app.bulk.parts.output import Output
from app.bulk.parts.samples import Prompts
from app.bulk.parts.units import Unit
from app.bulk.parts.worker import Work, Worker, identity
from tests.app.bulk.parts.many import NoiseSetup
from tests.app.bulk.scored import MODEL

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


def test_a_worker_whose_folder_is_not_the_run_s_does_not_begin(tmp_path: Path) -> None:
    work = Work(NoiseSetup(), str(tmp_path / "elsewhere"), Prompts(), identity(MODEL))
    with pytest.raises(CannotScore, match=r"has no run\.json here"):
        Worker(work)


def test_what_another_job_has_done_by_now_is_not_scored_again(tmp_path: Path) -> None:
    output = Output(str(tmp_path))
    output.claim({"model": "any"})
    unit = Unit("files", names=("gone.png",))
    output.put(unit.part, b"the other's")
    receipt = Worker(Work(NoiseSetup(), str(tmp_path), Prompts(), identity(MODEL))).work(unit)
    assert (receipt.images, receipt.fault) == (0, None)
    assert (tmp_path / unit.part).read_bytes() == b"the other's"


def test_a_store_that_takes_no_more_stops_the_run(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "out"))
    (tmp_path / "out").rmdir()
    (tmp_path / "out").touch()
    with pytest.raises(Stopped, match="can't be written"):
        output.put(f"part-{'0' * 32}.parquet", b"")
