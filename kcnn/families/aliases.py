"""What timm, torchvision and keras.applications call our networks, where that is more than another spelling."""

import re

from kcnn.errors import InputError, shown

# Of these, torchvision's networks have other rows than the paper's table.
OTHERS = {"regnet_x_400mf": "regnetx-400mf", "regnet_y_800mf": "regnety-800mf", "regnet_y_8gf": "regnety-8.0gf"}
OTHERS |= {"regnetx_004_tv": "regnetx-400mf", "regnety_008_tv": "regnety-800mf", "regnety_080_tv": "regnety-8.0gf"}
SPELLINGS = (
    (r"(?:tf|legacy)_(.+)", r"\1"),  # timm: weights from TensorFlow, of an older form
    (r"(mobilenetv\d(?:_small|_large)?|mnasnet)_100", r"\1"),  # timm: the width in percent
    (r"ghostnet_(\d)(\d)0", r"ghostnet-\1.\2"),
    (r"squeezenet(\d)_(\d)", r"squeezenet-\1.\2"),  # torchvision
    (r"nasnetalarge", "nasnet-large"),
    (r"shufflenet_v2_x(\d)_(\d)", r"shufflenet-v2-\1.\2"),
    (r"mnasnet|mnasnet1_0", "mnasnet-1.0"),
    (r"mobilenetv1|mobilenet", "mobilenet-v1"),
    (r"resnetv2_(\d+)", r"resnet-\1-v2"),
)


def ours(name: str) -> str:
    """Returns our name of a network of another library, and any other name as it is.

    Raises InputError for a name that means another network there than here.
    """
    name = name.strip().lower()
    if name in OTHERS:
        raise InputError(
            f"architecture {shown(name)}: torchvision's is another network than the paper's, which is {OTHERS[name]} "
            "here; its weights fit none of ours"
        )
    for pattern, spelling in SPELLINGS:
        if match := re.fullmatch(pattern, name):
            name = match.expand(spelling)
    if match := re.fullmatch(r"regnet([xy])_(\d{3})", name):  # timm: hundreds of millions of multiply-adds
        return f"regnet{match[1]}-{flops(int(match[2]) / 10)}"
    if match := re.fullmatch(r"regnet_([xy])_(\d+)(?:_(\d))?gf", name):  # torchvision: regnet_y_1_6gf
        return f"regnet{match[1]}-{flops(float(f'{match[2]}.{match[3] or 0}'))}"
    return name


def flops(giga: float) -> str:
    """Returns how a RegNet's multiply-adds stand in its name: 200mf, 1.6gf, 8.0gf, 16gf."""
    return f"{round(giga * 1000)}mf" if giga < 1 else f"{giga:.1f}gf" if giga < 10 else f"{giga:.0f}gf"
