"""Which networks of ours have peers: a row each, (our name, their source, our width)."""

REGNET = {"200mf": "002", "400mf": "004", "600mf": "006", "800mf": "008", "1.6gf": "016", "3.2gf": "032",
          "4.0gf": "040", "6.4gf": "064", "8.0gf": "080", "12gf": "120", "16gf": "160", "32gf": "320"}  # fmt: skip
# torchvision's regnet_x_400mf, regnet_y_800mf and regnet_y_8gf are other networks than the paper's.
TORCHVISION_REGNET = ("x_800mf", "x_1_6gf", "x_3_2gf", "x_8gf", "x_16gf", "x_32gf",
                      "y_400mf", "y_1_6gf", "y_3_2gf", "y_16gf", "y_32gf")  # fmt: skip
BOTH = {
    **{f"vgg-{n}{bn}": f"vgg{n}{bn.replace('-', '_')}" for n in (11, 13, 16, 19) for bn in ("", "-bn")},
    **{f"resnet-{n}": f"resnet{n}" for n in (18, 34, 50, 101, 152)},
    **{f"wide-resnet-{n}-2": f"wide_resnet{n}_2" for n in (50, 101)},
    **{f"resnext-{n}": f"resnext{n.replace('-', '_')}" for n in ("50-32x4d", "101-32x8d", "101-64x4d")},
    **{f"densenet-{n}": f"densenet{n}" for n in (121, 161, 169, 201)},
    **{f"efficientnet-b{n}": f"efficientnet_b{n}" for n in range(8)},
    "inception-v3": "inception_v3",
    **{f"convnext-{size}": f"convnext_{size}" for size in ("tiny", "small", "base", "large")},
}
ALL = [
    *[(ours, f"{library}/{name}", 1.0) for library in ("timm", "torchvision") for ours, name in BOTH.items()],
    *[(f"resnet-{n}-v2", f"timm/resnetv2_{n}", 1.0) for n in (50, 101, 152)],
    *[(f"efficientnet-b{n}", f"timm/tf_efficientnet_b{n}", 1.0) for n in range(8)],
    *[(f"efficientnet-lite{n}", f"timm/{tf}efficientnet_lite{n}", 1.0) for n in range(5) for tf in ("", "tf_")],
    *[(f"regnet{xy}-{size}", f"timm/regnet{xy}_{code}", 1.0) for xy in "xy" for size, code in REGNET.items()],
    *[(f"regnet{name[0]}-{name[2:].replace('_', '.').replace('8gf', '8.0gf')}", f"torchvision/regnet_{name}", 1.0)
      for name in TORCHVISION_REGNET],
    ("inception-v4", "timm/inception_v4", 1.0),
    ("inception-resnet-v2", "timm/inception_resnet_v2", 1.0),
    ("xception", "timm/legacy_xception", 1.0),
    ("googlenet", "torchvision/googlenet", 1.0),
    *[("mobilenet-v1", f"timm/mobilenetv1_{width}", int(width) / 100) for width in ("100", "125")],
    *[("mobilenet-v2", f"timm/mobilenetv2_{width}", int(width) / 100) for width in ("035", "050", "075", "100", "140")],
    *[(f"mobilenet-v2-{name}", f"timm/mobilenetv2_{name}", 1.0) for name in ("110d", "120d")],
    ("mobilenet-v2", "torchvision/mobilenet_v2", 1.0),
    *[(f"mobilenet-v3-{size}", f"timm/{tf}mobilenetv3_{size}_{width}", int(width) / 100)
      for size in ("small", "large") for tf in ("", "tf_") for width in ("075", "100")],
    ("mobilenet-v3-small", "timm/mobilenetv3_small_050", 0.5),
    *[(f"mobilenet-v3-{size}", f"torchvision/mobilenet_v3_{size}", 1.0) for size in ("small", "large")],
    *[("mnasnet-1.0", f"timm/mnasnet_{width}", int(width) / 100) for width in ("050", "075", "100", "140")],
    *[("mnasnet-1.0", f"torchvision/mnasnet{width.replace('.', '_')}", float(width))
      for width in ("0.5", "0.75", "1.0", "1.3")],
    ("alexnet", "torchvision/alexnet", 1.0),
    *[(f"squeezenet-1.{n}", f"torchvision/squeezenet1_{n}", 1.0) for n in (0, 1)],
    *[(f"shufflenet-v2-{n}", f"torchvision/shufflenet_v2_x{n.replace('.', '_')}", 1.0)
      for n in ("0.5", "1.0", "1.5", "2.0")],
    *[(f"se-resnet-{n}", f"timm/seresnet{n}", 1.0) for n in (50, 101, 152)],
    *[(f"resnet-{n}-d", f"timm/resnet{n}d", 1.0) for n in (50, 101, 152)],
    *[(f"ghostnet-{int(n) / 100:.1f}", f"timm/ghostnet_{n}", 1.0) for n in ("050", "100", "130")],
    *[(f"repvgg-{n}", f"timm/repvgg_{n}", 1.0) for n in ("a0", "a1", "a2", "b0", "b1", "b2", "b3")],
    *[(f"efficientnet-v2-{n}", f"timm/tf_efficientnetv2_{n}", 1.0)
      for n in ("b0", "b1", "b2", "b3", "s", "m", "l", "xl")],
    *[(f"efficientnet-v2-{n}", f"torchvision/efficientnet_v2_{n}", 1.0) for n in ("s", "m", "l")],
    *[(f"mobilenet-v4-conv-{n}", f"timm/mobilenetv4_conv_{n}", 1.0) for n in ("small", "medium", "large")],
    ("convnext-xlarge", "timm/convnext_xlarge", 1.0),
    *[(f"convnext-v2-{n}", f"timm/convnextv2_{n}", 1.0)
      for n in ("atto", "femto", "pico", "nano", "tiny", "base", "large", "huge")],
    ("nasnet-large", "timm/nasnetalarge", 1.0),
]  # fmt: skip
QUICK = ("timm/resnet18", "timm/tf_mobilenetv3_small_100", "timm/regnety_002")
# The smallest network of each family in each library, and of each set of conventions: one a table of names.
SLOW = (
    "timm/vgg11", "timm/vgg11_bn", "timm/resnetv2_50", "timm/densenet121", "timm/inception_v3", "timm/inception_v4",
    "timm/inception_resnet_v2", "timm/legacy_xception", "timm/mobilenetv1_100", "timm/mobilenetv2_035",
    "timm/mobilenetv2_110d", "timm/mobilenetv3_small_100", "timm/mnasnet_100", "timm/efficientnet_b0",
    "timm/tf_efficientnet_b0", "timm/tf_efficientnet_lite0", "timm/regnetx_002", "torchvision/vgg11",
    "torchvision/resnet18", "torchvision/resnext50_32x4d", "torchvision/wide_resnet50_2", "torchvision/inception_v3",
    "torchvision/googlenet", "torchvision/mobilenet_v2", "torchvision/mobilenet_v3_small", "torchvision/mnasnet1_0",
    "torchvision/efficientnet_b0", "torchvision/regnet_y_400mf", "torchvision/alexnet", "torchvision/squeezenet1_1",
    "torchvision/shufflenet_v2_x0_5", "timm/seresnet50", "timm/resnet50d", "timm/ghostnet_050", "timm/repvgg_a0",
    "timm/tf_efficientnetv2_b0", "torchvision/efficientnet_v2_s", "timm/mobilenetv4_conv_small",
    "timm/mobilenetv4_conv_medium", "timm/convnext_tiny", "torchvision/convnext_tiny", "timm/convnextv2_atto",
    "timm/nasnetalarge",
)  # fmt: skip
# keras.applications: the smallest of each family first.
KERAS = [
    ("mobilenet-v1", "MobileNet"), ("mobilenet-v2", "MobileNetV2"), ("mobilenet-v3-small", "MobileNetV3Small"),
    ("vgg-16", "VGG16"), ("resnet-50-v1", "ResNet50"), ("resnet-50-v2", "ResNet50V2"),
    ("densenet-121", "DenseNet121"), ("efficientnet-b0", "EfficientNetB0"), ("xception", "Xception"),
    ("inception-v3", "InceptionV3"), ("inception-resnet-v2", "InceptionResNetV2"),
    ("mobilenet-v3-large", "MobileNetV3Large"), ("vgg-19", "VGG19"),
    *[(f"resnet-{n}-v{v}", f"ResNet{n}{'' if v == 1 else 'V2'}") for n in (101, 152) for v in (1, 2)],
    *[(f"densenet-{n}", f"DenseNet{n}") for n in (169, 201)],
    *[(f"efficientnet-b{n}", f"EfficientNetB{n}") for n in range(1, 8)],
    *[(f"efficientnet-v2-{n}", f"EfficientNetV2{n.upper()}") for n in ("b0", "b1", "b2", "b3", "s", "m", "l")],
    *[(f"convnext-{n.lower()}", f"ConvNeXt{n}") for n in ("Tiny", "Small", "Base", "Large", "XLarge")],
    *[(f"nasnet-{n.lower()}", f"NASNet{n}") for n in ("Mobile", "Large")],
]  # fmt: skip
KERAS_QUICK = ("MobileNet", "MobileNetV2")
KERAS_SLOW = ("MobileNetV3Small", "MobileNetV3Large", "ResNet50", "ResNet50V2", "DenseNet121", "EfficientNetB0",
              "Xception", "InceptionV3", "InceptionResNetV2", "EfficientNetV2B0", "EfficientNetV2S", "ConvNeXtTiny",
              "NASNetMobile")  # fmt: skip
