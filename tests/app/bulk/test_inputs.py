"""Which files are scored, and with which prompts."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from app.bulk.embedded import embedded_prompt
from app.bulk.errors import CannotScore
from app.bulk.images import find_images, read_list
from app.bulk.prompts import with_prompts
from tests.app.bulk.scored import empty_files, image_folder
from tests.app.pictures import picture


def names(found: list[Path]) -> list[str]:
    return [path.name for path in found]


def test_globs_folders_and_repeated_files_count_once(tmp_path: Path) -> None:
    folder = image_folder(tmp_path)
    again = folder / "deeper" / ".." / "a.png"
    found = find_images([str(folder / "*.png"), str(folder / "a.png"), str(again), str(folder)])
    assert names(found) == ["a.png", "b.jpg"]


def test_a_name_with_brackets_is_a_name_first_and_a_pattern_else(tmp_path: Path) -> None:
    empty_files(tmp_path, "a[1].png", "a1.png", "b1.png")
    assert names(find_images([str(tmp_path / "a[1].png")])) == ["a[1].png"]
    assert names(find_images([str(tmp_path / "b[1].png")])) == ["b1.png"]


def test_what_starts_with_a_dot_is_left_out_of_folders_only(tmp_path: Path) -> None:
    empty_files(tmp_path, "a.png", "._a.png", ".trash/b.png")
    assert names(find_images([str(tmp_path)])) == ["a.png"]
    assert names(find_images([str(tmp_path / "._a.png")])) == ["._a.png"]


def test_a_list_may_name_folders_and_is_no_pattern(tmp_path: Path) -> None:
    empty_files(tmp_path, "in/a.png", "in/b*.png", "in/bc.png")
    listed = [str(tmp_path / "in" / "b*.png"), str(tmp_path / "in")]
    assert names(find_images(["-"], listed)) == ["b*.png", "a.png", "bc.png"]
    with pytest.raises(CannotScore, match="no such file"):
        find_images(["-"], [str(tmp_path / "in" / "?.png")])


def test_lists_are_read_by_line_or_by_null_byte() -> None:
    assert read_list(b"a.png\r\n\nb c.png\n", null=False) == ["a.png", "b c.png"]
    assert read_list(b"a.png\0new\nline.png\0", null=True) == ["a.png", "new\nline.png"]
    assert os.fsencode(read_list(b"caf\xe9.png", null=False)[0]) == b"caf\xe9.png"


def test_no_images_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(CannotScore, match="there are no images in"):
        find_images([str(tmp_path)])


def test_a_table_goes_by_path_first_and_by_file_name_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_files(tmp_path, "x/a.png", "y/a.png", "y/only.png", "z/none.png")
    rows = "image,prompt\nx/a.png,of x\ny/a.png,of y\nelsewhere/only.png,of one\nz/none.png,\n"
    (tmp_path / "prompts.csv").write_text(rows, encoding="utf-8-sig")
    monkeypatch.chdir(tmp_path.parent)
    images = find_images([str(tmp_path)])
    items, warnings = with_prompts(images, str(tmp_path / "prompts.csv"), None)
    assert [item.prompt for item in items] == ["of x", "of y", "of one", None]
    (warning,) = warnings
    assert warning.startswith("1 of 4 images have no prompt in ")


def test_a_name_with_several_prompts_gets_none_and_is_counted(tmp_path: Path) -> None:
    images = empty_files(tmp_path, "in/a.png", "in/b.png")
    table = tmp_path / "prompts.csv"
    table.write_text("image,prompt\nx/a.png,one\ny/a.png,two\nx/b.png,same\ny/b.png,same\n")
    items, warnings = with_prompts(images, str(table), None)
    assert [item.prompt for item in items] == [None, "same"]
    assert "1 of 2 images have no prompt" in warnings[0]
    assert warnings[1].startswith("1 of them have a file name that stands in")


def test_the_prompt_for_all_fills_what_a_source_lacks(tmp_path: Path) -> None:
    images = empty_files(tmp_path, "a.png", "b.png")
    (tmp_path / "a.txt").write_text("beside a\n", encoding="utf-8-sig")
    items, warnings = with_prompts(images, "beside", "for all")
    assert [item.prompt for item in items] == ["beside a", "for all"]
    assert warnings == [
        "1 of 2 images have no prompt in a .txt file beside them: they are scored with --prompt"
    ]
    assert [item.prompt for item in with_prompts(images, None, " ")[0]] == [None, None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image,text\na.png,x\n", "needs the columns image and prompt"),
        (b"image,prompt\na.png,caf\xe9\n", "save it as UTF-8"),
    ],
    ids=["columns", "encoding"],
)
def test_a_table_that_is_none_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "prompts.csv").write_bytes(content)
    images = empty_files(tmp_path, "a.png")
    with pytest.raises(CannotScore, match=message):
        with_prompts(images, str(tmp_path / "prompts.csv"), None)


def test_a_text_beside_an_image_that_is_no_text_is_said(tmp_path: Path) -> None:
    images = empty_files(tmp_path, "a.png")
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(CannotScore, match=r"a\.txt: save it as UTF-8"):
        with_prompts(images, "beside", None)


PARAMETERS = (
    "a (red:1.2) cat on ((a mat:0.9):1.1), <lora:style:0.8>\nsecond line\n"
    "Negative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7"
)
PLAIN = "a red cat on a mat, second line"


def png(tmp_path: Path, **texts: str) -> Path:
    info = PngInfo()
    for key, text in texts.items():
        info.add_itxt(key, text)
    picture().save(tmp_path / "made.png", pnginfo=info)
    return tmp_path / "made.png"


def test_the_parameters_of_automatic1111_in_a_png(tmp_path: Path) -> None:
    assert embedded_prompt(png(tmp_path, parameters=PARAMETERS)) == PLAIN
    assert embedded_prompt(png(tmp_path, parameters="a cat\nSteps: 20, Seed: 1")) == "a cat"
    assert embedded_prompt(png(tmp_path, parameters="Negative prompt: x\nSteps: 2, a")) is None


@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le"])
def test_the_parameters_of_automatic1111_in_a_jpeg(tmp_path: Path, encoding: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + PARAMETERS.encode(encoding)
    picture().save(tmp_path / "made.jpg", exif=exif)
    assert embedded_prompt(tmp_path / "made.jpg") == PLAIN


def graph(*positives: str) -> dict[str, object]:
    """Samplers as ComfyUI writes them, each with a positive text of its own."""
    nodes: dict[str, object] = {}
    for number, text in enumerate(positives):
        positive, negative = f"{number}p", f"{number}n"
        nodes[positive] = {"class_type": "CLIPTextEncode", "inputs": {"text": text}}
        nodes[negative] = {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry"}}
        links = {"positive": [positive, 0], "negative": [negative, 0], "seed": 1}
        nodes[f"{number}s"] = {"class_type": "KSampler", "inputs": links}
    return nodes


def test_the_workflow_of_comfyui(tmp_path: Path) -> None:
    assert embedded_prompt(png(tmp_path, prompt=json.dumps(graph("a cat")))) == "a cat"
    twice = graph("a cat", "a cat")
    assert embedded_prompt(png(tmp_path, prompt=json.dumps(twice))) == "a cat"


def test_links_are_followed_through_other_nodes(tmp_path: Path) -> None:
    nodes = {
        "1": {"class_type": "PrimitiveString", "inputs": {"value": "a cat"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": ["1", 0], "clip": ["9", 0]}},
        "3": {"class_type": "FluxGuidance", "inputs": {"conditioning": ["2", 0], "guidance": 3}},
        "4": {"class_type": "BasicGuider", "inputs": {"conditioning": ["3", 0]}},
    }
    assert embedded_prompt(png(tmp_path, prompt=json.dumps(nodes))) == "a cat"


@pytest.mark.parametrize(
    "written",
    [
        json.dumps(graph("a cat", "a dog")),
        "[" * 50_000,
        json.dumps(
            {str(i): {"inputs": {"positive": [str(i + 1), 0]}} for i in range(5_000)}
            | {"5000": {"inputs": {"text": "a cat"}}}
        ),
        json.dumps({"1": {"inputs": {"positive": ["1", 0]}}}),
        json.dumps({"1": {"inputs": {"positive": [{}, 0]}}, "2": 3}),
        json.dumps(["a cat"]),
        "a cat",
    ],
    ids=["two prompts", "too deep", "too long a chain", "a ring", "no name", "a list", "no JSON"],
)
def test_a_workflow_without_one_certain_prompt_has_none(tmp_path: Path, written: str) -> None:
    assert embedded_prompt(png(tmp_path, prompt=written)) is None


def test_other_files_have_no_prompt(tmp_path: Path) -> None:
    (empty,) = empty_files(tmp_path, "empty.png")
    assert embedded_prompt(empty) is None
    assert embedded_prompt(tmp_path / "nowhere.png") is None
    picture().save(tmp_path / "plain.webp")
    items, warnings = with_prompts([tmp_path / "plain.webp"], "embedded", None)
    assert items[0].prompt is None
    assert "1 of 1 images have no prompt in their metadata" in warnings[0]
