"""What in a folder is an input, and what only lies beside the images."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from app.bulk.parts.inputs import units
from tests.app.bulk.parts.many import manifest
from tests.app.bulk.scored import empty_files


def sources(folder: Path) -> list[str]:
    """Names of what the folder's units come from."""
    found = units([str(folder)], (), 100)
    return [Path(name).name for unit in found for name in unit.names or (unit.source,)]


def test_a_table_about_the_images_beside_it_is_none_of_them(tmp_path: Path) -> None:
    empty_files(tmp_path, "a.png", "b.png")
    about = pa.table({"file_name": ["a.png", "b.png"], "text": ["a cat", "a dog"]})
    pq.write_table(about, tmp_path / "metadata.parquet")
    assert sources(tmp_path) == ["a.png", "b.png"]


def test_a_manifest_of_paths_beside_its_images_adds_no_second_row(tmp_path: Path) -> None:
    empty_files(tmp_path, "a.png")
    pq.write_table(pa.table({"path": ["a.png"]}), tmp_path / "manifest.parquet")
    assert sources(tmp_path) == ["a.png"]


def test_parquet_files_with_images_inside_are_shards(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    manifest(tmp_path / "data" / "train-00000-of-00001.parquet", 2)
    assert sources(tmp_path) == ["train-00000-of-00001.parquet"]


def test_what_a_map_has_cached_is_no_second_copy(tmp_path: Path) -> None:
    empty_files(tmp_path, "data-00000-of-00001.arrow", "cache-5f2c1.arrow", "state.json")
    assert sources(tmp_path) == ["data-00000-of-00001.arrow"]


def test_parts_of_an_earlier_run_are_no_input(tmp_path: Path) -> None:
    empty_files(tmp_path, "a.png")
    manifest(tmp_path / f"part-{'0' * 32}.parquet", 1)
    assert sources(tmp_path) == ["a.png"]
