"""Images with any number of labels: how they are listed and found, and the figures of their evaluation."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score

from kcnn.errors import InputError
from trainers.config import TrainConfig
from trainers.data import eval_batches, open_data
from trainers.data.held_out import open_held_out
from trainers.data.stored.convert import convert
from trainers.multilabel.outcome import read_thresholds
from trainers.multilabel.scores import MultiLabelEvaluation, average_precisions, best_thresholds
from trainers.optim.losses import binary_cross_entropy, right, smooth
from trainers.runs.files import write_json
from trainers.settings import resolve


@pytest.fixture
def nested(tmp_path):
    """root/{indoor,outdoor}/..., some of them in beach/ or beach/dog/ below: an image has the names on its way."""
    root = tmp_path / "nested"
    for number, folder in enumerate(("indoor", "outdoor", "outdoor/beach", "indoor/dog", "outdoor/beach/dog")):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(4):
            Image.fromarray(np.full((6, 8, 3), 20 * number + i, np.uint8)).save(root / folder / f"{i}.png")
    return root


def as_list(root, name="list.csv", parts=None):
    paths = sorted(root.rglob("*.png"), reverse=True)
    rows = [(str(p.relative_to(root)), "|".join(p.relative_to(root).parts[:-1])) for p in paths]
    lines = ["path,labels,split" if parts else "path,labels"]
    lines += [",".join(row) + (f",{parts[i % len(parts)]}" if parts else "") for i, row in enumerate(rows)]
    (root / name).write_text("\n".join(lines) + "\n")
    return str(root / name)


def labelled(split):
    """{the image's bytes: its labels}"""
    assert split.label_sets is not None
    return {split.load(r["image"]).numpy(): split.label_sets[int(r["label"])].tolist() for r in split.once()}


@pytest.mark.slow
def test_a_folder_in_folders_its_list_and_their_conversions_are_the_same(nested, tmp_path):
    places = [str(nested), as_list(nested)]
    for place in list(places):
        places.append(str(tmp_path / f"converted-{len(places)}"))
        convert(place, places[-1])
    sources = [open_data(place, multi_label=True, val_split=0.2) for place in places]
    assert sources[0].classes == ("beach", "dog", "indoor", "outdoor")
    whole = labelled(sources[0].train) | labelled(sources[0].val)
    assert len(whole) == 20 and sum(map(sum, whole.values())) == 4 * (1 + 1 + 2 + 2 + 3)
    counts = np.add(sources[0].train.class_counts, sources[0].val.class_counts)
    assert sources[0].val.size == 4 and counts.tolist() == [8, 8, 8, 12]
    for source in sources[1:]:
        assert source.classes == sources[0].classes
        for one, other in ((source.train, sources[0].train), (source.val, sources[0].val)):
            assert (one.fingerprint(), one.class_counts) == (other.fingerprint(), other.class_counts)
            assert labelled(one) == labelled(other)


def test_batches_hold_the_sets(nested):
    split = open_data(str(nested), multi_label=True).val
    wanted = labelled(split)
    [batch] = eval_batches(split, batch=4, resolution=8)
    assert batch["label"].shape == (4, 4) and batch["weight"].numpy().sum() == split.size
    assert sorted(batch["label"].numpy()[: split.size].tolist()) == sorted(wanted.values())


def test_json_lines_and_images_without_labels(nested):
    (nested / "list.jsonl").write_text(
        '{"path": "indoor/0.png", "labels": ["b", "a", "b"]}\n{"path": "indoor/1.png", "labels": []}\n'
        '{"path": "indoor/2.png", "labels": ["b"]}\n{"path": "indoor/3.png", "labels": ["a"]}\n'
    )
    source = open_data(str(nested / "list.jsonl"), multi_label=True)
    assert source.classes == ("a", "b")
    found = sorted((labelled(source.train) | labelled(source.val)).values())
    assert found == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_a_rare_label_stays_in_training(nested):
    (nested / "indoor" / "only").mkdir()
    (nested / "indoor" / "0.png").rename(nested / "indoor" / "only" / "0.png")
    for share in (0.1, 0.5, 0.9):
        source = open_data(str(nested), multi_label=True, val_split=share)
        assert all(source.train.class_counts) and source.val.size


def test_parts_and_other_data(nested):
    place = as_list(nested, parts=["train", "train", "test", "val", "train"])
    source = open_data(place, multi_label=True)
    assert (source.train.size, source.val.size, source.test().size) == (12, 4, 4)
    config = TrainConfig(data="elsewhere", multi_label=True)
    assert open_held_out(config, source.classes, "RUN", place).part == "val"
    assert open_held_out(config, source.classes, "RUN", place, "test").split.size == 4
    assert open_held_out(config, source.classes, "RUN", str(nested)).split.size == 20
    with pytest.raises(InputError, match=r"list.csv', line \d+: label 'outdoor'; the labels of the training are 'bea"):
        open_held_out(config, ("beach", "dog", "indoor"), "RUN", place)
    with pytest.raises(InputError, match="label 'outdoor'; the labels of the training are"):
        open_held_out(config, ("beach", "dog", "indoor"), "RUN", str(nested))


@pytest.mark.parametrize("line, message", [
    ('{"path": "indoor/0.png", "labels": "a|b"}', "line 1: labels 'a|b'; a list of texts is needed"),
    ('{"path": "indoor/0.png", "labels": ["a|b"]}', "line 1: label 'a|b'; with several labels an image"),
    ('{"path": "indoor/0.png", "labels": ["a", ""]}', "class name '' in list .*line 1"),
    ('{"path": "indoor/0.png", "labels": []}', r"needs images of two labels or more; found \[\]"),
])  # fmt: skip
def test_what_is_wrong_with_labels_is_one_line(nested, line, message):
    (nested / "list.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match=message.replace("a|b", r"a\|b")):
        open_data(str(nested / "list.jsonl"), multi_label=True)


def test_labels_ask_for_the_flag_and_the_flag_for_labels(nested):
    with pytest.raises(InputError, match="line 2: labels, any number of them; --multi-label is needed"):
        open_data(as_list(nested))
    for name in ("digits", "tfds:cifar10"):
        with pytest.raises(InputError, match=r"multi-label: .* has one label an image"):
            open_data(name, multi_label=True)
    config = TrainConfig(data=str(nested), multi_label=True)
    assert (resolve(config).loss, resolve(config).label_smoothing) == ("bce", 0.0)
    with pytest.raises(InputError, match="loss 'focal': bce with multi-label"):
        resolve(TrainConfig(data=str(nested), multi_label=True, loss="focal"))


@pytest.fixture(scope="module")
def judged():
    draws = np.random.default_rng(0)
    truth = (draws.random((300, 5)) < [0.5, 0.3, 0.1, 0.02, 0.2]).astype(np.float32)
    return np.clip(0.3 * truth + draws.random((300, 5)), 0, 1).round(2).astype(np.float32), truth


def test_map_is_scikit_learn_s(judged):
    shares, truth = judged
    found = MultiLabelEvaluation.of(shares, truth, np.ones(300), np.ones(300))
    assert found.accuracy == pytest.approx(average_precision_score(truth, shares), abs=1e-12)
    assert average_precisions(shares, truth * [1, 1, 0, 1, 1])[2] is None
    # What only fills a batch does not count.
    more = MultiLabelEvaluation.of(*(np.concatenate([x, x[:9]]) for x in judged), np.ones(309), np.arange(309) < 300)
    assert (more.accuracy, more.top5, len(more.truth)) == (found.accuracy, found.top5, 300)


@pytest.mark.slow
def test_no_threshold_is_better_than_the_best(judged):
    shares, truth = judged
    truth = truth * [1, 1, 1, 0, 1]
    found = best_thresholds(shares, truth)
    assert found[3] == 0.5
    for i in (0, 1, 2, 4):
        scores = [f1_score(truth[:, i], shares[:, i] >= value) for value in np.linspace(0, 1, 201)]
        assert f1_score(truth[:, i], shares[:, i] >= np.float32(found[i])) == pytest.approx(max(scores))
    told = MultiLabelEvaluation(0.1, 0.2, 0.3, np.zeros((0, 0)), shares, truth, found).to_dict(tuple("abcde"))
    assert told["per_class"][0]["f1"] == pytest.approx(f1_score(truth[:, 0], shares[:, 0] >= found[0]))
    assert told["per_class"][3]["average_precision"] is None and told["images"] == 300


def test_thresholds_of_a_stranger_are_checked(tmp_path):
    assert read_thresholds(tmp_path, "last", 2) == (0.5, 0.5)
    for bad in ({}, {"last": [0.1]}, {"last": [0.1, "x"]}, {"last": [0.1, 2.0]}, {"last": {"a": 1, "b": 2}}):
        write_json(tmp_path / "thresholds.json", bad)
        with pytest.raises(InputError, match=r"thresholds.json: last: 2 numbers from 0 to 1"):
            read_thresholds(tmp_path, "last", 2)


def test_the_losses_of_questions():
    logits, sets = tf.constant([[2.0, -1.0, 0.5], [3.0, 1.0, 2.0]]), tf.constant([[0, 0, 1], [1, 1, 0]], tf.uint8)
    assert right(logits, sets).numpy().tolist() == [0, 1]
    assert right(logits, tf.constant([0, 2])).numpy().tolist() == [1, 0]
    np.testing.assert_allclose(smooth(tf.constant([[1.0, 0.0, 0.0]]), 0.2, True), [[0.9, 0.1, 0.1]], rtol=1e-6)
    p, t, w = 1 / (1 + np.exp(-logits.numpy())), sets.numpy(), np.array([1.0, 2.0, 3.0])
    expected = -(w * (t * np.log(p) + (1 - t) * np.log(1 - p))).mean(-1)
    np.testing.assert_allclose(binary_cross_entropy(logits, sets, tuple(w)), expected, rtol=1e-5)
