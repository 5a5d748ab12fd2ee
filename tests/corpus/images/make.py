#!/usr/bin/env python3
"""Makes the images beside it, and what Pillow makes of them: `expected.raw`, in the order of `index.txt`.

Run in a folder that has `cjpeg` and `jpegtran` (Debian libjpeg-turbo-progs) on its PATH, with Pillow and numpy; all are deterministic.
`index.txt` opens with the versions that wrote it. A line of it is a file, and the sides of the image upright. For each, `expected.raw`
holds four RGB images of 8 bits: whole, stretched, padded with 114 (`ImageOps.pad`), and cut (torchvision's `Resize` and `CenterCrop`),
the last three of 12x9. See tests/images_are_as_pillow_has_them.rs.
"""
import io
import struct
import subprocess
import zlib
from pathlib import Path

import numpy
import PIL
from PIL import Image, ImageOps, features

HERE = Path(__file__).parent
SIDES = (25, 19)
TARGET = (12, 9)
PAD = 114


def picture(width, height, channels=3, noise=10):
    """Something like a photograph: slopes, edges, texture, and noise from a fixed seed. The same at any size."""
    random = numpy.random.Generator(numpy.random.PCG64(7))
    y, x = numpy.mgrid[0:height, 0:width].astype(float)
    x, y = x / width, y / height
    planes = []
    for channel in range(channels):
        plane = 120 + 70 * numpy.sin(5 * x + 2 * channel) + 40 * numpy.cos(7 * y * (channel + 1) - x)
        plane += 35 * (((x - 0.6) ** 2 + (y - 0.4) ** 2) < 0.06) - 50 * (abs(x + y - 0.7) < 0.04)
        plane += 25 * numpy.sin(60 * x * y) * (y > 0.5)
        planes.append(plane + random.normal(0, noise, plane.shape))
    return numpy.clip(numpy.stack(planes, -1), 0, 255).round().astype(numpy.uint8)


def rgb(width=SIDES[0], height=SIDES[1]):
    return Image.fromarray(picture(width, height))


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def tool(*command, stdin):
    return subprocess.run(command, input=stdin, stdout=subprocess.PIPE, check=True).stdout


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data.tobytes()


def segments(jpeg):
    """The segments before the scan as (marker, bytes), and the rest."""
    at, found = 2, []
    while jpeg[at + 1] != 0xDA:
        length = 2 + struct.unpack(">H", jpeg[at + 2 : at + 4])[0]
        found.append((jpeg[at + 1], jpeg[at : at + length]))
        at += length
    return found, jpeg[at:]


def without(jpeg, marker):
    kept, rest = segments(jpeg)
    return jpeg[:2] + b"".join(body for kind, body in kept if kind != marker) + rest


def adobe(jpeg, transform):
    """With the color transform of its Adobe segment replaced."""
    at = jpeg.index(b"Adobe") + 11
    return jpeg[:at] + bytes([transform]) + jpeg[at + 1 :]


def plain_ids(jpeg):
    """With the components named 1, 2, 3, not R, G, B, which says too much."""
    for name, number in zip(b"RGB", (1, 2, 3)):
        frame, scan = jpeg.index(b"\xff\xc0"), jpeg.index(b"\xff\xda")
        at = frame + 10 + 3 * (number - 1)
        assert jpeg[at] == name
        jpeg = jpeg[:at] + bytes([number]) + jpeg[at + 1 :]
        at = scan + 5 + 2 * (number - 1)
        assert jpeg[at] == name
        jpeg = jpeg[:at] + bytes([number]) + jpeg[at + 1 :]
    return jpeg


def jpegs():
    base, ppm = rgb(), saved(rgb(), "PPM")
    sample = lambda factors, *more: tool("cjpeg", "-quality", "90", "-sample", factors, *more, stdin=ppm)
    yield "444.jpg", saved(base, "JPEG", quality=90, subsampling=0)
    yield "422.jpg", saved(base, "JPEG", quality=90, subsampling=1)
    yield "420.jpg", saved(base, "JPEG", quality=90, subsampling=2)
    yield "440.jpg", sample("1x2,1x1,1x1")
    yield "411.jpg", sample("4x1,1x1,1x1")
    yield "410.jpg", sample("4x2,1x1,1x1")
    yield "420-poor.jpg", saved(base, "JPEG", quality=15, subsampling=2)
    yield "gray.jpg", saved(base.convert("L"), "JPEG", quality=90)
    yield "gray-2x2.jpg", tool("cjpeg", "-grayscale", "-sample", "2x2", stdin=ppm)
    yield "progressive-420.jpg", saved(base, "JPEG", quality=90, subsampling=2, progressive=True)
    yield "progressive-444.jpg", saved(base, "JPEG", quality=90, subsampling=0, progressive=True)
    yield "progressive-gray.jpg", saved(base.convert("L"), "JPEG", quality=90, progressive=True)
    yield "restarts.jpg", saved(base, "JPEG", quality=90, subsampling=2, restart_marker_blocks=2)
    yield "restarts-progressive.jpg", saved(base, "JPEG", subsampling=2, restart_marker_rows=1, progressive=True)
    # One scan for each component, and all the same baseline.
    scans = HERE / "scans.tmp"
    scans.write_text("0;\n1;\n2;\n")
    yield "scans-444.jpg", sample("1x1,1x1,1x1", "-scans", str(scans))
    yield "scans-422.jpg", sample("2x1,1x1,1x1", "-scans", str(scans))
    yield "scans-420.jpg", sample("2x2,1x1,1x1", "-scans", str(scans))
    scans.write_text("0;\n1 2;\n")
    yield "pairs-444.jpg", sample("1x1,1x1,1x1", "-scans", str(scans))
    yield "pairs-422.jpg", sample("2x1,1x1,1x1", "-scans", str(scans))
    scans.unlink()
    camera = saved(base, "JPEG", quality=90, subsampling=1)
    yield "no-tables.jpg", without(camera, 0xC4)
    cmyk = saved(Image.fromarray(picture(*SIDES, 4), "CMYK"), "JPEG", quality=90)
    yield "cmyk.jpg", cmyk
    yield "ycck.jpg", adobe(cmyk, 2)
    yield "cmyk-upright.jpg", without(cmyk, 0xEE)
    keep = saved(base, "JPEG", quality=90, keep_rgb=True)
    yield "rgb.jpg", keep
    yield "rgb-by-adobe.jpg", plain_ids(keep)
    yield "one.jpg", saved(rgb(1, 1), "JPEG")
    yield "wide.jpg", saved(rgb(90, 6), "JPEG", quality=90, subsampling=0)
    yield "tall.jpg", saved(rgb(6, 90), "JPEG", quality=90, subsampling=0)
    for orientation in range(1, 9):
        yield f"orientation-{orientation}.jpg", saved(base, "JPEG", quality=95, subsampling=0, exif=exif(orientation))


def png(array, color, depth, interlaced=False, chunks=()):
    """Of samples as they are stored; rows and passes unfiltered."""
    height, width = array.shape[:2]

    def rows(part):
        for row in part:
            samples = row.reshape(-1)
            if depth == 16:
                raw = samples.astype(">u2").tobytes()
            elif depth == 8:
                raw = samples.astype(numpy.uint8).tobytes()
            else:
                bits = numpy.unpackbits(samples.astype(numpy.uint8).reshape(-1, 1), axis=1)[:, 8 - depth :]
                raw = numpy.packbits(bits.reshape(-1)).tobytes()
            yield b"\0" + raw

    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    parts = [array[y::dy, x::dx] for x, y, dx, dy in passes] if interlaced else [array]
    data = b"".join(row for part in parts if part.size for row in rows(part))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlaced))
    middle = b"".join(chunk(kind, body) for kind, body in chunks)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + middle + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def pngs():
    base, four = rgb(), picture(*SIDES, 4)
    yield "rgb.png", saved(base, "PNG")
    yield "rgba.png", saved(Image.fromarray(four), "PNG")
    yield "gray.png", saved(base.convert("L"), "PNG")
    yield "gray-alpha.png", saved(Image.fromarray(four[:, :, :2]), "PNG")
    yield "palette.png", saved(base.quantize(40), "PNG")
    yield "palette-transparent.png", saved(base.quantize(16), "PNG", transparency=3)
    yield "bits-1.png", png(picture(*SIDES, 1) >> 7, 0, 1)
    yield "bits-2.png", png(picture(*SIDES, 1) >> 6, 0, 2)
    yield "bits-4-interlaced.png", png(picture(*SIDES, 1) >> 4, 0, 4, True)
    wide = picture(*SIDES).astype(numpy.uint16) * 257 ^ 0x35
    yield "rgb-16.png", png(wide, 2, 16)
    yield "rgba-16.png", png(four.astype(numpy.uint16) * 257 ^ 0x35, 6, 16)
    yield "rgb-interlaced.png", png(picture(*SIDES), 2, 8, True)
    yield "rgb-key.png", png(picture(*SIDES), 2, 8, False, [(b"tRNS", struct.pack(">HHH", 100, 100, 100))])
    yield "orientation-6.png", saved(base, "PNG", exif=exif(6))
    frames = [rgb(), ImageOps.invert(rgb())]
    yield "animated.png", saved(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=False)
    yield "animated-hidden.png", saved(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=True)
    yield "one.png", saved(rgb(1, 1), "PNG")


def webps():
    base, four = rgb(), Image.fromarray(picture(*SIDES, 4))
    yield "lossy.webp", saved(base, "WEBP", quality=85)
    yield "lossy-poor.webp", saved(base, "WEBP", quality=10)
    yield "lossless.webp", saved(base, "WEBP", lossless=True)
    yield "lossy-alpha.webp", saved(four, "WEBP", quality=85)
    yield "lossless-alpha.webp", saved(four, "WEBP", lossless=True, exact=True)
    yield "palette.webp", saved(base.quantize(12).convert("RGB"), "WEBP", lossless=True)
    yield "orientation-8.webp", saved(base, "WEBP", quality=85, exif=exif(8))
    frames = [rgb(), ImageOps.invert(rgb())]
    yield "animated.webp", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    yield "animated-lossy.webp", saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], quality=85)
    yield "one.webp", saved(rgb(1, 1), "WEBP", lossless=True)


def large():
    """Not in expected.raw: what the bench converts, and what takes far more memory than other images of its sides."""
    yield "photo-640x480.jpg", saved(Image.fromarray(picture(640, 480, noise=4)), "JPEG", quality=85, subsampling=2)
    smooth = Image.fromarray(picture(400, 300, 4, noise=0))
    yield "large-progressive.jpg", saved(smooth.convert("RGB"), "JPEG", quality=10, subsampling=0, progressive=True)
    yield "large-alpha.webp", saved(smooth, "WEBP", quality=5, alpha_quality=5)
    frames = [smooth, ImageOps.mirror(smooth)]
    yield "large-animated.webp", saved(smooth, "WEBP", save_all=True, append_images=frames[1:], quality=1, alpha_quality=5)


def upright(data):
    """As convert("RGB") has it, but for grey of 16 bits."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")


def cut(image):
    """torchvision.transforms: Resize, here so that both sides are covered, and CenterCrop."""
    (width, height), (wide, high) = image.size, TARGET
    if wide * height >= high * width:
        sides = (wide, int(wide * height / width))
    else:
        sides = (int(high * width / height), high)
    left, top = int(round((sides[0] - wide) / 2.0)), int(round((sides[1] - high) / 2.0))
    return image.resize(sides, Image.BILINEAR).crop((left, top, left + wide, top + high))


def expected(image):
    yield image
    yield image.resize(TARGET, Image.BILINEAR)
    yield ImageOps.pad(image, TARGET, Image.BILINEAR, color=(PAD,) * 3)
    yield cut(image)


def main():
    versions = f"# Pillow {PIL.__version__}, libjpeg-turbo {features.version('libjpeg_turbo')}, "
    lines, raw = [versions + f"libwebp {features.version('webp')}"], b""
    for name, data in [*jpegs(), *pngs(), *webps()]:
        (HERE / name).write_bytes(data)
        image = upright(data)
        lines.append(f"{name} {image.width} {image.height}")
        raw += b"".join(part.tobytes() for part in expected(image))
    (HERE / "index.txt").write_text("\n".join(lines) + "\n")
    (HERE / "expected.raw").write_bytes(raw)
    for name, data in large():
        (HERE / name).write_bytes(data)


if __name__ == "__main__":
    main()
