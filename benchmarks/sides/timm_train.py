"""A side that trains timm's network with PyTorch: `python -m benchmarks.sides.timm_train NETWORK BATCH PIXELS COMPILE
[DEVICE]`.

COMPILE is 1 for `torch.compile`. Images lie channels last, pixels are normalized in the step, threads are OpenMP's.
With the device cuda it trains in bfloat16 by `torch.autocast`.
"""

import sys

import timm
import torch

from benchmarks.turns import requests

CLASSES = 1000


def main() -> None:
    network, batch, side, compiled = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1"
    device = torch.device(sys.argv[5] if len(sys.argv) > 5 else "cpu")
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    model = timm.create_model(network, pretrained=False, num_classes=CLASSES)
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True)
    forward = torch.compile(model) if compiled else model
    images = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8)
    images = images.to(device, memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (batch,), device=device)
    scale = (123.675, 116.28, 103.53), (58.4, 57.12, 57.38)
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in scale)

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu"):
            loss = torch.nn.functional.cross_entropy(forward((images.float() - mean) / std), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    for steps in requests():
        for _ in range(steps):
            loss = step()
        loss.item()  # a GPU has not done the steps before


if __name__ == "__main__":
    main()
