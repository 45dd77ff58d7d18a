"""Networks of timm, torchvision and keras.applications with random weights, and how far their logits are from ours."""

import contextlib
import sys
from dataclasses import replace

import numpy as np

import kcnn
from kcnn.weights import Report, find
from kcnn.weights.loading import match, plan

LIBRARIES = []  # what a declared operator lives as long as
# Of the mean variance of a normalization: a channel that the pictures hardly move has a variance of nearly 0,
# and dividing by it makes noise of rounding as large as a picture. PyTorch's float32 is then up to 0.02 from its own
# float64 (EfficientNet-B6), and with this 5e-7.
LEAST = 0.5


def import_torch():
    """Returns torch, timm and torchvision, in a process that TensorFlow may live in, too."""
    sys.modules.setdefault("triton", None)  # its LLVM and TensorFlow's crash in one process; nothing here compiles
    import torch

    torch.set_num_threads(1)
    try:
        import torchvision
    except RuntimeError:
        # torchvision is for another build of PyTorch, and cannot load its operators for detection. It imports without
        # them where somebody else has declared the two that it describes.
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        LIBRARIES.append(torch.library.Library("torchvision", "FRAGMENT"))
        for name in ("nms", "qnms"):
            LIBRARIES[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    import timm

    return torch, timm, torchvision


def torch_model(library, name):
    """A network of a library in PyTorch, with weights and statistics that leave nothing at its usual value."""
    torch, timm, torchvision = import_torch()
    torch.manual_seed(0)
    if library == "timm":
        model = timm.create_model(name)
    else:
        options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        model = torchvision.models.get_model(name, **options)
    with torch.no_grad():
        for module in model.modules():
            for name, value in module.named_parameters(recurse=False):
                if name in ("gamma", "layer_scale"):  # which begin at 1e-6, where a block does nothing
                    value.uniform_(0.1, 0.3)
            if type(module).__name__ in ("LayerNorm", "LayerNorm2d", "GlobalResponseNorm"):
                module.weight.uniform_(0.1, 0.3)
                module.bias.normal_(0, 0.2)
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
                module.weight.uniform_(0.1, 0.3)
                module.bias.normal_(0, 0.2)
            elif isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                # The libraries' own draws let a picture fade out before it comes to the logits of MnasNet.
                module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5)
                if module.bias is not None:
                    module.bias.normal_(0, 0.1)
        # Statistics are those of some pictures, and scales about as small as shifts: with other draws PyTorch's float32
        # is 1e-4 from its own float64 (ResNet-152).
        x = torch.from_numpy(pixels(224 if "vgg" in name else 128, 16).transpose(0, 3, 1, 2).copy()) / 64 - 2
        norms = [module for module in model.eval().modules() if isinstance(module, torch.nn.BatchNorm2d)]
        for module in norms:
            module.train()
        model(x)
        for module in norms:
            module.running_var.clamp_(min=float(module.running_var.mean()) * LEAST)
    if getattr(model, "transform_input", False):
        model.transform_input = False  # torchvision's Inception takes the input of its own weights for another's
    return model.eval()


@contextlib.contextmanager
def saved(model, path):
    """The path of a file with a PyTorch network's tensors, as timm's on the hub; a large one does not stay."""
    from safetensors.numpy import save_file

    save_file({name: value.numpy() for name, value in model.state_dict().items()}, str(path))
    yield str(path)
    path.unlink()


def torch_logits(model, pixels, style):
    """Logits of pixels from 0 to 255, (batch, side, side, 3)."""
    import torch

    x = (pixels - np.array(style.mean, np.float32)) / np.array(style.std, np.float32)
    with torch.no_grad():
        return model(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()


def pixels(side, count=2):
    """Pictures, (count, side, side, 3), of large areas and noise: noise alone looks all the same to a network."""
    draws = np.random.default_rng(0)
    areas = draws.uniform(0, 255, (count, 4, 4, 3)).repeat(-(-side // 4), 1).repeat(-(-side // 4), 2)[:, :side, :side]
    return (0.7 * areas + 0.3 * draws.uniform(0, 255, (count, side, side, 3))).astype(np.float32)


def apart(ours, theirs):
    """The largest difference of logits, as a share of the largest logit."""
    moved = float(np.abs(theirs[0] - theirs[1]).max() / np.abs(theirs).max())
    assert moved > 1e-3, f"pictures move the logits by {moved:.1e} of the largest: logits of biases alone prove nothing"
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def taken(arch, path, model, side, **scaling):
    """(our network with the weights of a file, how far it is from the network of PyTorch that they come from)"""
    style = find(path, kcnn.get(arch)).apply(kcnn.get(arch)).style
    ours, x = kcnn.build(arch, weights=path, resolution=side, **scaling), pixels(side)
    return ours, apart(ours(x, training=False).numpy(), torch_logits(model, x, style))


def given(arch, path, model, ours, side):
    """How far a network of PyTorch is from ours, once it has new weights of ours under its names, all of them."""
    import torch

    draw_anew(ours)
    found, x = find(path, kcnn.get(arch)), pixels(side)
    tensors = {name: torch.from_numpy(array) for name, array in as_theirs(ours, found)}
    state = model.state_dict()
    assert tensors.keys() == {name for name in state if not is_beside_the_network(name)}
    state.update(tensors)
    model.load_state_dict(state, strict=True)
    style = found.apply(kcnn.get(arch)).style
    return apart(ours(x, training=False).numpy(), torch_logits(model, x, style))


def is_beside_the_network(name):
    """Counters, and heads for training alone, which the network is compared without."""
    return name.endswith("num_batches_tracked") or name.startswith(("AuxLogits.", "aux1.", "aux2."))


def draw_anew(model):
    """Other weights, and the statistics that some pictures have with them."""
    draws = np.random.default_rng(2)
    for v in model.weights:
        if v.name in ("gamma", "scale"):
            v.assign(draws.uniform(0.1, 0.3, v.shape))
        elif v.name == "kernel":
            v.assign(draws.standard_normal(v.shape, np.float32) * float(v.numpy().std()))
        elif v.name in ("bias", "beta"):
            v.assign(draws.normal(0, 0.2, v.shape))
    take_statistics(model)


def take_statistics(model):
    """Gives batch normalization the statistics of some pictures, as `torch_model` does."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    side = model.input_shape[1]
    model(pixels(side, 16 if side < 400 else 4), training=True)  # 16 of 600 pixels take 20 GB in EfficientNet-B7
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            variance = layer.moving_variance.numpy()
            layer.moving_variance.assign(np.maximum(variance, variance.mean() * LEAST))


def as_theirs(model, found):
    """Our weights by their names in a library, with its order of axes: the moves of loading, the other way round."""
    layers = [layer.name for layer in model.layers if layer.weights]
    for move in plan(model, match(layers, found.tensors, found.names), found.label, Report()):
        turned = [move.before[axis] for axis in move.axes]
        array = move.weight.numpy().reshape(turned).transpose(np.argsort(move.axes))
        yield move.theirs, np.ascontiguousarray(array.reshape(found.tensors.shapes[move.theirs]))


def spoiled(arch, path, side, wrong):
    """(our network with the weights of a file and some of its conventions wrong, the right style)"""
    arch = kcnn.get(arch)
    found = find(path, arch)
    right = found.apply(arch)
    ours = kcnn.build(replace(right, style=replace(right.style, **wrong)), resolution=side, stem="standard")
    found.fill(ours)
    return ours, right.style


def keras_model(name, side):
    """A network of keras.applications for inputs of this side, with weights that leave nothing at its usual value."""
    import keras

    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None, classifier_activation=None, input_shape=(side, side, 3))
    draw = np.random.default_rng(1)
    for v in model.weights:
        if v.name in ("bias", "beta"):
            v.assign(draw.normal(0, 0.2, v.shape))
        elif v.name in ("gamma", "variable"):  # the latter is ConvNeXt's layer scale
            v.assign(draw.uniform(0.1, 0.3, v.shape))
        elif v.name.endswith("kernel"):  # with Keras's own draws a picture fades out, as in PyTorch's MnasNet
            inputs = v.shape[:2] if v.name == "depthwise_kernel" or v.shape[-1] == 1 else v.shape[:-1]
            v.assign(draw.normal(0, (2 / np.prod(inputs)) ** 0.5, v.shape))
        elif v.name == "mean":
            v.assign([0.485, 0.456, 0.406])
        elif v.name == "variance":
            v.assign([0.052, 0.05, 0.051])
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    take_statistics(model)
    return model


def keras_logits(name, model, x):
    """Logits of pixels from 0 to 255, which the module of a network prepares as its weights expect."""
    import keras

    module = {
        "VGG": "vgg16", "ResNet50V2": "resnet_v2", "ResNet101V2": "resnet_v2", "ResNet152V2": "resnet_v2",
        "ResNet": "resnet", "DenseNet": "densenet", "MobileNetV3": "mobilenet_v3", "MobileNetV2": "mobilenet_v2",
        "MobileNet": "mobilenet", "EfficientNetV2": "efficientnet_v2", "EfficientNet": "efficientnet",
        "Xception": "xception", "InceptionV3": "inception_v3", "InceptionResNetV2": "inception_resnet_v2",
        "ConvNeXt": "convnext", "NASNet": "nasnet",
    }  # fmt: skip
    prepare = getattr(keras.applications, next(m for start, m in module.items() if name.startswith(start)))
    return model(prepare.preprocess_input(x.copy()), training=False).numpy()
