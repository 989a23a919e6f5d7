from pathlib import Path

import openpyxl
import pytest
from scipy.io import savemat

from tests.training.generated_sets import write_aigciqa2023
from training.data import datasets
from training.data.readers import aigciqa2023
from training.errors import DataError


@pytest.mark.parametrize("flat", [False, True], ids=["as distributed", "moved up"])
def test_the_number_of_an_image_tells_its_generator_prompt_and_scores(
    tmp_path: Path, flat: bool
) -> None:
    samples = datasets.read(write_aigciqa2023(tmp_path, flat=flat, prompts=2))
    assert len(samples) == 6 * 2 * 4
    by_number = {int(s.path.stem): s for s in samples}
    one = by_number[400 * 3 + 4 * 1 + 2]
    assert (one.dataset, one.generator) == ("AIGCIQA2023", "Lafite")
    assert one.prompt == one.group == "prompt 1"
    assert one.mos == pytest.approx((30 + 12.06) / 100)
    assert one.mos_align == pytest.approx((27 + 12.06) / 100)
    assert by_number[2000].generator == "Unidiffuser"
    assert by_number[0].prompt == "prompt 0"


def test_all_2400_are_listed_with_four_images_of_each_prompt_by_each_generator(
    tmp_path: Path,
) -> None:
    samples = aigciqa2023.annotations(write_aigciqa2023(tmp_path, prompts=1))
    assert len(samples) == aigciqa2023.SET.images == 2400
    cells = {(s.generator, s.prompt) for s in samples}
    assert len(cells) == 600
    assert len({s.path for s in samples}) == 2400


def test_a_sheet_with_nothing_but_the_prompts_will_do(tmp_path: Path) -> None:
    sheet = write_aigciqa2023(tmp_path, prompts=1) / "AIGCIQA2023_Prompts.xlsx"
    book = openpyxl.load_workbook(sheet)
    book.worksheets[0].delete_cols(4, 3)
    book.worksheets[0].delete_cols(1, 2)
    book.save(tmp_path / "prompts.xlsx")
    sheet.unlink()
    assert aigciqa2023.annotations(tmp_path)[4].prompt == "prompt 1"


def test_what_is_missing_or_of_another_length_is_named(tmp_path: Path) -> None:
    write_aigciqa2023(tmp_path, prompts=1)
    scores = tmp_path / "DATA" / "MOS" / "mosz3.mat"
    savemat(scores, {"MOSz": [[50.0]] * 7})
    with pytest.raises(DataError, match=r"mosz3\.mat has 7 scores instead of 2400"):
        aigciqa2023.annotations(tmp_path)
    savemat(scores, {"MOSz": [[500.0]] * 2400})
    with pytest.raises(DataError, match=r"row 0, column mosz3\.mat .* from 0 to 100, not 500"):
        aigciqa2023.annotations(tmp_path)
    savemat(scores, {"scores": [[50.0]] * 2400})
    with pytest.raises(DataError, match=r"mosz3\.mat has no variable MOSz"):
        aigciqa2023.annotations(tmp_path)
    scores.unlink()
    with pytest.raises(DataError, match=r"has no mosz3\.mat"):
        aigciqa2023.annotations(tmp_path)


def test_the_prompts_are_needed_and_counted(tmp_path: Path) -> None:
    sheet = write_aigciqa2023(tmp_path, prompts=1) / "AIGCIQA2023_Prompts.xlsx"
    book = openpyxl.load_workbook(sheet)
    book.worksheets[0].delete_rows(100)
    book.save(sheet)
    with pytest.raises(DataError, match="99 prompts in column 3 instead of 100"):
        aigciqa2023.annotations(tmp_path)
    sheet.unlink()
    with pytest.raises(DataError, match="no sheet of prompts"):
        aigciqa2023.annotations(tmp_path)
