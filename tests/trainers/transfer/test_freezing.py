"""What is frozen stays as it is, to the bit; unfreezing moves it; a killed run goes on over the change."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import kcnn
import trainers
from kcnn.errors import InputError
from trainers.config import TrainConfig
from trainers.distribute.strategy import make_strategy
from trainers.network import networks
from trainers.optim.optimizers import make_optimizer
from trainers.phases import phases
from trainers.runs import checkpoints
from trainers.settings import resolve
from trainers.state import make_state
from trainers.step import replica_step, train_function
from trainers.transfer.parts import cut, place, step_memory


def frozen(freeze, arch="resnet-18", **more):
    """A settled configuration that freezes; no weights are read for it."""
    flags = {"arch": arch, "width": 0.125, "resolution": 32, "weights": "nowhere", "freeze": freeze, "epochs": 3}
    return resolve(TrainConfig(**flags | more))


def last(folder):
    return checkpoints.load(checkpoints.found(folder / "checkpoints")[0])[0]


@pytest.fixture
def start(finished):
    """The weights that the runs of these tests start from, as a checkpoint names them."""
    return {key: array for key, array in last(finished.folder).items() if key.startswith("model/")}


@pytest.mark.usefixtures("training_only")
@pytest.mark.parametrize("freeze, still, flags", [
    ("backbone", ("stem", "stage1", "stage2"), {"ema": 0.9, "weight_decay": 0.1}),
    ("1", ("stem", "stage1"), {"optimizer": "sgd", "weight_decay": 0.1, "precise_bn": 2, "lr": 1e-2}),
    pytest.param("1", ("stem", "stage1"), {"ema": 0.9, "replicas": 2, "strategy": "mirrored", "sync_bn": True},
                 marks=pytest.mark.slow),
    pytest.param("1", ("stem", "stage1"), {"ema": 0.9, "precision": "mixed_bfloat16", "accumulate_steps": 2},
                 marks=pytest.mark.slow),
    pytest.param("1", ("stem", "stage1"), {"precision": "mixed_float16", "sam": 0.01, "clip_norm": 1.0},
                 marks=pytest.mark.slow),
    pytest.param("1", ("stem", "stage1"), {"progressive": [12], "epochs": 2}, marks=pytest.mark.slow),
])  # fmt: skip
def test_what_is_frozen_stays_to_the_bit(tmp_path, tiny, finished, start, freeze, still, flags):
    """Weights, statistics and averages, whatever the optimizer, decay, devices and precision."""
    flags = tiny | {"epochs": 1, "weights": str(finished.folder), "freeze": freeze} | flags
    result = trainers.fit(TrainConfig(**flags, run_dir=str(tmp_path / "run")))
    found = last(result.folder)
    for key, array in start.items():
        path = key.removeprefix("model/")
        assert (found[key] == array).all() == path.startswith(still), key
        if "ema" in flags and path.startswith(still):
            np.testing.assert_array_equal(found[f"ema/{path}"], array)
    moving = [key for key in start if not key.removeprefix("model/").startswith(still) and "moving" not in key]
    slots = [key for key, array in found.items() if key.startswith("optimizer/") and array.ndim]
    assert len(slots) == len(moving) * (1 if flags.get("optimizer") == "sgd" else 2)  # none for what is frozen


class Crash(keras.callbacks.Callback):
    """At the first step of an epoch, counted from 0."""

    def __init__(self, epoch):
        super().__init__()
        self.at, self.epoch = epoch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == self.at and batch >= 10:
            raise RuntimeError("crash")


@pytest.fixture(scope="module")
def thawed(tmp_path_factory, tiny, finished, training_only_in_this_module):
    """A run that unfreezes in its second epoch, and its flags."""
    flags = tiny | {"epochs": 3, "weights": str(finished.folder), "freeze": "backbone", "unfreeze_epoch": 2}
    flags |= {"ema": 0.9, "checkpoint_every": 8}
    folder = tmp_path_factory.mktemp("thawed") / "run"
    return trainers.fit(TrainConfig(**flags, run_dir=str(folder))), flags


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_run_goes_on_over_the_unfreezing(tmp_path, thawed, same_run, start, epoch):
    """Killed before it, in the epoch that begins with it, and after it."""
    whole, flags = thawed
    assert all((last(whole.folder)[key] != array).any() for key, array in start.items())
    with pytest.raises(RuntimeError):
        trainers.fit(TrainConfig(**flags, run_dir=str(tmp_path / "run")), callbacks=[Crash(epoch)])
    arrays = last(tmp_path / "run")
    still = {key for key, array in start.items() if (arrays[key] == array).all()}
    assert still == ({key for key in start if "logits" not in key} if epoch == 0 else set())
    same_run(trainers.fit(TrainConfig(resume=str(tmp_path / "run"))), whole)


def test_unfreezing_is_a_phase():
    config = frozen("2", unfreeze_epoch=3, epochs=4)
    assert [(start, phase.freeze) for start, phase in phases(config)] == [(0, "2"), (2, "none")]
    assert [(start, phase.freeze) for start, phase in phases(frozen("2"))] == [(0, "2")]


def one_step(config, steps=1):
    """The state after some steps on random images, and the weights before them."""
    keras.utils.set_random_seed(0)
    strategy = make_strategy("one-device")
    with strategy.scope():
        trained, plain = networks(config, 10)
        state = make_state(trained, make_optimizer(config, 1, trained), averaged=False, plain=plain)
        function = train_function(state, config, strategy)
    before = [v.numpy().copy() for v in trained.weights]
    draws = np.random.default_rng(0)
    side = config.resolution
    batch = {"image": draws.integers(0, 255, (4, side, side, 3)).astype("uint8"), "label": np.arange(4, dtype="int32")}
    function(iter(tf.data.Dataset.from_tensors(batch).repeat()), tf.constant(steps))
    return state, before


def test_the_first_step_of_what_was_frozen_is_as_long_as_any_first_step():
    """AdamW's averages begin at 0 when the weight does, and are freed of that bias by the weight's own updates."""
    config = frozen("backbone", batch_size=4, unfreeze_epoch=2, lr=1e-3, weight_decay=0.0, layer_decay=1.0,
                    schedule="constant", warmup_epochs=0.0, clip_norm=0.0)  # fmt: skip
    keras.utils.set_random_seed(0)
    model, _ = networks(config, 10)
    optimizer = make_optimizer(config, 1000, model)
    optimizer.iterations.assign(1000)
    before = [v.numpy().copy() for v in model.trainable_variables]
    optimizer.apply([tf.ones(v.shape) for v in model.trainable_variables], model.trainable_variables)
    for v, old in zip(model.trainable_variables, before, strict=True):
        if "logits" not in v.path:
            np.testing.assert_allclose(old - v.numpy(), 1e-3, rtol=1e-3, err_msg=v.path)


@pytest.mark.parametrize("freeze, convolutions", [("none", 19), ("2", 10), ("backbone", 0)])
def test_nothing_below_is_differentiated(freeze, convolutions):
    """The gradients of kernels that a step of resnet-18 computes; the narrowest shortcut is a product, not counted."""
    config = frozen(freeze, batch_size=4)
    trained, plain = networks(config, 10)
    step = replica_step(make_state(trained, make_optimizer(config, 1, trained), False, plain), config, 1)

    @tf.function
    def traced(images, labels):
        return step({"image": images, "label": labels})

    graph = traced.get_concrete_function(tf.zeros((4, 32, 32, 3)), tf.zeros(4, tf.int32)).graph
    assert sum(op.type == "Conv2DBackpropFilter" for op in graph.get_operations()) == convolutions


@pytest.mark.parametrize("arch", ["googlenet", "resnet-50-v2", "densenet-121", "mobilenet-v3-small", "vgg-11"])
def test_the_parts_make_the_whole(arch):
    config = frozen("none", arch, resolution=64, depth=0.34)
    trained, plain = networks(config, 5)
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    for freeze in ("backbone", "1", str(len(config.arch.stages))):
        parts = cut(plain, dataclasses.replace(config, freeze=freeze))
        np.testing.assert_array_equal(parts(images, training=False), plain(images, training=False))
        still = {v.path for v in parts.still_weights}
        assert not still & {v.path for v in parts.trained.weights}
        assert still | {v.path for v in parts.trained.weights} == {v.path for v in plain.weights}
        if freeze == "backbone":
            assert {v.path for v in parts.trained.weights} == {"logits/kernel", "logits/bias"}
        else:
            assert all(place(layer) > int(freeze) or not layer.weights for layer in parts.trained.layers)
    kept = {f: len(cut(trained, dataclasses.replace(config, freeze=f)).aux) for f in ("none", "1", "2", "backbone")}
    assert list(kept.values()) == ([2, 2, 0, 0] if arch == "googlenet" else [0, 0, 0, 0])


def test_auxiliary_heads_on_frozen_stages_rest():
    state, before = one_step(frozen("2", "googlenet", batch_size=4, resolution=64))
    pairs = zip(state.model.weights, before, strict=True)
    moved = {v.path.split("_")[0] for v, old in pairs if (v.numpy() != old).any()}
    assert moved == {"stage3", "logits/kernel", "logits/bias"}


def test_the_classifier_of_one_s_own_network():
    """The last layer with weights, the dropout before it, and what follows it, wherever that is."""
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, name="first")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.Dense(5, name="last")(x)
    model = keras.Model(inputs, keras.layers.Rescaling(2.0)(x), name="mine")
    config = dataclasses.replace(resolve(TrainConfig(arch="resnet-18")), freeze="backbone")
    parts = cut(model, config)
    assert [layer.name for layer in parts.trained.layers if layer.weights] == ["last"]
    assert any(isinstance(layer, keras.layers.Dropout) for layer in parts.trained.layers)
    with pytest.raises(InputError, match="no layer with weights"):
        cut(keras.Model(inputs, keras.layers.Flatten()(inputs)), config)


def test_a_network_of_one_s_own_has_no_stages(tmp_path):
    model = kcnn.build("anynetx-d1x1-w64x512-g512", 10, width=0.125, resolution=16)
    with pytest.raises(InputError, match="0 stages; none or backbone is needed"):
        trainers.fit(TrainConfig(freeze="1", epochs=1, run_dir=str(tmp_path / "run")), model)


def test_a_stage_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"freeze '8'.* 7"):
        resolve(TrainConfig(arch="efficientnet-b0", weights="some run", freeze="8"))


def test_the_memory_of_a_step_leaves_out_what_is_frozen():
    """No gradient, slot or kept activation of it; but all of them where it is unfrozen on the way."""
    facts = kcnn.facts("resnet-18")
    whole = facts.memory(8)
    weights, copies = 4 * (facts.params + facts.params_nontrainable), 3 * 4 * (512 * 1000 + 1000)

    def taken(freeze, **more):
        return step_memory(facts, frozen(freeze, width=1.0, resolution=224, batch_size=8, **more), 1)

    assert taken("none") == taken("backbone", unfreeze_epoch=2) == whole
    assert weights + copies <= taken("backbone") < 0.4 * whole
    assert taken("backbone") == taken("4") < taken("3") < taken("2") < taken("1") < whole
    flags = {"arch": "resnet-18", "weights": "nowhere", "features_only": True, "batch_size": 8, "resolution": 224}
    assert step_memory(facts, resolve(TrainConfig(**flags)), 1) == facts.memory(8, training=False)
    assert step_memory(facts, frozen("none", batch_size=8), 2) == facts.memory(4)
