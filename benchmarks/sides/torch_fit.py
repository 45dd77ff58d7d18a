"""A side that trains a ResNet on a folder with PyTorch, by the defaults of a well-known script:
`python benchmarks/sides/torch_fit.py timm|torchvision DATA EPOCHS SEED PIXELS CHANNELS...`.

timm: train.py's defaults, made of timm's own transforms, optimizer, schedule and loss. torchvision: the defaults of
references/classification/train.py, made of torchvision's transforms and PyTorch's SGD. The resolution is as given;
images of evaluation are resized in the proportion that each has (1 / 0.875, 256 / 224). CHANNELS are those of the four
stages of two blocks each; the stem has no strides. A script's length stands for the given number of epochs: timm's
schedule ends with them, and torchvision's rate falls after 30 of its 90.
"""

import json
import sys

import timm.loss
import timm.optim
import timm.scheduler
import torch
import torchvision
from timm.data import create_transform
from timm.models.resnet import BasicBlock, ResNet
from torch.utils.data import DataLoader
from torchvision import transforms

NORMALIZE = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def main() -> None:
    side, data = sys.argv[1:3]
    epochs, seed, pixels, *channels = map(int, sys.argv[3:])
    torch.manual_seed(seed)
    train, val, batch = {"timm": timm_data, "torchvision": torchvision_data}[side](pixels)
    sets = [torchvision.datasets.ImageFolder(f"{data}/{p}", t) for p, t in (("train", train), ("val", val))]
    loader = DataLoader(sets[0], min(batch, len(sets[0])), shuffle=True, drop_last=side == "timm")
    model = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=len(sets[0].classes), channels=channels)
    model.conv1 = torch.nn.Conv2d(3, channels[0], 3, 1, 1, bias=False)
    model.bn1, model.maxpool = torch.nn.BatchNorm2d(channels[0]), torch.nn.Identity()
    model.layer1[0].conv1 = torch.nn.Conv2d(channels[0], channels[0], 3, 1, 1, bias=False)  # made for a stem of 64
    model.layer1[0].downsample = None
    update, loss = {"timm": timm_training, "torchvision": torchvision_training}[side](model, epochs, batch)
    for epoch in range(epochs):
        model.train()
        optimizer = update(epoch)
        for images, labels in loader:
            optimizer.zero_grad()
            loss(model(images), labels).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        right = sum(int((model(x).argmax(1) == y).sum()) for x, y in DataLoader(sets[1], 256))
    print(json.dumps({"val_accuracy": right / len(sets[1])}))


def timm_data(pixels):
    train = create_transform(pixels, is_training=True, color_jitter=0.4, **NORMALIZE)
    return train, create_transform(pixels, crop_pct=0.875, **NORMALIZE), 128


def torchvision_data(pixels):
    end = [transforms.ToTensor(), transforms.Normalize(**NORMALIZE)]
    train = [transforms.RandomResizedCrop(pixels), transforms.RandomHorizontalFlip(), *end]
    val = [transforms.Resize(round(pixels * 256 / 224)), transforms.CenterCrop(pixels), *end]
    return transforms.Compose(train), transforms.Compose(val), 32


def timm_training(model, epochs, batch):
    """SGD at 0.1 for a batch of 256, cosine with a warmup of 5 epochs, smoothed labels."""
    optimizer = timm.optim.create_optimizer_v2(model, "sgd", lr=0.1 * batch / 256, weight_decay=2e-5, momentum=0.9)
    schedule = timm.scheduler.CosineLRScheduler(
        optimizer, epochs, warmup_t=min(5, epochs // 2), warmup_lr_init=1e-5, lr_min=0.0, warmup_prefix=False
    )

    def update(epoch):
        schedule.step(epoch)
        return optimizer

    return update, timm.loss.LabelSmoothingCrossEntropy(0.1)


def torchvision_training(model, epochs, batch):
    """SGD at 0.1, a tenth after each third of the run."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    at = [round(epochs * share) for share in (1 / 3, 2 / 3)]

    def update(epoch):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * 0.1 ** sum(epoch >= a for a in at)
        return optimizer

    return update, torch.nn.CrossEntropyLoss()


if __name__ == "__main__":
    main()
