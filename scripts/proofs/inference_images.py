"""scripts/proof inference: images by body, form, base64 and as they are. The tensor that the model gets, which the echo
models give back, is the one that Pillow and numpy make; the class that clients are told is that of the native
pipeline."""

import base64
import io
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageFont

from inference_asking import form, of_binary
from inference_servers import magika_folder, orientation_file
from inference_services import kinds
from triton import check, same, section

BINARY = {"accept": "application/octet-stream"}
WAYS = ("grpc", "rest", "binary")
MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
#: Of 256 levels: the most that a sample may be off. JPEG decoders differ in how they round; the others decode to the very pixels.
WORST = {"jpeg": 4, "png": 1, "webp": 1}


def prove(world):
    pictures = [picture(number) for number in range(6)]
    prove_bodies(world, pictures)
    prove_plans(world, pictures)
    prove_forms(world, pictures)
    prove_json(world, pictures)
    prove_encoded(world, pictures)
    prove_values(world)
    prove_mistakes(world, pictures)
    prove_orientation(world)
    prove_magika(world)


# ------------------------------------------------------------------------------------------------ what is expected


def picture(number):
    """400 x 200, smooth, with text and edges."""
    random = np.random.default_rng(number)
    x, y = np.meshgrid(np.linspace(0, 6, 400), np.linspace(0, 3, 200))
    phases = random.random((3, 3)) * 6
    waves = [127 + 60 * np.sin(x * a + b) + 60 * np.cos(y * c + a) for a, b, c in phases]
    made = Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8))
    draw = ImageDraw.Draw(made)
    draw.text((20, 60), f"picture {number}", font=ImageFont.load_default(60), fill=(255, 255, 0))
    draw.rectangle((300, 100, 360, 180), fill=tuple(int(level) for level in random.integers(0, 256, 3)))
    return made


def encoded(image, kind):
    out = io.BytesIO()
    image.save(out, kind, **({"lossless": True} if kind == "webp" else {"quality": 90} if kind == "jpeg" else {}))
    return out.getvalue()


def pixels(data, sides, convert="RGB"):
    return np.asarray(Image.open(io.BytesIO(data)).convert(convert).resize(sides, Image.Resampling.BILINEAR), dtype=np.float32)


def plain(data):
    """As the service `plain` makes it."""
    return ((pixels(data, (48, 64)) / np.float32(255) - MEAN) / STD).transpose(2, 0, 1)


def levels_off(tensor, expected):
    """Of what `plain` expects: the most that a sample is off, in levels."""
    if tensor.shape != expected.shape or tensor.dtype.kind != "f":
        return f"{tensor.dtype} {tensor.shape}"
    return float(np.abs((tensor.astype(np.float32) - expected) * STD[:, None, None] * 255).max())


def near(what, kind, tensor, expected, most=0.05):
    """Within the levels that decoders differ by, and `most` for how the tensor rounds."""
    off = levels_off(tensor, expected) if isinstance(tensor, np.ndarray) else "none"
    check(
        f"{what}: off by {off if isinstance(off, str) else round(off, 2)} levels",
        not isinstance(off, str) and off <= WORST[kind] + most,
        off,
    )


def received(world, service, body, content_type, path="/", name="OUT_FP32"):
    """The tensor that the model has got."""
    answer = world.ask(service, path, body, content_type, headers=BINARY)
    told, arrays = of_binary(answer)
    return arrays.get(name, told)


# ------------------------------------------------------------------------------------------------ the ways of an image


def prove_bodies(world, pictures):
    section("an image as the body: the tensor is Pillow's and numpy's")
    for kind in ("jpeg", "png", "webp"):
        data = encoded(pictures[0], kind)
        expected = plain(data)[None]
        for way in WAYS:
            near(f"{kind} → {way}", kind, received(world, f"plain-{way}", data, f"image/{kind}"), expected)
            tensor = received(world, f"plain-{way}", data, f"image/{kind}", "/v2/models/echo4/infer")
            near(f"{kind} by the model's own path → {way}", kind, tensor, expected)
        status, _, body = world.ask("plain-grpc", "/any/path", data, f"image/{kind.upper()}; q=1", "PUT")
        told = json.loads(body)["outputs"][0]
        near(f"{kind} answered in JSON", kind, np.float32(told["data"]).reshape(told["shape"]), expected)
    gray = encoded(pictures[1].convert("L"), "png")
    near("a gray PNG", "png", received(world, "plain-grpc", gray, "image/png"), plain(gray)[None])
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures[2].save(turned, "jpeg", quality=90, exif=exif)
    upright = Image.open(io.BytesIO(turned.getvalue())).transpose(Image.Transpose.ROTATE_270)
    expected = ((np.asarray(upright.resize((48, 64), Image.Resampling.BILINEAR), dtype=np.float32) / 255 - MEAN) / STD).transpose(
        2, 0, 1
    )
    near(
        "a JPEG whose EXIF says that it lies",
        "jpeg",
        received(world, "plain-grpc", turned.getvalue(), "image/jpeg"),
        expected[None],
    )


def prove_plans(world, pictures):
    section("datatypes, layouts, colors and fits")
    for kind in ("jpeg", "png"):
        data = encoded(pictures[3], kind)
        levels = pixels(data, (48, 64))
        bars = np.full((64, 64), 114, dtype=np.float32)
        bars[16:48] = pixels(data, (64, 32), "L")
        whole = Image.open(io.BytesIO(data)).convert("RGB")
        middle = whole.resize((64, 64), Image.Resampling.BILINEAR, box=(100, 0, 300, 200))
        middle = np.asarray(middle, dtype=np.float32)[:, :, ::-1].transpose(2, 0, 1)
        for way in WAYS:
            near(
                f"{kind}, FP16 → {way}",
                kind,
                received(world, f"half-{way}", data, f"image/{kind}", name="OUT_FP16"),
                plain(data)[None],
                0.3,
            )
            asked = [
                ("UINT8, NHWC", "levels", "OUT_UINT8", levels[None]),
                ("gray between bars", "bars", "OUT_FP32", bars[None, None]),
                ("the middle, blue first", "middle", "OUT_FP32", middle[None]),
            ]
            for what, service, name, expected in asked:
                tensor = received(world, f"{service}-{way}", data, f"image/{kind}", name=name)
                is_shaped = isinstance(tensor, np.ndarray) and tensor.shape == expected.shape
                off = np.abs(tensor.astype(np.float32) - expected).max() if is_shaped else tensor
                check(f"{kind}, {what} → {way}: off by {off} levels", is_shaped and off <= WORST[kind] + 1, off)


def prove_forms(world, pictures):
    section("forms: an image, or a batch of them")
    data = [encoded(image, kind) for image, kind in zip(pictures, ["jpeg", "png", "webp", "jpeg", "png", "webp"])]
    for way in WAYS:
        kind, body = form([("file", "x.jpg", "image/jpeg", data[0])])
        near(f"one → {way}", "jpeg", received(world, f"plain-{way}", body, kind), plain(data[0])[None])
        parts = [
            ("file", f"{number}.bin", f"image/{kind}", image)
            for number, (image, kind) in enumerate(zip(data, ["jpeg", "png", "webp", "jpeg", "png", "webp"]))
        ]
        kind, body = form(parts)
        near(
            f"six at once → {way}",
            "jpeg",
            received(world, f"plain-{way}", body, kind),
            np.stack([plain(image) for image in data]),
        )
        kind, body = form([("IN_FP32", "1", "application/octet-stream", data[1]), ("IN_FP32", "2", "", data[2])])
        near(
            f"two by the input's name → {way}",
            "png",
            received(world, f"plain-{way}", body, kind),
            np.stack([plain(image) for image in data[1:3]]),
        )
        parts = [
            ("IN_INT32", None, "text/plain", b"[1, -2, 3]"),
            ("photo", "a.png", "image/png", data[1]),
            ("IN_BYTES", None, "", "☃ & co".encode()),
        ]
        kind, body = form(parts)
        _, arrays = of_binary(world.ask(f"both-{way}", "/", body, kind, headers=BINARY))
        same(
            f"numbers and text beside it → {way}",
            ([["☃ & co".encode()], [[[[1, -2, 3]]]]]),
            [arrays.get("OUT_BYTES"), np.asarray(arrays.get("OUT_INT32")).tolist()],
        )
        near(f"... and the image → {way}", "png", arrays.get("OUT_FP32"), plain(data[1])[None])


def prove_json(world, pictures):
    section("images in JSON of one's own, as base64")
    data = [encoded(pictures[0], "jpeg"), encoded(pictures[1], "png"), encoded(pictures[2], "webp")]
    text = [base64.b64encode(image).decode() for image in data]
    for way in WAYS:
        tensor = received(world, f"json-{way}", json.dumps({"image": text[0], "more": [1]}), "application/json")
        near(f"one → {way}", "jpeg", tensor, plain(data[0])[None])
        tensor = received(world, f"json-{way}", json.dumps({"image": text}), "application/json; charset=utf-8")
        near(f"three → {way}", "jpeg", tensor, np.stack([plain(image) for image in data]))
        tensor = received(
            world, f"json-{way}", json.dumps({"image": f"data:image/png;base64,{text[1]}"}), "application/vnd.x+json"
        )
        near(f"a data URL → {way}", "png", tensor, plain(data[1])[None])
        body = json.dumps({"of": {"image": text[1], "texts": "a \u2603"}, "numbers": [1, 2]})
        _, arrays = of_binary(world.ask(f"both-{way}", "/", body, "application/json", headers=BINARY))
        near(f"beside others → {way}", "png", arrays.get("OUT_FP32"), plain(data[1])[None])
        same(
            f"... which come too → {way}",
            (["a \u2603".encode()], [[[[1, 2]]]]),
            (arrays.get("OUT_BYTES"), np.asarray(arrays.get("OUT_INT32")).tolist()),
        )
        body = json.dumps(
            {"inputs": [{"name": "IN_FP32", "datatype": "FP32", "shape": [1, 3, 64, 48], "data": [0.5] * (3 * 64 * 48)}]}
        )
        tensor = received(world, f"json-{way}", body, "application/json")
        check(
            f"an inference request of the protocol all the same → {way}",
            isinstance(tensor, np.ndarray) and (tensor == 0.5).all(),
            tensor,
        )


def prove_encoded(world, pictures):
    section("images as they are, for models that decode by themselves")
    data = [encoded(pictures[0], "jpeg"), encoded(pictures[1], "png"), encoded(pictures[2], "webp")]
    for way in ("grpc", "binary"):
        for image, kind in zip(data, ["jpeg", "png", "webp"]):
            same(f"{kind} → {way}", [image], received(world, f"encoded-{way}", image, f"image/{kind}", name="OUT_BYTES"))
        kind, body = form([("f", "x", f"image/{kind}", image) for image, kind in zip(data, ["jpeg", "png", "webp"])])
        same(f"three in a form → {way}", data, received(world, f"encoded-{way}", body, kind, name="OUT_BYTES"))
        body = json.dumps({"images": [base64.b64encode(image).decode() for image in data]})
        same(f"three in JSON → {way}", data, received(world, f"encoded-{way}", body, "application/json", name="OUT_BYTES"))


def prove_values(world):
    section("bytes and values that are no images")
    numbers = np.array([[1, -2, 3], [4, 5, -32768]], dtype=np.int16)
    for way in WAYS:
        asked = [
            ("bytes, a batch of two", numbers.tobytes(), "application/octet-stream", numbers),
            ("nested JSON", json.dumps({"numbers": numbers.tolist()}), "application/json", numbers),
            ("flat JSON", json.dumps({"numbers": numbers[0].tolist()}), "application/json", numbers[:1]),
        ]
        for what, body, kind, expected in asked:
            tensor = received(world, f"raw-{way}", body, kind, name="OUT_INT16")
            check(f"{what} → {way}", isinstance(tensor, np.ndarray) and np.array_equal(tensor, expected), tensor)
        texts = [
            ("plain text", "a ☃".encode(), "text/plain", ["a ☃".encode()]),
            ("JSON", '{"text": [["a"], ["ü"]]}'.encode(), "application/json", [b"a", "ü".encode()]),
        ]
        for what, body, kind, expected in texts:
            same(f"{what} as BYTES → {way}", expected, received(world, f"text-{way}", body, kind, name="OUT_BYTES"))


def prove_mistakes(world, pictures):
    section("what is no image, or not one that the model takes")
    good = encoded(pictures[0], "jpeg")
    large = encoded(Image.new("RGB", (2000, 600)), "png")
    kind, stray = form([("a", "x", "image/jpeg", good), ("b", None, "", b"1")])
    _, none = form([])
    _, broken = form([("a", "x", "image/jpeg", good[:2000])])
    asked = {
        "a JPEG that is cut off": (good[: len(good) // 2], "image/jpeg", 400),
        "a PNG that says to be a JPEG": (encoded(pictures[0], "png"), "image/jpeg", 400),
        "nothing": (b"", "image/png", 400),
        "another type": (b"x", "text/plain", 415),
        "no type": (b"x", None, 415),
        "an image of 1.2 million pixels where one million may be": (large, "image/png", 422),
        "a part for nobody": (stray, kind, 400),
        "a form without an image": (none, kind, 400),
        "a form with a broken one": (broken, kind, 400),
        "no form": (b"x", kind, 400),
    }
    for what, (body, content_type, status) in asked.items():
        seen = world.ask("plain-grpc", "/", body, content_type)
        same(f"{what}: {status}", (status, "application/problem+json"), (seen[0], seen[1].get("content-type")))
        seen = world.ask("plain-grpc", "/v2/models/echo4/infer", body, content_type)
        if content_type and status != 415:
            same(f"... by the protocol: {status}", (status, True), (seen[0], b'"error"' in seen[2]))
    for body in ("{}", '{"image": 1}', '{"image": "!"}', '{"image": "aGVsbG8="}', '{"image": []}', '{"image": null}', "[", ""):
        same(f"JSON {body!r}: 400", 400, world.ask("json-grpc", "/", body, "application/json")[0])
    same("a GET of a path of nobody's: 405", 405, world.ask("plain-grpc", "/")[0])
    same("bytes that are no whole tensor: 400", 400, world.ask("raw-grpc", "/", b"12345", "application/octet-stream")[0])


# ------------------------------------------------------------------------------------------------ real models


def prove_orientation(world):
    section("a real classifier, rapidocr's: which way up a line of text is, as the native pipeline has it")
    session = onnxruntime.InferenceSession(str(orientation_file()), providers=["CPUExecutionProvider"])
    images, truth = [], []
    for text in ("Tidegate", "model servers", "edge of the sea", "12 October", "Hello world", "inference"):
        font = ImageFont.load_default(36)
        line = Image.new("RGB", (int(font.getlength(text)) + 24, 48), "white")
        ImageDraw.Draw(line).text((12, 2), text, font=font, fill="black")
        images += [line, line.rotate(180)]
        truth += [0, 1]

    def native(data):
        levels = pixels(data, (192, 48))[:, :, ::-1]
        return session.run(
            None, {"x": ((levels / np.float32(255) - np.float32(0.5)) / np.float32(0.5)).transpose(2, 0, 1)[None]}
        )[0][0]

    for kind in ("jpeg", "png", "webp"):
        data = [encoded(image, kind) for image in images]
        scores = [native(image) for image in data]
        right = sum(int(score.argmax()) == which for score, which in zip(scores, truth))
        for way in WAYS:
            answers = [world.ask(f"orientation-{way}", "/classify", image, f"image/{kind}") for image in data]
            alike = [is_told(answer, [score]) for answer, score in zip(answers, scores)]
            check(f"{len(data)} {kind} → {way}: {sum(alike)} alike ({right} of them right)", all(alike), answers[0])
            content_type, body = form([("file", "x", f"image/{kind}", image) for image in data[:5]])
            answer = world.ask(f"orientation-{way}", "/classify", body, content_type)
            check(f"five in a form → {way}", is_told(answer, scores[:5]), answer)
    check("the native pipeline knows which way up they are", right >= 10, right)


def is_told(answer, scores):
    """Whether the answer is the classes of these images, as the scores have them."""
    status, fields, body = answer
    told = json.loads(body) if status == 200 else {}
    if (
        fields.get("content-type") != "application/json"
        or told.get("model") != "orientation"
        or len(told["predictions"]) != len(scores)
    ):
        return False
    for prediction, score in zip(told["predictions"], scores):
        best = sorted(range(2), key=lambda index: -score[index])
        if [entry["index"] for entry in prediction] != best or [entry["label"] for entry in prediction] != [
            ["upright", "turned"][index] for index in best
        ]:
            return False
        if any(abs(entry["score"] - score[entry["index"]]) > 0.02 for entry in prediction):
            return False
    return True


def prove_magika(world):
    section("another, Google's Magika: what a file is, by its bytes as INT32")
    session = onnxruntime.InferenceSession(str(magika_folder() / "model.onnx"), providers=["CPUExecutionProvider"])
    html = b"<!DOCTYPE html>\n<html><head><title>x</title></head><body>" + b"<p class='a'>text</p>\n" * 40 + b"</body></html>\n"
    files = {
        "python": open(__file__, "rb").read(),
        "html": html,
        "json": json.dumps([{"name": f"n{number}", "value": number, "on": True} for number in range(90)]).encode(),
        "png": encoded(picture(0), "png"),
    }
    labels = kinds()
    for name, content in files.items():
        begin, end = content[:4096].lstrip()[:1024], content[-4096:].rstrip()[-1024:]
        values = [*begin, *[256] * (1024 - len(begin)), *[256] * (1024 - len(end)), *end]
        scores = session.run(None, {"bytes": np.array([values], dtype=np.int32)})[0][0]
        best = [int(index) for index in np.argsort(-scores, kind="stable")[:3]]
        for way in WAYS:
            bodies = [
                (np.array(values, dtype="<i4").tobytes(), "application/octet-stream"),
                (json.dumps({"file": {"bytes": values}}), "application/json"),
            ]
            for body, kind in bodies:
                status, _, told = world.ask(f"magika-{way}", "/what", body, kind)
                told = json.loads(told).get("predictions", [[]])[0] if status == 200 else []
                is_alike = [(entry["index"], entry["label"]) for entry in told] == [(index, labels[index]) for index in best]
                is_near = all(abs(entry["score"] - scores[entry["index"]]) < 1e-5 for entry in told)
                check(
                    f"{name} as {kind} → {way}: {told[0]['label'] if told else status}",
                    is_alike and is_near and told[0]["label"] == name,
                    told,
                )
