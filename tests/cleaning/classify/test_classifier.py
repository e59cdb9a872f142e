"""The trained classifier: against scikit-learn itself, over batches and processes, damaged, and as a step."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_texts import WORDS, saved, text_of, write_rows

from llmforge.cleaning.classify.classifier import HEADER_FILE, KIND, WEIGHTS_FILE, Classifier
from llmforge.cleaning.classify.features import features_of
from llmforge.cleaning.classify.scores import as_text, calibration_error, report_on
from llmforge.cleaning.classify.settings import ClassifySettings, FeatureSettings, TrainOn
from llmforge.cleaning.classify.step import Classify
from llmforge.cleaning.classify.train import Training, check_installed, matrix_of, train
from llmforge.cleaning.verdict import KEEP, Drop
from llmforge.errors import DamagedError, DataError, LlmforgeError, MachineError, UsageError
from llmforge.runtime.manifest import write_manifest

UNSEEN = [text_of(kind, number) for kind in WORDS for number in range(1000, 1060)]


@pytest.mark.parametrize("labels", [2, 3])
def test_numpy_alone_says_what_scikit_learn_says(tmp_path: Path, labels: int) -> None:
    pytest.importorskip("sklearn", reason="needs the extra classify")
    from sklearn.linear_model import LogisticRegression

    kinds = list(WORDS)[:labels]
    rows = write_rows(tmp_path / "rows.jsonl", dict.fromkeys(kinds, 40))
    mine = train(TrainOn(path=str(rows))).classifier
    reference = LogisticRegression()
    reference.classes_ = np.asarray(mine.labels)
    weights, bias = mine.weights.T.astype(np.float64), mine.bias.astype(np.float64)
    reference.coef_ = weights if labels > 2 else weights[1:] - weights[:1]
    reference.intercept_ = bias if labels > 2 else bias[1:] - bias[:1]
    reference.coef_, reference.intercept_ = reference.coef_ / mine.temperature, reference.intercept_ / mine.temperature
    matrix = matrix_of(UNSEEN, mine.features).astype(np.float64)
    assert mine.probabilities(UNSEEN) == pytest.approx(reference.predict_proba(matrix), abs=1e-6)
    assert mine.predict(UNSEEN)[0] == reference.predict(matrix).tolist()


def test_it_learns_and_its_report_is_of_texts_it_never_saw(training: Training) -> None:
    report = training.report
    assert report["sides"] == {"train": 360, "calibrate": 45, "test": 45}
    test = report["test"]
    assert isinstance(test, dict)
    assert test["accuracy"] >= 0.95 and test["majority"] == pytest.approx(1 / 3, abs=1e-6)
    labels, scores = training.classifier.predict(UNSEEN)
    right = [label == kind for label, kind in zip(labels, (kind for kind in WORDS for _ in range(60)), strict=True)]
    assert sum(right) / len(right) >= 0.95
    assert calibration_error(np.asarray(scores), np.asarray(right)) < 0.1
    assert "accuracy" in as_text(report) and "as kitchen" in as_text(report)


def test_training_without_the_library_says_what_to_install(rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for call in (check_installed, lambda: train(TrainOn(path=str(rows)))):
        with pytest.raises(MachineError, match=r"pip install 'llmforge\[classify\]', or give classify.model"):
            call()


def test_the_same_examples_give_the_same_bytes(rows: Path, classifier: Classifier, tmp_path: Path) -> None:
    again = train(TrainOn(path=str(rows))).classifier
    first, second = saved(classifier, tmp_path / "a"), saved(again, tmp_path / "b")
    for name in (HEADER_FILE, WEIGHTS_FILE):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_it_comes_back_as_it_was(classifier: Classifier, tmp_path: Path) -> None:
    loaded = Classifier.load(saved(classifier, tmp_path / "run" / KIND).parent)
    assert loaded.predict(UNSEEN) == classifier.predict(UNSEEN)
    assert loaded.report == classifier.report and loaded.features == classifier.features


@settings(deadline=None, max_examples=50)
@given(numbers=st.lists(st.integers(0, len(UNSEEN) - 1), max_size=12), odd=st.text(max_size=30))
def test_a_text_scores_the_same_alone_and_in_any_batch(classifier: Classifier, numbers: list[int], odd: str) -> None:
    texts = [*(UNSEEN[number] for number in numbers), odd, ""]
    together = classifier.probabilities(texts)
    for text, row in zip(texts, together, strict=True):
        assert classifier.probabilities([text])[0].tolist() == row.tolist()
    assert together.sum(axis=1) == pytest.approx(np.ones(len(texts)))


def test_it_is_applied_without_the_library_it_was_trained_with(classifier: Classifier, tmp_path: Path) -> None:
    folder = saved(classifier, tmp_path / "model")
    code = (
        "import sys\nfrom llmforge.cleaning.classify.classifier import Classifier\n"
        f"print(Classifier.load({str(folder)!r}).predict([{UNSEEN[0]!r}])[0][0])\n"
        "assert not {'sklearn', 'scipy', 'torch'} & set(sys.modules)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "sea", done.stderr


def test_the_report_counts_by_hand() -> None:
    wanted = ["a", "a", "b", "b"]
    weights = np.zeros((1 << 8, 2), dtype=np.float32)
    model = Classifier(["a", "b"], FeatureSettings(words=1, bits=8), weights, np.zeros(2, np.float32), 1.0, {})
    texts = ["left", "right", "right", "right"]
    for text, sign in (("left", -1), ("right", 1)):
        counter = next(features_of([text], model.features)).counters[0]
        weights[counter] = [-sign, sign]
    found = report_on(model, texts, wanted)
    assert found["confusion"] == [[1, 1], [0, 2]] and found["accuracy"] == 0.75 and found["majority"] == 0.5
    by_label = found["labels"]
    assert isinstance(by_label, dict)
    assert (by_label["a"]["precision"], by_label["a"]["recall"]) == (1.0, 0.5)
    assert by_label["b"]["precision"] == pytest.approx(2 / 3, abs=1e-6)
    sure = 1 / (1 + np.exp(-2))
    assert found["calibration_error"] == pytest.approx(abs(sure - 0.75), abs=1e-6)
    assert found["log_loss"] == pytest.approx(-(3 * np.log(sure) + np.log(1 - sure)) / 4, abs=1e-6)
    half = next(row for row in by_label["b"]["thresholds"] if row["min_score"] == 0.5)
    assert half == {"min_score": 0.5, "kept": 1.0, "others_kept": 0.5}


def step(classifier: Classifier, folder: Path, **more: object) -> Classify:
    return Classify(ClassifySettings.model_validate({"model": str(saved(classifier, folder)), **more}))


def test_the_step_keeps_labels_and_says_why_a_text_goes(classifier: Classifier, tmp_path: Path) -> None:
    keeps = step(classifier, tmp_path / "m", keep=["sea", "court"], label="topic")
    found = [keeps(text) for text in UNSEEN]
    assert found[:60].count(KEEP) >= 57
    dropped = [verdict for verdict in found[60:120] if isinstance(verdict, Drop)]
    assert len(dropped) >= 57
    assert all(drop.name == "classify.min_score" for drop in dropped)
    assert dropped[0].because.startswith("the probability of sea or court is 0.")
    assert "that of kitchen 0.9" in dropped[0].because and "mostly for '" in dropped[0].because
    assert any(word in dropped[0].because.partition("mostly for")[2] for word in WORDS["kitchen"].split())
    measured = keeps.measure(UNSEEN)
    assert [keeps.blamed(labels) is None for labels in measured] == [verdict == KEEP for verdict in found]
    assert keeps.wanted(measured[0]) == pytest.approx(measured[0]["sea"] + measured[0].get("court", 0), abs=1e-8)
    assert keeps.facts(measured[0]) == {"topic": "sea", "topic_score": round(measured[0]["sea"], 4)}


def test_without_keep_nothing_is_dropped(classifier: Classifier, tmp_path: Path) -> None:
    labels = step(classifier, tmp_path / "m")
    assert all(labels(text) == KEEP for text in [*UNSEEN, "", "\x00"])
    measured = labels.measure(UNSEEN)
    assert [labels.facts(one)["label"] for one in measured] == classifier.predict(UNSEEN)[0]
    assert {labels.wanted(one) for one in measured} == {1.0}


def test_all_labels_keep_all_and_a_higher_threshold_keeps_fewer(classifier: Classifier, tmp_path: Path) -> None:
    everything = step(classifier, tmp_path / "all", keep=list(WORDS), min_score=1.0)
    assert all(everything(text) == KEEP for text in UNSEEN)
    counts = []
    for score in (0.0, 0.3, 0.9, 0.999, 1.0):
        keeps = step(classifier, tmp_path / str(score), keep=["sea"], min_score=score)
        counts.append(sum(keeps(text) == KEEP for text in UNSEEN))
    assert counts == sorted(counts, reverse=True) and counts[0] == len(UNSEEN) and counts[-1] < 60


def test_no_number_of_a_text_gets_into_the_reason(classifier: Classifier, tmp_path: Path) -> None:
    keeps = step(classifier, tmp_path / "m", keep=["sea"])
    verdict = keeps("butter 4111111111111111 flour 4111111111111111 oven +44 20 7946 0958 butter 7946")
    assert isinstance(verdict, Drop)
    assert not any(digit in verdict.because.partition("mostly for")[2] for digit in "123456789")


def test_an_unknown_label_to_keep(classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="keep names ocean, and the classifier knows court, kitchen, sea"):
        step(classifier, tmp_path / "m", keep=["ocean"])("text")


def test_the_settings_travel_to_a_worker(classifier: Classifier, tmp_path: Path) -> None:
    made = step(classifier, tmp_path / "m", keep=["sea"])
    sent = pickle.loads(pickle.dumps(made._settings))
    assert [Classify(sent)(text) for text in UNSEEN[:5]] == [made(text) for text in UNSEEN[:5]]


def change_header(folder: Path, **changes: object) -> None:
    header = json.loads((folder / HEADER_FILE).read_text(encoding="utf-8"))
    (folder / HEADER_FILE).write_text(json.dumps({**header, **changes}), encoding="utf-8")
    write_manifest(folder, KIND, config={})


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DataError, match="classifier|no such folder"):
            Classifier.load(place)


@pytest.mark.parametrize("name", [HEADER_FILE, WEIGHTS_FILE, "manifest.json"])
@pytest.mark.parametrize("how", ["removed", "cut", "flipped"])
def test_a_damaged_folder_is_refused_by_the_file(classifier: Classifier, tmp_path: Path, name: str, how: str) -> None:
    path = saved(classifier, tmp_path / "m") / name
    data = path.read_bytes()
    if how == "removed":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        at = data.index(b'"digest": "') + 12 if name == "manifest.json" else len(data) // 2
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(LlmforgeError) as error:
        Classifier.load(tmp_path / "m")
    assert error.value.exit_code in (3, 6) and (how == "removed") >= (error.value.exit_code == 3)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_another_version_is_told(classifier: Classifier, tmp_path: Path) -> None:
    change_header(saved(classifier, tmp_path / "m"), format=2)
    with pytest.raises(DataError, match="made by format 2 of classifiers, 1 is known; train it again"):
        Classifier.load(tmp_path / "m")


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ["a", "b"]},
        {"labels": 5},
        {"features": {"bits": 12}},
        {"features": {"bits": 60}},
        {"features": {"unknown": 1, "bits": 18}},
        {"temperature": "warm"},
        {"report": None},
    ],
    ids=str,
)
def test_a_header_that_does_not_fit_its_weights(
    classifier: Classifier, tmp_path: Path, changes: dict[str, object]
) -> None:
    change_header(saved(classifier, tmp_path / "m"), **changes)
    with pytest.raises(DamagedError):
        Classifier.load(tmp_path / "m")


def test_weights_that_are_no_numbers_are_refused(classifier: Classifier, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    folder = saved(classifier, tmp_path / "m")
    weights = classifier.weights.copy()
    weights[5, 1] = np.nan
    save_file({"weights": weights, "bias": classifier.bias}, folder / WEIGHTS_FILE)
    write_manifest(folder, KIND, config={})
    with pytest.raises(DamagedError, match="finite"):
        Classifier.load(folder)
