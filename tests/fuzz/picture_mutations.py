"""Pictures of every format, changed at random: what the fuzzer of pictures works with."""

import io
import itertools
import struct
import zlib

import numpy as np
from PIL import Image, ImageDraw


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def sources():
    """Pictures of every format, by name."""
    draws = np.random.default_rng(0)
    noise = Image.fromarray(draws.integers(0, 256, (30, 40, 3), np.uint8))
    drawn = Image.new("RGB", (61, 37), (200, 180, 20))
    ImageDraw.Draw(drawn).ellipse((5, 5, 50, 30), fill=(10, 20, 250))
    alpha = drawn.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(drawn.size))
    grey16 = Image.fromarray(draws.integers(0, 2**16, (20, 24), np.uint16))
    frames = {"save_all": True, "append_images": [drawn.rotate(90 * i) for i in (1, 2)], "duration": 40}
    palette = drawn.convert("P", palette=Image.Palette.ADAPTIVE)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    pictures = {
        "jpeg": encoded(noise, "JPEG", quality=80),
        "jpeg exif": encoded(drawn, "JPEG", quality=90, exif=exif, dpi=(300, 300), comment="a comment"),
        "jpeg progressive": encoded(drawn, "JPEG", progressive=True, subsampling=0),
        "jpeg progressive noise": encoded(noise, "JPEG", progressive=True),
        "jpeg grey": encoded(drawn.convert("L"), "JPEG"),
        "jpeg cmyk": encoded(noise.convert("CMYK"), "JPEG"),
        "jpeg restarts": encoded(drawn, "JPEG", restart_marker_blocks=2),
        "png": encoded(noise, "PNG"),
        "png grey": encoded(drawn.convert("L"), "PNG"),
        "png rgba": encoded(alpha, "PNG", dpi=(300, 300)),
        "png palette": encoded(palette, "PNG", transparency=1),
        "png 1 bit": encoded(drawn.convert("1"), "PNG"),
        "png 16 bit": encoded(grey16, "PNG"),
        "png interlaced": interlaced(np.asarray(drawn)),
        "gif": encoded(palette, "GIF"),
        "gif noise": encoded(noise, "GIF"),
        "gif interlaced": encoded(palette, "GIF", interlace=1, comment=b"a comment"),
        "gif animated": encoded(drawn, "GIF", **frames, transparency=0, disposal=2),
        "bmp 1 bit": encoded(drawn.convert("1"), "BMP"),
        "bmp 8 bit": encoded(palette, "BMP"),
        "bmp grey": encoded(drawn.convert("L"), "BMP"),
        "bmp": encoded(drawn, "BMP"),
        "bmp rgba": encoded(alpha, "BMP"),
        "bmp run length": run_length(np.asarray(palette)),
        "webp": encoded(drawn, "WEBP", quality=80),
        "webp alpha": encoded(alpha, "WEBP", quality=80, exif=exif),
        "webp lossless": encoded(drawn, "WEBP", lossless=True),
        "webp lossless alpha": encoded(alpha, "WEBP", lossless=True),
        "webp animated": encoded(drawn, "WEBP", **frames),
        "webp animated lossless": encoded(alpha, "WEBP", **frames, lossless=True),
    }
    assert all(pictures.values())
    return pictures


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def interlaced(pixels):
    """An Adam7 PNG, which Pillow does not write."""
    height, width, _ = pixels.shape
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [pixels[top::down, left::right] for top, left, down, right in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in parts for row in part)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def run_length(indices):
    """A BMP of 8 bits, each row in runs of at most 255 pixels."""
    height, width = indices.shape
    rows = b"".join(b"".join(bytes([1, index]) for index in row) + b"\0\0" for row in indices[::-1]) + b"\0\1"
    palette = bytes(range(256)) * 4
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(rows), 0, 0, 256, 0)
    first = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", first + len(rows), 0, 0, first) + header + palette + rows


EXTREMES = (0, 1, 2, 127, 128, 255, 256, 2**14 - 1, 2**15 - 1, 2**15, 2**16 - 1, 2**24 - 1, 2**31 - 1, 2**31, 2**32 - 1)


def mutated(pictures, draws):
    """The name of a mutation, and a picture that was changed by it once or some times."""
    names = list(pictures)
    data, words = bytearray(pictures[names[draws.integers(len(names))]]), []
    for _ in range(draws.choice((1, 1, 1, 2, 4))):
        change = CHANGES[draws.integers(len(CHANGES))]
        data = bytearray(change(data, draws, pictures)) or bytearray(b"\0")
        words.append(change.__name__)
    if data[:4] == b"\x89PNG" and draws.random() < 0.7:
        data = with_checksums(bytes(data))
    return " ".join(words), bytes(data)


def flipped_bits(data, draws, _):
    for at in draws.integers(0, 8 * len(data), draws.integers(1, 9)):
        data[at // 8] ^= 1 << at % 8
    return data


def cut_off(data, draws, _):
    return data[: draws.integers(0, len(data))]


def without_a_span(data, draws, _):
    begin, end = sorted(draws.integers(0, len(data) + 1, 2))
    return data[:begin] + data[min(end, begin + 64) :]


def swapped_spans(data, draws, _):
    a, b, c = sorted(draws.integers(0, len(data) + 1, 3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def swapped_chunks(data, draws, _):
    """Two of the parts that a format is made of change places, or one is there twice."""
    places = [0, *boundaries(data), len(data)]
    parts = [data[a:b] for a, b in itertools.pairwise(places)]
    i, j = draws.integers(0, len(parts), 2)
    if draws.random() < 0.5:
        parts[i], parts[j] = parts[j], parts[i]
    else:
        parts.insert(j, parts[i] * draws.choice((1, 2, 30)))
    return b"".join(parts)


def extreme_number(data, draws, _):
    """A number in the header, or in that of a part."""
    places = boundaries(data) or [0]
    start = 0 if draws.random() < 0.5 else places[draws.integers(len(places))]
    at, size = start + draws.integers(0, 40), draws.choice((1, 2, 4))
    value = EXTREMES[draws.integers(len(EXTREMES))] % 256**size
    data[at : at + size] = int(value).to_bytes(size, ("little", "big")[draws.integers(2)])
    return data


def extreme_sides(data, draws, _):
    """Height and width at once, where the format has them."""
    offsets = {b"\x89P": (16, 20, 4, "big"), b"GI": (6, 8, 2, "little"), b"BM": (18, 22, 4, "little"),
               b"RI": (24, 27, 3, "little"), b"\xff\xd8": (0, 2, 2, "big")}  # fmt: skip
    width, height, size, order = offsets.get(bytes(data[:2]), (6, 8, 2, "little"))
    start = 0
    if data[:2] == b"\xff\xd8":
        start = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"), 0) + 5
    elif data[:2] == b"GI" and draws.random() < 0.7:
        frames = [at for at in boundaries(data) if data[at] == 0x2C] or [0]
        start = frames[draws.integers(len(frames))] - 1
    for at in (width, height):
        value = draws.choice((1, 2, 100, 8000, 11585, 30000, 65500, 2**16 - 1, 2**20)) % 256**size
        data[start + at : start + at + size] = int(value).to_bytes(size, order)
    return data


def spliced(data, draws, pictures):
    """The beginning of one picture and the end of another."""
    names = list(pictures)
    other = pictures[names[draws.integers(len(names))]]
    return data[: draws.integers(0, len(data))] + other[draws.integers(0, len(other)) :]


def noisy_span(data, draws, _):
    at = draws.integers(0, len(data))
    data[at : at + draws.integers(1, 33)] = draws.bytes(draws.integers(1, 33))
    return data


def more_scans(data, draws, _):
    """The last scan of a JPEG many times over, or compressed texts in a PNG, or frames of a GIF."""
    if data[:4] == b"\x89PNG":
        bomb = chunk((b"zTXt", b"iTXt")[draws.integers(2)], b"k\0\0" + zlib.compress(bytes(2**20)))
        return data[:33] + bomb * draws.choice((1, 20, 200)) + data[33:]
    mark = {b"\xff\xd8": b"\xff\xda", b"GI": b"\x2c\0\0\0\0"}.get(bytes(data[:2]), b"\0\0")
    at = data.rfind(mark)
    return data[:at] + data[at:-1] * draws.choice((2, 30, 1000)) + data[at:] if at > 0 else data


CHANGES = (flipped_bits, flipped_bits, cut_off, without_a_span, swapped_spans, swapped_chunks, extreme_number,
           extreme_number, extreme_sides, spliced, noisy_span, more_scans)  # fmt: skip


def boundaries(data):
    """Where the parts of a picture begin: segments of a JPEG, chunks of a PNG or a WebP, blocks of a GIF."""
    if data[:2] == b"\xff\xd8":
        return [i for i in range(2, len(data) - 1) if data[i] == 255 and 0xC0 <= data[i + 1] < 255]
    if data[:4] == b"\x89PNG":
        names = (b"IHDR", b"PLTE", b"tRNS", b"pHYs", b"IDAT", b"IEND")
        return [i - 4 for i in range(12, len(data) - 4) if data[i : i + 4] in names]
    if data[:4] == b"RIFF":
        names = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"EXIF")
        return [i for i in range(8, len(data) - 4) if data[i : i + 4] in names]
    if data[:3] == b"GIF":
        return [i for i in range(13, len(data) - 9) if data[i] in (0x2C, 0x21) and data[i - 1] == 0]
    return [14, 54]


def with_checksums(data):
    """A PNG whose chunks have the checksums of what is in them now, as far as there are chunks."""
    out, at = data[:8], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + size > len(data):
            break
        out, at = out + chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + size]), at + 12 + size
    return out + data[at:]


def large(side):
    return Image.new("RGB", (side, side), (3, 200, 90))


# Sound pictures in few bytes, of as many pixels as are allowed, that take as much memory and time as can be.
BOMBS = {
    "jpeg progressive": lambda: encoded(large(8192), "JPEG", progressive=True, subsampling=0),
    "jpeg cmyk progressive": lambda: encoded(large(8192).convert("CMYK"), "JPEG", progressive=True),
    "png rgba": lambda: encoded(large(8192).convert("RGBA"), "PNG", compress_level=1),
    "png interlaced": lambda: interlaced(np.zeros((8192, 8192, 3), np.uint8)),
    "gif": lambda: encoded(large(8192).convert("P"), "GIF"),
    "webp": lambda: encoded(large(8192).convert("RGBA"), "WEBP", lossless=True, method=0),
    "webp animated": lambda: encoded(large(5792), "WEBP", save_all=True, append_images=[large(5792)], lossless=True),
}
