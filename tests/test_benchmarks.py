"""The benchmarks run, and what they compare computes the same."""

import pytest

from benchmarks import neighbours, training


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_step_agrees_with_the_published_recipe(
    capsys: pytest.CaptureFixture[str], precision: str
) -> None:
    arguments = ["--small", "--batch", "6", "--steps", "3", "--device", "cpu"]
    assert training.main([*arguments, "--precision", precision]) == 0
    printed = capsys.readouterr().out
    assert "losses agree" in printed
    assert f"ours, {precision}, with consistency" in printed
    assert "a step is faster by" in printed


def test_losses_that_differ_are_told_and_fail(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(training.PAPER, "alignment", 0.2)
    arguments = ["--small", "--batch", "6", "--steps", "2", "--device", "cpu", "--no-consistency"]
    assert training.main([*arguments, "--precision", "fp32"]) == 1
    assert "losses DON'T AGREE" in capsys.readouterr().out


def test_settings_of_openmp_are_measured_beside_busy_loops(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "not a number")  # would be complained of
    settings = ["default", "one thread"]
    arguments = ["--rows", "1,2", "--loops", "0,1", "--seconds", "0.01"]
    neighbours.main([*arguments, "--settings", ",".join(settings)])
    printed, complaints = capfd.readouterr()
    table = [line.strip("|").split("|") for line in printed.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row] for row in table]
    assert cells[0] == ["setting", "busy loops", "1 rows", "2 rows"]
    assert [row[:2] for row in cells[2:]] == [[name, loops] for loops in "01" for name in settings]
    assert all(int(rate) > 0 for row in cells[2:] for rate in row[2:])
    assert not complaints


def test_a_setting_of_openmp_that_is_not_known_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        neighbours.main(["--settings", "default,spinning"])
    assert "spinning: known are default, " in capsys.readouterr().err
