"""A side that asks timm's network by PyTorch: `python -m benchmarks.sides.timm_infer NETWORK BATCH PIXELS WAY`.

WAY is eager, or script: TorchScript that is traced, frozen and optimized for inference. Images lie channels last.
"""

import sys

import timm
import torch

from benchmarks.turns import requests


def main() -> None:
    name, batch, side, way = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    model = timm.create_model(name, pretrained=False).eval().to(memory_format=torch.channels_last)
    images = torch.rand(batch, 3, side, side).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        if way == "script":
            model = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model, images)))
        for steps in requests():
            for _ in range(steps):
                torch.softmax(model(images), -1).numpy()


if __name__ == "__main__":
    main()
