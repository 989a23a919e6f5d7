"""What INPUT may be, where OUT may lie, and what a folder of parts refuses."""

import io
import tarfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, PngImagePlugin

from app.bulk.errors import CannotScore
from app.bulk.parts.samples import Prompts
from tests.app.bulk.parts.many import image_bytes, manifest, rows, run


def _tar(file: Path, count: int) -> Path:
    with tarfile.open(file, "w") as archive:
        for number in range(count):
            for suffix, data in ((".png", image_bytes(number)), (".txt", b"cat %d" % number)):
                member = tarfile.TarInfo(f"{number:03d}{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return file


def _images(folder: Path, count: int) -> Path:
    (folder / "deeper").mkdir(parents=True)
    for number in range(count):
        (folder / "deeper" / f"{number}.png").write_bytes(image_bytes(number))
    return folder


def test_folders_globs_and_lists_name_files(tmp_path: Path) -> None:
    folder = _images(tmp_path / "images", 12)
    (tmp_path / "list.txt").write_text(f"{folder}/deeper/0.png\n{folder}/gone.png\n")
    assert run([folder], tmp_path / "a", 5) == 0
    assert run([f"{folder}/**/1*.png"], tmp_path / "b", 5) == 0
    assert run([tmp_path / "list.txt"], tmp_path / "c", 5) == 0
    assert [len(rows(tmp_path / name)) for name in "abc"] == [12, 3, 2]
    assert len(list((tmp_path / "a").glob("part-*"))) == 3
    assert rows(tmp_path / "c")[f"{folder}/gone.png"]["code"] == "unreadable_image"


def test_a_tar_of_webdataset_has_prompts_beside_its_images(tmp_path: Path) -> None:
    tar = _tar(tmp_path / "a.tar", 3)
    assert run([tar], tmp_path / "out", 5, prompts=Prompts("beside")) == 0
    found = rows(tmp_path / "out")
    assert {name: row["prompt"] for name, row in found.items()} == {
        f"{tar}/{number:03d}.png": f"cat {number}" for number in range(3)
    }


def test_data_sets_hold_images_in_a_column_of_bytes_and_path(tmp_path: Path) -> None:
    records = [{"image": {"bytes": image_bytes(n), "path": None}, "prompt": "p"} for n in range(4)]
    table = pa.Table.from_pylist(records)
    for name in ("hub/data", "saved"):
        (tmp_path / name).mkdir(parents=True)
    pq.write_table(table, tmp_path / "hub/data/train-0.parquet")
    saved = tmp_path / "saved" / "data-00000-of-00001.arrow"
    with pa.OSFile(str(saved), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    assert run([tmp_path / "hub", tmp_path / "saved"], tmp_path / "out", 5) == 0
    found = rows(tmp_path / "out").values()
    assert [(row["prompt"], row["code"]) for row in found] == [("p", None)] * 8


def test_units_of_a_manifest_may_cut_its_row_groups(tmp_path: Path) -> None:
    images = manifest(tmp_path / "images.parquet", 50, rows_in_group=7)
    assert run([images], tmp_path / "out", 20) == 0
    assert sorted(rows(tmp_path / "out")) == [f"{number:06d}.png" for number in range(50)]


def test_parts_go_to_addresses_of_fsspec(tmp_path: Path) -> None:
    images = manifest(tmp_path / "images.parquet", 50)
    memory = fsspec.filesystem("memory")
    assert run([images], tmp_path / "here", 20) == 0
    assert run([images], f"file://{tmp_path}/there", 20) == 0
    assert run([images], "memory://parts", 20) == 0
    here = {part.name: part.read_bytes() for part in (tmp_path / "here").glob("part-*")}
    assert len(here) == 3
    there = {part.name: part.read_bytes() for part in (tmp_path / "there").glob("part-*")}
    assert there == here
    assert {name: memory.cat_file(f"/parts/{name}") for name in here} == here


def test_a_tar_that_is_cut_off_gets_no_part_and_the_others_theirs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = _tar(tmp_path / "good.tar", 3), _tar(tmp_path / "bad.tar", 9)
    bad.write_bytes(bad.read_bytes()[:3000])
    assert run([bad, good], tmp_path / "out", 5) == 3
    assert len(rows(tmp_path / "out")) == 3
    assert "bad.tar can't be read" in capsys.readouterr().err


def test_a_folder_of_parts_refuses_another_input_and_other_prompts(tmp_path: Path) -> None:
    images = manifest(tmp_path / "images.parquet", 30)
    other = manifest(tmp_path / "other.parquet", 10)
    assert run([images], tmp_path / "out", 20) == 0
    with pytest.raises(CannotScore, match="input"):
        run([other], tmp_path / "out", 20)
    with pytest.raises(CannotScore, match="prompt"):
        run([images], tmp_path / "out", 20, prompts=Prompts(for_all="a cat"))
    with pytest.raises(CannotScore, match="heads"):
        run([images], tmp_path / "out", 20, heads=("quality",))
    with pytest.raises(CannotScore, match="unit_images"):
        run([images], tmp_path / "out", 10)


def _written(store: str, tmp_path: Path) -> str:
    """A folder at an address: two images with prompts beside and inside them, and one without."""
    folder = f"{store}://{tmp_path}/images"
    fs, path = fsspec.core.url_to_fs(folder)
    fs.makedirs(path)
    for number in range(3):
        with fs.open(f"{path}/{number}.png", "wb") as file:
            text = PngImagePlugin.PngInfo()
            if number < 2:
                text.add_text("parameters", f"inside {number}\nSteps: 20, Sampler: Euler a")
            Image.new("RGB", (8, 8)).save(file, "PNG", pnginfo=text)
        if number < 2:
            fs.pipe_file(f"{path}/{number}.txt", f"beside {number}\n".encode())
    return folder


@pytest.mark.parametrize("store", ["memory", "file"])
@pytest.mark.parametrize(
    ("source", "texts"),
    [
        (None, ["for all"] * 3),
        ("beside", ["beside 0", "beside 1", "for all"]),
        ("embedded", ["inside 0", "inside 1", "for all"]),
    ],
)
def test_images_at_addresses_have_their_prompts_beside_or_inside_them(
    store: str, source: str | None, texts: list[str], tmp_path: Path
) -> None:
    folder = _written(store, tmp_path)
    listed = pa.table({"path": [f"{folder}/{number}.png" for number in range(3)]})
    pq.write_table(listed, tmp_path / "manifest.parquet")
    for name, place in ("a", folder), ("b", tmp_path / "manifest.parquet"):
        assert run([place], tmp_path / name, 5, prompts=Prompts(source, "for all")) == 0
        found = rows(tmp_path / name)
        assert sorted(found) == [f"{folder}/{number}.png" for number in range(3)]
        assert [found[path]["prompt"] for path in sorted(found)] == texts
        assert {row["code"] for row in found.values()} == {None}


def test_an_image_whose_prompt_can_t_be_read_is_a_row_with_a_code(tmp_path: Path) -> None:
    folder = _images(tmp_path / "images", 3) / "deeper"
    (folder / "1.txt").write_bytes(b"caf\xe9")
    assert run([folder], tmp_path / "out", 5, prompts=Prompts("beside")) == 0
    codes = {Path(path).name: row["code"] for path, row in rows(tmp_path / "out").items()}
    assert codes == {"0.png": None, "1.png": "unreadable_image", "2.png": None}


def test_a_pattern_for_images_takes_no_text_beside_them_for_a_list(tmp_path: Path) -> None:
    folder = _images(tmp_path / "images", 2) / "deeper"
    (folder / "0.txt").write_text("a cat\na mat\n")
    assert run([f"{folder}/0.*"], tmp_path / "out", 5) == 0
    assert sorted(Path(path).name for path in rows(tmp_path / "out")) == ["0.png", "0.txt"]


def test_hidden_members_of_a_tar_are_no_images(tmp_path: Path) -> None:
    tar = _tar(tmp_path / "a.tar", 2)
    with tarfile.open(tar, "a") as archive:
        archive.addfile(tarfile.TarInfo("__MACOSX/._000.png"))
    assert run([tar], tmp_path / "out", 5) == 0
    assert len(rows(tmp_path / "out")) == 2
