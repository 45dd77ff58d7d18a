"""TensorBoard's files after kills: every point once."""

import io
import itertools

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import kcnn
from trainers.runs.dashboards import Dashboard, events, filters_image, graph_of, rewind_events, samples_png
from trainers.runs.showing import pictured


def show(dashboard, steps, value):
    for step in steps:
        dashboard.scalars(step, {"loss": value, "val_loss": value})
    dashboard.flush()


def points(folder, tag="train/loss"):
    """Those of all event files, which tests make within one second: TensorBoard goes by the seconds in their names."""
    found = []
    for path in sorted(folder.glob("events*"), key=lambda path: path.stat().st_mtime_ns):
        events = EventAccumulator(str(path), size_guidance={"tensors": 0}).Reload()
        if tag in events.Tags()["tensors"]:
            found += [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)]
    return found


def test_what_a_killed_run_showed_after_its_checkpoint_is_taken_back(tmp_path):
    show(Dashboard(tmp_path), range(1, 7), 1.0)
    show(Dashboard(tmp_path, 4), range(5, 9), 2.0)
    show(Dashboard(tmp_path, 6), range(7, 10), 3.0)
    right = [*((step, 1.0) for step in range(1, 5)), (5, 2.0), (6, 2.0), *((step, 3.0) for step in range(7, 10))]
    for tag in ("train/loss", "val/loss"):
        assert points(tmp_path, tag) == right


def test_a_run_that_begins_anew_shows_nothing_of_before(tmp_path):
    show(Dashboard(tmp_path), range(0, 7), 1.0)
    show(Dashboard(tmp_path, 0), range(0, 3), 2.0)
    assert points(tmp_path) == [(0, 2.0), (1, 2.0), (2, 2.0)]


def test_a_run_that_recovers_takes_back_what_it_showed(tmp_path):
    dashboard = Dashboard(tmp_path)
    show(dashboard, range(0, 7), 1.0)
    dashboard.rewind(0)  # the first images, of step 0, are not shown again
    show(dashboard, range(1, 3), 2.0)
    assert points(tmp_path) == [(0, 1.0), (1, 2.0), (2, 2.0)]


def test_a_file_that_was_cut_off_keeps_what_was_whole(tmp_path):
    show(Dashboard(tmp_path), range(1, 7), 1.0)
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    show(Dashboard(tmp_path, 5), range(6, 9), 2.0)
    assert [step for step, _ in points(tmp_path)] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_lengths_in_a_file_are_not_believed(tmp_path):
    path = tmp_path / "train" / "events.out.tfevents.1"
    path.parent.mkdir()
    path.write_bytes((2**50).to_bytes(8, "little") + bytes(100))
    assert list(events(path)) == []
    path.write_bytes((3).to_bytes(8, "little") + bytes(4) + b"\xff" * 7)
    assert list(events(path)) == []


def test_what_has_nothing_to_take_back_is_left_as_it_is(tmp_path):
    show(Dashboard(tmp_path), range(1, 4), 1.0)
    before = {path: path.stat().st_ino for path in tmp_path.glob("*")}
    rewind_events(tmp_path, 3)
    assert {path: path.stat().st_ino for path in tmp_path.glob("*")} == before


def test_links_are_left_alone(tmp_path):
    show(Dashboard(tmp_path), range(1, 4), 1.0)
    [path] = tmp_path.iterdir()
    path.rename(tmp_path / "precious")
    path.symlink_to(tmp_path / "precious")
    before = (tmp_path / "precious").read_bytes()
    rewind_events(tmp_path, 1)
    assert path.is_symlink() and (tmp_path / "precious").read_bytes() == before


def test_at_most_ten_epochs_have_a_picture():
    """All of a short run; evenly spaced ones of a long one; always the last."""
    for epochs in (1, 2, 9, 10, 11, 30, 95, 600):
        drawn = [epoch for epoch in range(epochs) if pictured(epoch, epochs)]
        assert drawn[-1] == epochs - 1 and len(drawn) <= 10 and (epochs > 10 or len(drawn) == epochs)
        assert len({b - a for a, b in itertools.pairwise(drawn)}) <= 1


def test_filters_are_shown_each_with_its_own_contrast():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 5)).astype("float32")
    image = filters_image(kernel)
    assert image.shape == (2 * 26, 3 * 26, 3) and image.dtype == np.uint8
    cell = image[1:25, 27:51]  # of the second one
    assert cell.min() == 0 and cell.max() == 255
    np.testing.assert_array_equal(cell[::8, ::8], cell[7::8, 7::8])


def test_samples_bear_their_labels():
    png = samples_png(np.zeros((3, 8, 8, 3), np.uint8), ["ant", "$x_{", "a name that is much too long to be shown"])
    assert Image.open(io.BytesIO(png)).width == 390


def test_the_graph_has_the_network_s_layers_and_wires():
    layers = kcnn.facts("resnet-18").layers
    nodes = {node.name: node for node in graph_of(layers).node}
    assert len(nodes) == len(layers) + 1 and nodes["image"].op == "Placeholder"
    add = next(name for name in nodes if name.startswith("stage1/block2/") and nodes[name].op == "Add")
    assert set(nodes[add].input) <= nodes.keys() and len(nodes[add].input) == 2
    sizes = [dim.size for dim in nodes[add].attr["_output_shapes"].list.shape[0].dim]
    assert sizes == [-1, 56, 56, 64]
