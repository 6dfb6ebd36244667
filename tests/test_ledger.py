"""Pages of made-up runs, and the pages that are committed."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dadlab import ledger
from dadlab.evaluate import CORRUPTIONS, SHIFTS
from dadlab.files import ROOT, write_json
from dadlab.ledger import PAGE, main, pack, read_page, unpack, verify
from dadlab.profile import make_profile
from dadlab.provenance import TRAINED, trained_by
from dadlab.results import answered, measure, measure_corrupted, measure_corruptions
from dadlab.run import Run, read_run
from dadlab.tables.measured import measure_rows
from dadlab.tables.published import load_table
from dadlab.tables.record import record
from dadlab.tables.rows import read_rows
from dadlab.tables.sentences import judge_sentences, read_sentences, record_of
from dadlab.train import train

RUN = Run(make_profile(), "kd", "resnet_s", 3)
COMMITTED = sorted((ROOT / ledger.LEDGER).glob("*.zip"))


def made(runs_dir: Path, run: Run = RUN, *, commit: str = "abc1234", right: float = 0.5) -> Path:
    """A finished run of made-up answers."""
    folder, rng = run.folder(runs_dir), np.random.default_rng(run.seed)
    (folder / "correct").mkdir(parents=True)
    for split in SHIFTS:
        np.save(folder / "correct" / f"{split}.npy", rng.random(200) < right)
    np.savez(folder / "corrupted.npz", **{kind: rng.random(50) for kind in CORRUPTIONS})
    write_json(folder / "corruptions.json", dict.fromkeys(CORRUPTIONS, 0.5))
    write_json(folder / "run.json", dataclasses.asdict(run))
    write_json(folder / TRAINED, {"commit": commit, "machine": "CPU"})
    run.weights(runs_dir).write_bytes(b"weights")
    return folder


def test_unpacked_answers_stand_for_the_run(tmp_path):
    folder = made(tmp_path / "there")
    (page,) = pack(tmp_path / "there", tmp_path / "ledger")
    assert page.stem == folder.name
    assert unpack(tmp_path / "ledger", tmp_path / "here") == [RUN.folder(tmp_path / "here")]
    assert answered(RUN, tmp_path / "here", SHIFTS, corruptions=True)
    found = measure(RUN, tmp_path / "here", list(SHIFTS))
    for split in SHIFTS:
        np.testing.assert_array_equal(found[split], np.load(folder / "correct" / f"{split}.npy"))
    assert measure_corrupted(RUN, tmp_path / "here").keys() == set(CORRUPTIONS)
    assert measure_corruptions(RUN, tmp_path / "here")["fog"] == 0.5
    assert trained_by(RUN.folder(tmp_path / "here"))["commit"] == "abc1234"
    assert not RUN.weights(tmp_path / "here").exists()


def test_the_same_answers_are_the_same_bytes_and_pages_stay(tmp_path):
    made(tmp_path / "runs")
    (first,) = pack(tmp_path / "runs", tmp_path / "a")
    (second,) = pack(tmp_path / "runs", tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    first.write_bytes(b"as it was")
    assert pack(tmp_path / "runs", tmp_path / "a") == []
    assert first.read_bytes() == b"as it was"


@pytest.mark.parametrize(
    "lacking", ["run.json", "student.safetensors", "correct/sketch.npy", "corrupted.npz", "trained.json"]
)
def test_a_run_without_everything_gets_no_page(tmp_path, lacking):
    (made(tmp_path / "runs") / lacking).unlink()
    assert pack(tmp_path / "runs", tmp_path / "ledger") == []


@pytest.mark.parametrize("profile", [make_profile(limit=40), make_profile(data="elsewhere")], ids=["toy", "other data"])
def test_toys_and_other_data_get_no_page(tmp_path, profile, monkeypatch):
    monkeypatch.setattr("dadlab.run.identity", lambda *_: "made up")
    made(tmp_path / "runs", Run(profile, "kd"))
    assert pack(tmp_path / "runs", tmp_path / "ledger") == []


def test_a_run_whose_name_no_longer_fits_gets_no_page(tmp_path):
    folder = made(tmp_path / "runs")
    folder.rename(folder.with_name("kd-resnet_s-s3-000000000000"))
    assert pack(tmp_path / "runs", tmp_path / "ledger") == []


@pytest.mark.parametrize("commit", ["abc1234+", "unknown"])
def test_uncommitted_code_gets_no_page_and_neither_do_its_neighbours(tmp_path, commit):
    made(tmp_path / "runs")
    bad = made(tmp_path / "runs", dataclasses.replace(RUN, seed=4), commit=commit)
    with pytest.raises(ValueError, match=bad.name):
        pack(tmp_path / "runs", tmp_path / "ledger")
    assert not list((tmp_path / "ledger").glob("*"))


def test_runs_of_methods_that_are_not_here_are_passed_over(tmp_path):
    folder = made(tmp_path / "runs")
    other = made(tmp_path / "runs", dataclasses.replace(RUN, seed=4))
    told = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**told, "method": "mine"}))
    (page,) = pack(tmp_path / "runs", tmp_path / "ledger")
    assert page.stem == folder.name
    assert set(verify(tmp_path / "runs", tmp_path / "ledger")["run"]) == {folder.name}


def test_runs_that_are_there_are_left_alone(tmp_path):
    made(tmp_path / "there")
    pack(tmp_path / "there", tmp_path / "ledger")
    own = made(tmp_path / "here", right=0.9)
    before = (own / "correct/studio.npy").read_bytes()
    assert unpack(tmp_path / "ledger", tmp_path / "here") == []
    assert (own / "correct/studio.npy").read_bytes() == before


def test_verify_counts_photographs_answered_otherwise(tmp_path, capsys):
    folder = made(tmp_path / "runs")
    pack(tmp_path / "runs", tmp_path / "ledger")
    assert not verify(tmp_path / "runs", tmp_path / "ledger")["otherwise"].any()
    where = ["--runs-dir", str(tmp_path / "runs"), "--ledger", str(tmp_path / "ledger")]
    assert main(["verify", *where]) == 0
    assert "1 of 1 runs trained here have the answers of their pages" in capsys.readouterr().out
    right = np.load(folder / "correct/sketch.npy")
    right[:3] = ~right[:3]
    np.save(folder / "correct/sketch.npy", right)
    found = verify(tmp_path / "runs", tmp_path / "ledger").set_index("split")["otherwise"]
    assert (found["sketch"], found.sum()) == (3, 3)
    with np.load(folder / "corrupted.npz") as wrong:
        np.savez(folder / "corrupted.npz", **{**wrong, "fog": wrong["fog"] / 2})
    told = verify(tmp_path / "runs", tmp_path / "ledger").set_index("split")
    assert (told.loc["fog", "otherwise"], told["otherwise"].sum()) == (50, 53)
    assert told.loc["sketch", "here"] == pytest.approx(100 * right.mean())
    assert 100 - told.loc["fog", "there"] == pytest.approx(2 * (100 - told.loc["fog", "here"]))  # errors were halved
    assert main(["verify", *where]) == 1
    said = capsys.readouterr().out
    assert f"{folder.name}, sketch: 3 of 200 answered otherwise" in said
    assert "0 of 1 runs" in said


def test_unpacked_runs_are_not_verified_against_themselves(tmp_path, capsys):
    made(tmp_path / "there")
    pack(tmp_path / "there", tmp_path / "ledger")
    unpack(tmp_path / "ledger", tmp_path / "here")
    assert verify(tmp_path / "here", tmp_path / "ledger").empty
    assert main(["verify", "--runs-dir", str(tmp_path / "here"), "--ledger", str(tmp_path / "ledger")]) == 0
    assert "no run here has a page" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["empty", "other", "cut"])
def test_a_damaged_page_is_named(tmp_path, capsys, damage):
    made(tmp_path / "there")
    (page,) = pack(tmp_path / "there", tmp_path / "ledger")
    if damage == "other":
        with zipfile.ZipFile(page, "w") as out:
            out.writestr("run.json", "{}")
    else:
        page.write_bytes(page.read_bytes()[: 500 * (damage == "cut")])
    assert main(["unpack", "--runs-dir", str(tmp_path / "here"), "--ledger", str(tmp_path / "ledger")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("dadlab.ledger: ")
    assert page.name in said
    assert said.count("\n") == 1


def test_no_pages_is_said(tmp_path, capsys):
    assert main(["unpack", "--runs-dir", str(tmp_path), "--ledger", str(tmp_path / "none")]) == 1
    assert "holds no page of a ledger" in capsys.readouterr().err


def test_pages_are_committed():
    assert COMMITTED


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    runs_dir = tmp_path_factory.mktemp("runs")
    unpack(ROOT / ledger.LEDGER, runs_dir)
    return runs_dir


@pytest.mark.parametrize("page", COMMITTED, ids=lambda page: page.stem)
def test_a_committed_page_belongs_to_the_run_that_todays_code_would_train(page, unpacked):
    folder = unpacked / page.stem
    assert zipfile.ZipFile(page).namelist() == list(PAGE)
    assert read_run(folder / "run.json").folder(unpacked) == folder
    assert ledger._COMMIT.fullmatch(trained_by(folder)["commit"])


def test_committed_tables_say_what_the_pages_say(unpacked):
    """Every cell of a table whose run has a page, and whose column is one test split, is the mean of its answers."""
    splits = {"ImageNet": "studio", **{split.capitalize(): split for split in SHIFTS}}
    checked = 0
    for path in sorted((ROOT / "papers/dad/results").glob("table_*.json")):
        table = json.loads(path.read_text())
        for row, (column, split) in ((row, item) for row in table["rows"] for item in splits.items()):
            seeds = row["cells"].get(column, {}).get("seeds", {}) if path.stem not in ("table_07", "table_12") else {}
            for seed, told in seeds.items():
                kept = unpacked / row["runs"].get(seed, "none") / "correct" / f"{split}.npy"
                if kept.is_file():
                    assert told == round(100 * float(np.load(kept).mean()), 2), (path.name, row["row"], column, seed)
                    checked += 1
    assert checked > 100


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 8, 9, 10, 11])
def test_verdicts_and_cells_follow_from_the_pages_alone(number, unpacked):
    """Judged anew; rows and sentences of the teacher, who has no page, aside. Table 7 is timed, Table 12 attacked."""
    told = json.loads((ROOT / f"papers/dad/results/table_{number:02d}.json").read_text())
    published = load_table(number)
    measured = measure_rows(published, read_rows(number), told["seeds"], unpacked, train=False)
    sentences = read_sentences(number, published.attrs["lower_is_better"])
    judged = record_of(judge_sentences(sentences, measured))
    now = json.loads(json.dumps({"claims": judged, "rows": record(measured)["rows"]}))
    for row, then in zip(now["rows"], told["rows"], strict=True):
        if row["method"] != "teacher":
            assert (row["row"], row["cells"], row["runs"]) == (then["row"], then["cells"], then["runs"])
    for claim, then in zip(now["claims"], told["claims"], strict=True):
        if not any("teacher" in compared["second"] for compared in then["comparisons"]):
            assert claim == then


@pytest.fixture
def taught(tmp_path) -> Run:
    """A run, with answers, of a student whose teacher was trained beside it; the teacher's weights are made up."""
    runs_dir = tmp_path / "there"
    teacher = Run(make_profile(), "augmix", "resnet_m", 1000)
    (folder := teacher.folder(runs_dir)).mkdir(parents=True)
    teacher.weights(runs_dir).write_bytes(b"weights of a teacher")
    write_json(folder / "run.json", dataclasses.asdict(teacher))
    run = dataclasses.replace(RUN, profile=make_profile(teacher=str(teacher.weights(runs_dir))))
    made(runs_dir, run)
    return run


def test_a_teacher_that_was_trained_for_a_run_comes_with_its_answers(tmp_path, taught):
    (page,) = pack(tmp_path / "there", tmp_path / "ledger")
    assert str(tmp_path).encode() not in read_page(page)["run.json"]
    shutil.rmtree(tmp_path / "there")
    (folder,) = unpack(tmp_path / "ledger", tmp_path / "here")
    run = read_run(folder / "run.json")
    assert run.folder(tmp_path / "here") == folder
    assert Path(run.profile.teacher).read_bytes() == b"weights of a teacher"
    assert read_run(Path(run.profile.teacher).with_name("run.json")).method == "augmix"
    assert answered(run, tmp_path / "here", SHIFTS, corruptions=True)
    assert verify(tmp_path / "here", tmp_path / "ledger").empty


def test_a_teacher_that_is_there_stays(tmp_path, taught):
    pack(tmp_path / "there", tmp_path / "ledger")
    own = tmp_path / "here" / Path(taught.profile.teacher).relative_to(tmp_path / "there")
    own.parent.mkdir(parents=True)
    own.write_bytes(b"weights of mine")
    unpack(tmp_path / "ledger", tmp_path / "here")
    assert own.read_bytes() == b"weights of mine"


def test_teachers_from_elsewhere_are_not_copied(tmp_path, taught):
    elsewhere = tmp_path / "elsewhere.safetensors"
    shutil.copyfile(taught.profile.teacher, elsewhere)
    made(tmp_path / "other", dataclasses.replace(taught, profile=make_profile(teacher=str(elsewhere))))
    assert pack(tmp_path / "other", tmp_path / "ledger")
    assert not (tmp_path / "ledger" / ledger.TEACHERS).exists()


TOY = Run(make_profile(limit=20, epochs=1, batch=10, views=1), "plain")


def test_new_weights_drop_the_answers_of_others_but_a_training_that_stops_does_not(tmp_path, monkeypatch):
    folder = made(tmp_path, TOY)
    (folder / "correct/c/fog").mkdir(parents=True)
    np.save(folder / "correct/c/fog/1.npy", np.ones(3, bool))
    TOY.weights(tmp_path).unlink()
    with monkeypatch.context() as patch:
        patch.setattr("dadlab.loop.Loop.learn", lambda *_: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception):
            train(TOY, tmp_path)
    assert answered(TOY, tmp_path, SHIFTS, corruptions=True)
    train(TOY, tmp_path)
    assert TOY.weights(tmp_path).is_file()
    assert not answered(TOY, tmp_path, ["studio"])
    assert not list(folder.rglob("*.npy"))
    assert not list(folder.glob("corrup*"))


def test_answers_of_a_page_and_of_new_weights_are_never_mixed(tmp_path):
    """`val` is in no page: asked for it, the run is trained, and the page's answers are another student's."""
    made(tmp_path, TOY)
    TOY.weights(tmp_path).unlink()
    found = measure(TOY, tmp_path, ["studio", "val"])
    assert (len(found["studio"]), len(found["val"])) == (2000, 1000)  # the page's have 200


def test_unpacking_completes_what_was_broken_off(tmp_path):
    made(tmp_path / "there")
    pack(tmp_path / "there", tmp_path / "ledger")
    (folder,) = unpack(tmp_path / "ledger", tmp_path / "here")
    (folder / "corrupted.npz").unlink()
    assert unpack(tmp_path / "ledger", tmp_path / "here") == [folder]
    assert (folder / "corrupted.npz").is_file()
    assert unpack(tmp_path / "ledger", tmp_path / "here") == []
