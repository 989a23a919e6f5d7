import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from training.data.samples import Sample
from training.errors import RivalError
from training.evaluation.metrics import FloatList, difference_interval, srcc
from training.research.rivals.compare import Difference, compare
from training.research.rivals.rival import RivalReport, measure_rival, parse_rival

NAMES = ("a/1.jpg", "a/2.jpg", "b/3.jpg")


def samples(names: Sequence[str] = NAMES) -> list[Sample]:
    return [
        Sample("set", Path("/data/set") / name, name, (i + 1) / 10) for i, name in enumerate(names)
    ]


def write(folder: Path, text: str, name: str = "scores.csv") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


MODES = {"niqe": "NR", "dbcnn": "NR", "musiq": "NR", "musiq-ava": "NR", "lpips": "FR"}
MODES |= {"clipscore": "NR"}


class FakePyiqa(ModuleType):
    """pyiqa's interface as of 0.1.13 to 0.1.16; the metrics score by the digit in a file's name."""

    __version__ = "0"

    def __init__(self) -> None:
        super().__init__("pyiqa")
        self.captions: list[str | None] = []
        self.made: list[tuple[str, torch.device | None]] = []
        self.grad: list[bool] = []

    def list_models(self, metric_mode: str | None = None) -> list[str]:
        return sorted(k for k, v in MODES.items() if metric_mode in (None, v))

    def create_metric(self, name: str, device: torch.device | None = None) -> "FakeMetric":
        if name == "musiq-ava":
            raise OSError("no network")
        self.made.append((name, device))
        return FakeMetric(self, lower_better=name == "niqe")


class FakeMetric(SimpleNamespace):
    def __init__(self, owner: FakePyiqa, *, lower_better: bool) -> None:
        super().__init__(owner=owner, lower_better=lower_better)

    def __call__(self, target: str, caption_list: Sequence[str] = ()) -> torch.Tensor:
        assert isinstance(target, str), "pyiqa takes no pathlib.Path"
        self.owner.captions += caption_list
        self.owner.grad.append(torch.is_grad_enabled())
        if "broken" in target:
            raise AssertionError("Input must be RGB")
        if "two" in target:
            return torch.zeros(2)
        value = float("nan") if "nan" in target else float(Path(target).stem)
        return torch.tensor([[-value if self.lower_better else value]], requires_grad=True)


@pytest.fixture
def pyiqa(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakePyiqa:
    fake = FakePyiqa()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "pyiqa", fake)
    return fake


def test_a_metric_of_pyiqa_scores_file_by_file_without_gradients(pyiqa: FakePyiqa) -> None:
    rival = parse_rival("pyiqa:dbcnn", device="cpu")
    assert pyiqa.made == []  # nothing is loaded before it is needed
    assert rival.predict(samples()) == [1.0, 2.0, 3.0]
    assert rival.name == "pyiqa:dbcnn"
    assert not rival.lower_better
    assert pyiqa.made == [("dbcnn", torch.device("cpu"))]
    assert pyiqa.grad == [False] * 3


def test_a_metric_that_falls_with_quality_agrees_positively(pyiqa: FakePyiqa) -> None:
    rival = parse_rival("pyiqa:niqe")
    report = measure_rival(rival, samples(), rounds=10)
    assert rival.lower_better
    assert rival.predict(samples()) == [-1.0, -2.0, -3.0]
    assert report.predictions == [1.0, 2.0, 3.0]
    assert [report.figures[k] for k in ("srcc", "plcc", "krcc")] == pytest.approx([1, 1, 1])
    assert pyiqa.made == [("niqe", None)]  # "auto" leaves the choice of the device to pyiqa


def test_an_unknown_metric_is_answered_with_near_names(pyiqa: FakePyiqa) -> None:
    with pytest.raises(RivalError, match=r"no metric 'musik' .*near: musiq"):
        parse_rival("pyiqa:musik")
    with pytest.raises(RivalError, match=r"no metric 'zzzzz' without reference$"):
        parse_rival("pyiqa:zzzzz")
    with pytest.raises(RivalError, match="lpips of pyiqa compares with a reference"):
        parse_rival("pyiqa:lpips")


def test_without_pyiqa_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(RivalError, match="pyiqa"):
        parse_rival("pyiqa:dbcnn")
    monkeypatch.delitem(sys.modules, "pyiqa")
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(RivalError, match=r"pip install 'agiqa\[rivals\]'"):
        parse_rival("pyiqa:dbcnn")


def test_a_pyiqa_that_lacks_something_itself_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyiqa.py").write_text("import no_such_module_at_all\n")
    monkeypatch.delitem(sys.modules, "pyiqa", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RivalError, match=r"can't be imported: .*no_such_module_at_all"):
        parse_rival("pyiqa:dbcnn")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("broken.jpg", r"fails on .*broken\.jpg: Input must be RGB"),
        ("two.jpg", r"fails on .*two\.jpg"),
        ("nan.jpg", r"scores .*nan\.jpg as nan"),
    ],
    ids=["an exception", "two numbers", "nan"],
)
def test_an_image_that_the_metric_cannot_score_is_named(
    pyiqa: FakePyiqa, file: str, message: str
) -> None:
    with pytest.raises(RivalError, match=message):
        parse_rival("pyiqa:dbcnn").predict(samples(["1.jpg", file]))


def test_weights_that_cannot_be_had_are_an_error_of_the_rival(pyiqa: FakePyiqa) -> None:
    with pytest.raises(RivalError, match="pyiqa:musiq-ava can't be loaded: no network"):
        parse_rival("pyiqa:musiq-ava").predict(samples())


@pytest.mark.parametrize("text", ["dbcnn", "scores.txt", "scores.csv:", "pyiqa", "model.csv.bak"])
def test_what_names_no_rival_is_told_how_to(text: str) -> None:
    with pytest.raises(RivalError, match="write pyiqa:NAME"):
        parse_rival(text)


@pytest.mark.parametrize("column", ["image", "path", "img_name", "name", "filename"])
@pytest.mark.parametrize("score", ["score", "quality", "prediction", "anything"])
def test_columns_are_found_by_their_names(tmp_path: Path, column: str, score: str) -> None:
    rows = f"mos,note,{score},{column}\n9,x,0.5,1.jpg\n8,7,0.25,3.jpg\n7,8,-1e-2,2.jpg\n"
    rival = parse_rival(write(tmp_path, rows))
    assert rival.predict(samples()) == [0.5, -0.01, 0.25]


@pytest.mark.parametrize(
    ("suffix", "expected", "lower"),
    [
        (":niqe", [3.0, 4.0, 5.0], False),
        (":niqe:lower", [3.0, 4.0, 5.0], True),
        (":lower", [1.0, 2.0, 3.0], True),
        (":mos", [7.0, 8.0, 9.0], False),
        (":a:b", [4.0, 4.0, 4.0], False),
    ],
)
def test_a_column_and_its_direction_can_be_named(
    tmp_path: Path, suffix: str, expected: list[float], lower: bool
) -> None:
    rows = "image,score,niqe,mos,a:b\n1.jpg,1,3,7,4\n2.jpg,2,4,8,4\n3.jpg,3,5,9,4\n"
    rival = parse_rival(write(tmp_path, rows) + suffix)
    assert rival.predict(samples()) == expected
    assert rival.lower_better is lower
    assert rival.name.endswith(suffix)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("image,niqe,piqe\n1.jpg,1,2\n", r"several columns of scores, niqe, piqe: .*csv:niqe"),
        ("image,score,quality\n1.jpg,1,2\n", "several columns of scores, score, quality"),
        ("image,mos,text\n1.jpg,1,x\n", "no column of scores among image, mos, text"),
        ("file,score\n1.jpg,1\n", r"no column of images \(image, .*but file, score"),
        ("image,score\n", "holds no rows"),
        ("image,score\n1.jpg,1\n1.jpg,2\n", r"several scores for 1\.jpg"),
        ("image,score\n1.jpg,1\n./1.jpg,2\n", r"several scores for \./1\.jpg"),
    ],
    ids=["two", "two known", "only opinions", "no image", "empty", "twice", "twice, dotted"],
)
def test_a_table_that_leaves_doubt_is_refused(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(RivalError, match=message):
        parse_rival(write(tmp_path, rows))


@pytest.mark.parametrize("value", ["bad", "nan", "inf"])
def test_a_named_column_with_something_else_than_numbers_names_the_row(
    tmp_path: Path, value: str
) -> None:
    file = write(tmp_path, f"image,score\n1.jpg,1\n2.jpg,{value}\n")
    with pytest.raises(RivalError, match=f"row 2: '{value}' is no score"):
        parse_rival(f"{file}:score")
    with pytest.raises(RivalError, match="no column nonsense, but image, score"):
        parse_rival(f"{file}:nonsense")


def test_a_file_that_is_not_there_or_no_table_is_named(tmp_path: Path) -> None:
    for text in (str(tmp_path / "none.csv"), write(tmp_path, '{"a": 1}', "report.json")):
        with pytest.raises(RivalError, match=r"(none\.csv|report\.json) can't be read"):
            parse_rival(text)
    for name, text in (("x.jsonl", "[1]\n"), ("y.jsonl", "{"), ("z.json", "[]")):
        with pytest.raises(RivalError, match="can't be read"):
            parse_rival(write(tmp_path, text, name))


def test_a_table_that_a_spreadsheet_saved_is_read(tmp_path: Path) -> None:
    file = write(tmp_path, "\ufeffimage,score\r\n1.jpg,1\r\n2.jpg,2\r\n3.jpg,3\r\n")
    assert parse_rival(file).predict(samples()) == [1.0, 2.0, 3.0]


def test_equal_names_in_several_folders_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    rated = samples(["jp2k/img1.bmp", "wn/img1.bmp"])
    file = write(tmp_path, "image,score\nwn/img1.bmp,2\njp2k\\img1.bmp,1\n")
    assert parse_rival(file).predict(rated) == [1.0, 2.0]
    file = write(tmp_path, "image,score\n/data/set/wn/img1.bmp,4\n/data/set/jp2k/img1.bmp,3\n")
    assert parse_rival(file).predict(rated) == [3.0, 4.0]


@pytest.mark.parametrize("path", ["img1.bmp", "/elsewhere/img1.bmp"], ids=["bare", "elsewhere"])
def test_one_row_never_answers_for_two_images(tmp_path: Path, path: str) -> None:
    file = write(tmp_path, f"image,score\n{path},1\n")
    with pytest.raises(RivalError, match=r"could be .*jp2k/img1\.bmp or .*wn/img1\.bmp"):
        parse_rival(file).predict(samples(["jp2k/img1.bmp", "wn/img1.bmp"]))


def test_a_name_that_several_rows_share_is_no_match(tmp_path: Path) -> None:
    file = write(tmp_path, "image,score\nx/1.jpg,1\ny/1.jpg,2\n")
    with pytest.raises(RivalError, match=r"no score for 1 images: /data/set/a/1\.jpg"):
        parse_rival(file).predict(samples(["a/1.jpg"]))


def test_paths_of_another_machine_are_matched_by_file_name(tmp_path: Path) -> None:
    rows = "image,score\n/home/x/3.jpg,3\n/home/x/1.jpg,1\nC:\\pics\\2.jpg,2\nextra.jpg,9\n"
    assert parse_rival(write(tmp_path, rows)).predict(samples()) == [1.0, 2.0, 3.0]


def test_images_that_a_table_lacks_are_counted_and_the_first_named(tmp_path: Path) -> None:
    file = write(tmp_path, "image,score\n3.jpg,1\n")
    names = [f"{i}.jpg" for i in range(8)]
    with pytest.raises(RivalError, match=r"for 7 images: .*/0\.jpg, .*/1\.jpg, .*/2\.jpg \.\.\.$"):
        parse_rival(file).predict(samples(names))


def test_what_agiqa_score_writes_is_read_but_for_images_that_failed(tmp_path: Path) -> None:
    header = "path,quality,alignment,consistency,code,detail\n"
    rows = 'a/1.jpg,0.5,,,,\na/2.jpg,,,,too_large,"over\nthe\u2028limit, 9"\na/2.jpg,0.75,,,,\n'
    file = write(tmp_path, header + rows)
    assert parse_rival(file).predict(samples(NAMES[:2])) == [0.5, 0.75]
    lines = [
        {"path": "a/1.jpg", "quality": 0.5, "alignment": 0.25, "code": None},
        {"path": "a/2.jpg", "quality": None, "alignment": None, "code": "too_large"},
    ]
    file = write(tmp_path, "".join(json.dumps(line) + "\n" for line in lines), "scores.jsonl")
    assert parse_rival(file).predict(samples(NAMES[:1])) == [0.5]
    assert parse_rival(f"{file}:alignment").predict(samples(NAMES[:1])) == [0.25]
    with pytest.raises(RivalError, match="no score for 1 images"):
        parse_rival(file).predict(samples(NAMES[:2]))


def test_the_report_of_agiqa_evaluate_is_read(tmp_path: Path) -> None:
    rows = [
        {"image": f"{i}.jpg", "mos": 0.9, "mos_align": None, "quality": i / 4, "consistency": 0.5}
        for i in (1, 2, 3)
    ]
    file = write(tmp_path, json.dumps({"part": "test", "predictions": rows}), "report.json")
    assert parse_rival(file).predict(samples()) == [0.25, 0.5, 0.75]
    assert parse_rival(f"{file}:consistency").predict(samples()) == [0.5] * 3


class FixedScores:
    """A rival that was told what to answer."""

    name = "fixed"
    target = "quality"
    trained_on = None

    def __init__(self, answers: FloatList, *, lower_better: bool = False) -> None:
        self.answers, self.lower_better = list(answers), lower_better

    def predict(self, samples: Sequence[Sample]) -> list[float]:
        return self.answers


def test_a_rivals_figures_do_not_hang_on_its_unit_or_direction() -> None:
    rng = np.random.default_rng(2)
    rated = samples([f"{i}.jpg" for i in range(40)])
    guess = np.array([s.mos for s in rated]) + rng.normal(0, 0.5, 40)
    one = measure_rival(FixedScores(guess), rated, rounds=100)
    other = measure_rival(FixedScores(50 - 10 * guess, lower_better=True), rated, rounds=100)
    assert list(one.figures) == ["srcc", "plcc", "plcc_vqeg", "krcc", "rmse_vqeg"]
    for name, (low, high) in one.intervals.items():
        assert low < one.figures[name] < high
        assert other.figures[name] == pytest.approx(one.figures[name], abs=1e-5)
        assert other.intervals[name] == pytest.approx((low, high), abs=1e-3)
    assert one.figures["srcc"] == pytest.approx(srcc(guess, [s.mos for s in rated]))
    assert set(one.intervals) == set(one.figures)


def test_a_rival_with_too_few_answers_is_refused() -> None:
    with pytest.raises(RivalError, match="fixed: 2 scores for 3 images"):
        measure_rival(FixedScores([1, 2]), samples())


def report(predictions: FloatList) -> RivalReport:
    return RivalReport("rival", {}, {}, list(predictions))


def test_a_model_is_compared_on_the_same_draws() -> None:
    rng = np.random.default_rng(3)
    mos = rng.random(60)
    model, guess = mos + rng.normal(0, 0.1, 60), mos + rng.normal(0, 0.6, 60)
    by_rank, by_value = compare(model, [report(guess)], mos, rounds=100)
    assert (by_rank.metric, by_value.metric) == ("srcc", "plcc")
    assert by_rank.model_figure == srcc(model, mos)
    assert by_rank.rival_figure == srcc(guess, mos)
    ends = difference_interval(srcc, model, guess, mos, rounds=100)
    assert (by_rank.low, by_rank.high) == ends
    assert by_rank.verdict == by_value.verdict == "better"
    assert compare(guess, [report(model)], mos, rounds=100)[0].verdict == "worse"
    assert compare(model, [report(model)], mos, rounds=100)[0].verdict == "no difference shown"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.3, "better"), (-0.3, -0.1, "worse"), (-0.1, 0.3, "no difference shown")],
    ids=["above", "below", "around"],
)
def test_the_verdict_hangs_on_where_zero_lies(low: float, high: float, verdict: str) -> None:
    assert Difference("rival", "srcc", 0.8, 0.7, low, high).verdict == verdict
