#!/usr/bin/env python3
"""What bench/image.rs measures, done by Pillow with numpy, and by OpenCV: images a second on one core, FP32 NCHW.

Needs Pillow, numpy and opencv-python-headless. Run it between two runs of the other, on an idle machine.
"""
import io
import os
import statistics
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy
import PIL
from PIL import Image

ROUNDS, ROUND_SECONDS = 15, 0.3
PHOTO = (Path(__file__).parent / "../tests/corpus/images/photo-640x480.jpg").read_bytes()
MEAN = numpy.array([0.485, 0.456, 0.406], numpy.float32)
STD = numpy.array([0.229, 0.224, 0.225], numpy.float32)


def normalised(pixels):
    values = (pixels.astype(numpy.float32) * numpy.float32(1 / 255) - MEAN) / STD
    return numpy.ascontiguousarray(values.transpose(2, 0, 1))


def pillow():
    image = Image.open(io.BytesIO(PHOTO)).convert("RGB").resize((224, 224), Image.BILINEAR)
    return normalised(numpy.asarray(image))


def opencv():
    # INTER_AREA is what it has against aliasing.
    image = cv2.imdecode(numpy.frombuffer(PHOTO, numpy.uint8), cv2.IMREAD_COLOR)
    image = cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA)
    return normalised(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def opencv_aliased():
    # Four pixels of the source for each of the tensor, whatever lies between: faster, and not what Pillow's filter yields.
    image = cv2.imdecode(numpy.frombuffer(PHOTO, numpy.uint8), cv2.IMREAD_COLOR)
    image = cv2.resize(image, (224, 224), interpolation=cv2.INTER_LINEAR)
    return normalised(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def rate(call):
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < ROUND_SECONDS:
        call()
        calls += 1
    return calls / (time.perf_counter() - start)


def main():
    cv2.setNumThreads(1)
    cases = {
        f"Pillow {PIL.__version__} and numpy": pillow,
        f"OpenCV {cv2.__version__}, area": opencv,
        f"OpenCV {cv2.__version__}, linear": opencv_aliased,
    }
    rates = {what: [] for what in cases}
    for _ in range(ROUNDS):
        for what, call in cases.items():
            rates[what].append(rate(call))
    for what, each in rates.items():
        print(f"  {what:28} {statistics.median(each):8.0f} {max(each):8.0f}")


if __name__ == "__main__":
    main()
