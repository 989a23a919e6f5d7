"""What INPUT may be, where OUT may lie, and what a folder of parts refuses."""

import io
import tarfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.bulk.errors import CannotScore
from app.bulk.parts.samples import Prompts
from app.bulk.parts.units import Shard
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


def test_array_jobs_say_which_shard_it_is() -> None:
    slurm = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4"}
    slurm |= {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_STEP": "2"}
    assert Shard.of_environment(slurm) == Shard(3, 4)
    indexed = {"JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": "8"}
    assert Shard.of_environment(indexed) == Shard(0, 8)
    assert Shard.of_environment({}) == Shard(0, 1)
    with pytest.raises(CannotScore, match="JOB_COMPLETIONS"):
        Shard.of_environment({"JOB_COMPLETION_INDEX": "0"})
    with pytest.raises(CannotScore, match="numbered from 0 to 7"):
        Shard.parse("8/8")
