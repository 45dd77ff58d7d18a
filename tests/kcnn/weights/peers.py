"""Networks of timm, torchvision and keras.applications with random weights, and how far their logits are from ours."""

import numpy as np

import kcnn


def torch_model(library, name):
    """A network of a library in PyTorch, with weights and statistics that leave nothing at its usual value."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    if library == "timm":
        import timm

        model = timm.create_model(name)
    else:
        import torchvision

        options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        model = torchvision.models.get_model(name, **options)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.7, 1.4)
                module.weight.uniform_(0.7, 1.3)
                module.bias.normal_(0, 0.1)
            elif isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and module.bias is not None:
                module.bias.normal_(0, 0.1)
    return model.eval()


def save_torch(model, path):
    """Writes a PyTorch network's tensors, as timm's files on the hub hold them."""
    from safetensors.numpy import save_file

    save_file({name: value.numpy() for name, value in model.state_dict().items()}, str(path))
    return str(path)


def torch_logits(model, pixels, style):
    """Logits of pixels from 0 to 255, (batch, side, side, 3)."""
    import torch

    x = (pixels - np.array(style.mean, np.float32)) / np.array(style.std, np.float32)
    if getattr(model, "transform_input", False):
        model.transform_input = False
    with torch.no_grad():
        return model(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()


def pixels(side, channels=3):
    draws = np.random.default_rng(0).uniform(0, 255, (2, side, side, channels))
    return draws.astype(np.float32)


def apart(ours, theirs):
    """The largest difference of logits, as a share of the largest logit."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def difference(arch, path, model, side):
    """How far our network with the weights of a file is from the network of PyTorch that they come from."""
    from kcnn.weights import find

    style = find(path, kcnn.get(arch)).apply(kcnn.get(arch)).style
    ours = kcnn.build(arch, weights=path, resolution=side)
    x = pixels(side)
    return apart(ours(x, training=False).numpy(), torch_logits(model, x, style))


def keras_model(name, side):
    """A network of keras.applications for inputs of this side, with weights that leave nothing at its usual value."""
    import keras

    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(
        weights=None, classifier_activation=None, **({} if "VGG" in name else {"input_shape": (side, side, 3)})
    )
    draw = np.random.default_rng(1)
    for v in model.weights:
        if v.name in ("bias", "beta", "moving_mean"):
            v.assign(draw.normal(0, 0.1, v.shape))
        elif v.name in ("gamma", "moving_variance"):
            v.assign(draw.uniform(0.7, 1.4, v.shape))
        elif v.name == "mean":
            v.assign([0.485, 0.456, 0.406])
        elif v.name == "variance":
            v.assign([0.052, 0.05, 0.051])
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    return model


def keras_logits(name, model, x):
    """Logits of pixels from 0 to 255, which the module of a network prepares as its weights expect."""
    import keras

    module = {
        "VGG": "vgg16", "ResNet50V2": "resnet_v2", "ResNet101V2": "resnet_v2", "ResNet152V2": "resnet_v2",
        "ResNet": "resnet", "DenseNet": "densenet", "MobileNetV3": "mobilenet_v3", "MobileNetV2": "mobilenet_v2",
        "MobileNet": "mobilenet", "EfficientNet": "efficientnet", "Xception": "xception",
        "InceptionV3": "inception_v3", "InceptionResNetV2": "inception_resnet_v2",
    }  # fmt: skip
    prepare = getattr(keras.applications, next(m for start, m in module.items() if name.startswith(start)))
    return model(prepare.preprocess_input(x.copy()), training=False).numpy()
