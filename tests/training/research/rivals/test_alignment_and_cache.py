"""Rivals that score alignment, what rivals have learned from, and scores that are kept on disk."""

from pathlib import Path

import pytest

from tests.training.research.rivals.test_rivals import FakePyiqa, FixedScores, pyiqa, write
from training.data.datasets import DATA_SETS
from training.data.samples import Sample
from training.errors import RivalError
from training.evaluation.metrics import srcc
from training.evaluation.results import HeadResult, Report
from training.research.documents.evaluation import rivals_section
from training.research.experiments.rivals_table import rivals_tables
from training.research.experiments.run import Result
from training.research.rivals.pyiqa_weights import TRAINED_ON, remark
from training.research.rivals.rival import RivalReport, measure_rival, parse_rival

__all__ = ["pyiqa"]
ALIGNMENT = [0.9, 0.2, 0.5]


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Three images whose quality rises and whose alignment does not."""
    made = []
    for number, alignment in enumerate(ALIGNMENT, start=1):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(bytes([number]))
        prompt = f"prompt {number}"
        made.append(Sample("KonIQ-10k", path, prompt, number / 10, alignment, prompt))
    return made


def test_a_metric_of_prompts_is_given_each_images_own_and_compared_with_alignment(
    pyiqa: FakePyiqa, samples: list[Sample]
) -> None:
    rival = parse_rival("pyiqa:clipscore", device="cpu")
    report = measure_rival(rival, samples, rounds=10)
    assert pyiqa.captions == ["prompt 1", "prompt 2", "prompt 3"]
    assert (report.target, report.trained_on) == ("alignment", ())
    assert report.figures["srcc"] == pytest.approx(srcc([1, 2, 3], ALIGNMENT))
    bare = [Sample("set", s.path, s.group, s.mos) for s in samples]
    with pytest.raises(RivalError, match="compares with prompts, which these images have not"):
        rival.predict(bare)


@pytest.mark.parametrize(
    ("behind", "srcc_wanted"), [("", 1.0), ("@quality", 1.0), ("@alignment", -0.5)]
)
def test_a_column_is_compared_with_the_opinion_that_is_named_behind_it(
    behind: str, srcc_wanted: float, samples: list[Sample], tmp_path: Path
) -> None:
    file = write(tmp_path, "image,reward\n1.jpg,1\n2.jpg,2\n3.jpg,3\n")
    rival = parse_rival(f"{file}:reward{behind}")
    assert rival.name == f"{file}:reward{behind}"
    assert rival.target == (behind.removeprefix("@") or "quality")
    found = measure_rival(rival, samples, rounds=10).figures["srcc"]
    assert found == pytest.approx(srcc_wanted)
    lower = parse_rival(f"{file}:reward:lower@alignment")
    assert measure_rival(lower, samples, rounds=10).figures["srcc"] == pytest.approx(0.5)


def test_alignment_without_opinions_of_it_is_refused(samples: list[Sample], tmp_path: Path) -> None:
    file = write(tmp_path, "image,reward\n1.jpg,1\n2.jpg,2\n3.jpg,3\n")
    photographs = [Sample("set", s.path, s.group, s.mos) for s in samples]
    with pytest.raises(RivalError, match="scores alignment, of which the data has no opinions"):
        measure_rival(parse_rival(f"{file}@alignment"), photographs)


def test_what_pyiqas_weights_learned_from_is_named_as_our_sets_are() -> None:
    sets = {name for learned in TRAINED_ON.values() for name in learned}
    assert sets - set(DATA_SETS) == {"FLIVE", "SPAQ"}
    assert remark(TRAINED_ON["dbcnn"], "KonIQ-10k") == "has seen this set"
    assert remark(TRAINED_ON["dbcnn"], "LIVE") == "KonIQ-10k"
    assert remark(TRAINED_ON["liqe_mix"], "BID") == "has seen this set"
    assert remark(TRAINED_ON["ilniqe"], "LIVE") == "no opinion scores"
    assert remark(None, "LIVE") == "not known"


def head(value: float) -> HeadResult:
    return HeadResult(value, value, value, value, 0.1, 0.1)


def report_of(samples: list[Sample]) -> Report:
    rows = [
        {"image": s.path.name, "path": str(s.path), "mos": s.mos, "mos_align": s.mos_align}
        | {"quality": s.mos, "consistency": s.mos_align}
        for s in samples
    ]
    heads = {"quality": head(1.0), "consistency": head(1.0)}
    return Report("test", 3, 3, heads, {}, rows)  # type: ignore[arg-type]


def test_the_report_marks_a_rival_that_has_seen_the_set_and_compares_alignment_with_consistency(
    pyiqa: FakePyiqa, samples: list[Sample]
) -> None:
    rivals = [parse_rival("pyiqa:dbcnn"), parse_rival("pyiqa:clipscore")]
    reports: list[RivalReport] = [measure_rival(rival, samples, rounds=10) for rival in rivals]
    quality, consistency = rivals_section(report_of(samples), reports, "KonIQ-10k").tables
    assert quality.caption == "Quality, measured here"
    assert quality.rows[0][:2] == ("pyiqa:dbcnn", "has seen this set")
    assert consistency.rows[0][:2] == ("pyiqa:clipscore", "no opinion scores")
    assert consistency.rows[0][4] == "-0.500"
    assert {row[0] for row in quality.rows} == {"pyiqa:dbcnn"}


def test_an_experiments_tables_mark_them_too(pyiqa: FakePyiqa, samples: list[Sample]) -> None:
    rivals = [parse_rival("pyiqa:dbcnn"), parse_rival("pyiqa:clipscore")]
    result = Result(
        variant="full", round=0, recipe={}, reports={"KonIQ-10k": report_of(samples)}, also={},
        history=[], best_epoch=0, seconds=0, git_revision="", checkpoint="",
    )  # fmt: skip
    quality, consistency = rivals_tables(rivals, [result], samples, "KonIQ-10k")
    assert [row[:2] for row in quality.rows] == [
        ("this method", "this set"),
        ("pyiqa:dbcnn", "has seen this set"),
    ]
    assert consistency.rows[1][0] == "pyiqa:clipscore"
    assert "-0.500" in consistency.rows[1][2]
    assert consistency.caption == "Consistency on the same test images of KonIQ-10k"


def test_scores_are_kept_on_disk_by_content_and_prompt(
    pyiqa: FakePyiqa, samples: list[Sample], tmp_path: Path
) -> None:
    first = parse_rival("pyiqa:clipscore").predict(samples)
    moved = [
        Sample(
            "set", s.path.rename(tmp_path / f"moved-{s.path.name}"), s.group, s.mos, 0.5, s.prompt
        )
        for s in samples
    ]
    pyiqa.captions.clear()
    again = parse_rival("pyiqa:clipscore")
    assert again.predict(moved) == first
    assert pyiqa.captions == []
    made = len(pyiqa.made)
    other = [Sample("set", s.path, s.group, s.mos, 0.5, "another") for s in moved[:1]]
    with pytest.raises(RivalError, match="fails on"):  # the file's name is no digit any more
        again.predict(other)
    assert len(pyiqa.made) == made + 1


def test_the_direction_is_kept_so_that_cached_scores_need_no_weights(
    pyiqa: FakePyiqa, samples: list[Sample]
) -> None:
    for _ in range(2):
        report = measure_rival(parse_rival("pyiqa:niqe"), samples, rounds=10)
        assert report.predictions == [1.0, 2.0, 3.0]
    assert pyiqa.made == [("niqe", None)]


def test_a_half_written_line_or_a_folder_that_cannot_be_written_costs_only_the_cache(
    pyiqa: FakePyiqa, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rival = parse_rival("pyiqa:dbcnn")
    assert rival.predict(samples) == [1, 2, 3]
    (kept,) = (tmp_path / "cache" / "agiqa" / "rivals").iterdir()
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join(["[nan", "null", '["x", NaN]', *lines[:-1], lines[-1][:20]]))
    pyiqa.grad.clear()
    assert parse_rival("pyiqa:dbcnn").predict(samples) == [1, 2, 3]
    assert len(pyiqa.grad) == 1
    assert parse_rival("pyiqa:dbcnn").predict(samples) == [1, 2, 3]
    assert len(pyiqa.grad) == 1
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert parse_rival("pyiqa:dbcnn").predict(samples) == [1, 2, 3]


def test_a_rival_of_another_kind_needs_no_cache(samples: list[Sample]) -> None:
    report = measure_rival(FixedScores([3, 2, 1]), samples, rounds=10)
    assert (report.target, report.trained_on) == ("quality", None)
