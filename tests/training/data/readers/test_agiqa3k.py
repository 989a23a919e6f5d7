from pathlib import Path

import pytest

from tests.figures import AGIQA_3K
from tests.training.miniature import write_agiqa3k
from training.data import datasets
from training.data.readers import agiqa3k
from training.errors import DataError


@pytest.mark.parametrize("nested", [True, False], ids=["under img", "flat"])
def test_scores_prompts_and_generators_are_read(tmp_path: Path, nested: bool) -> None:
    samples = datasets.read(write_agiqa3k(tmp_path, prompts=4, nested=nested))
    assert len(samples) == 12
    first = samples[0]
    assert (first.generator, first.mode, first.source) == ("AttnGAN", "normal", "AttnGAN normal")
    assert first.prompt == first.group == "prompt number 0,"
    assert 0.1 < first.mos < 0.3
    assert all(s.path.is_file() for s in samples)


def test_images_that_are_missing_are_left_out(tmp_path: Path) -> None:
    write_agiqa3k(tmp_path, prompts=2)
    (tmp_path / "img" / "AttnGAN_normal_000.jpg").unlink()
    assert len(datasets.read(tmp_path)) == 5


def test_a_folder_without_the_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data\.csv"):
        agiqa3k.annotations(tmp_path)


def test_a_broken_row_names_its_row_and_column(tmp_path: Path) -> None:
    write_agiqa3k(tmp_path, prompts=1)
    table = tmp_path / "data.csv"
    table.write_text(table.read_text().replace("sd1.5_lowstep_000.jpg", "nonsense"))
    with pytest.raises(DataError, match=r"data\.csv row 3, column name is"):
        agiqa3k.annotations(tmp_path)


def test_a_table_of_another_set_names_the_missing_columns(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("image,mos\na.jpg,1\n")
    with pytest.raises(DataError, match="mos_align, mos_quality, name, prompt"):
        agiqa3k.annotations(tmp_path)


@pytest.mark.skipif(not AGIQA_3K.is_dir(), reason="AGIQA-3K is not on this machine (set AGIQA_3K)")
def test_the_real_folder_is_read_whole() -> None:
    samples = datasets.read(AGIQA_3K)
    assert len(samples) >= 2000
    assert len({s.source for s in samples}) == 10
    assert all(0 <= s.mos <= 1 and 0 <= s.mos_align <= 1 for s in samples)
