"""The services that scripts/proof inference asks for, by the name that requests give in `x-service`."""

import json

from inference_servers import DIR, magika_folder

#: Of the numbers that `large` takes: 28 MiB.
LARGE = 7 << 20
#: The image is 48 wide and 64 high, as the ImageNet models have it.
PLAN = """layout = "NCHW"
scale = "1/255"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]"""

ORIENTATION = """name = "x"
datatype = "FP32"
shape = [3, 48, 192]
image = true
layout = "NCHW"
colors = "bgr"
scale = "1/255"
mean = 0.5
std = 0.5"""

#: Inputs of the image services, by their names.
IMAGES = {
    "plain": ("echo4", [f'name = "IN_FP32"\ndatatype = "FP32"\nshape = [3, 64, 48]\nimage = true\n{PLAN}']),
    "half": ("echo4", [f'name = "IN_FP16"\ndatatype = "FP16"\nshape = [3, 64, 48]\nimage = true\n{PLAN}']),
    "levels": ("echo4", ['name = "IN_UINT8"\ndatatype = "UINT8"\nshape = [64, 48, 3]\nimage = true\nlayout = "NHWC"']),
    "bars": (
        "echo4",
        [
            'name = "IN_FP32"\ndatatype = "FP32"\nshape = [1, 64, 64]\nimage = true\nlayout = "NCHW"\ncolors = "gray"\n'
            'fit = "letterbox"\npad = 114'
        ],
    ),
    "middle": (
        "echo4",
        ['name = "IN_FP32"\ndatatype = "FP32"\nshape = [3, 64, 64]\nimage = true\nlayout = "NCHW"\ncolors = "bgr"\nfit = "crop"'],
    ),
    "json": ("echo4", [f'name = "IN_FP32"\ndatatype = "FP32"\nshape = [3, 64, 48]\nimage = true\njson = "/image"\n{PLAN}']),
    "both": (
        "echo4",
        [
            f'name = "IN_FP32"\ndatatype = "FP32"\nshape = [3, 64, 48]\nimage = true\njson = "/of/image"\n{PLAN}',
            'name = "IN_BYTES"\ndatatype = "BYTES"\nshape = [1, 1, 1]\njson = "/of/texts"',
            'name = "IN_INT32"\ndatatype = "INT32"\nshape = [1, 1, -1]\njson = "/numbers"',
        ],
    ),
    "encoded": ("echo2", ['name = "IN_BYTES"\ndatatype = "BYTES"\nshape = [1]\nimage = true\njson = "/images"']),
    "raw": ("echo2", ['name = "IN_INT16"\ndatatype = "INT16"\nshape = [3]\njson = "/numbers"']),
    "text": ("echo2", ['name = "IN_BYTES"\ndatatype = "BYTES"\nshape = [1]\njson = "/text"']),
}


def service(name, address, protocol, model="", inputs=(), outputs=(), more=""):
    """All behind `[service.NAME]`."""
    table = f"service.s-{name}.model"
    made = f'endpoints = ["{address}"]\n' + ('protocol = "h2"\n' if protocol == "grpc" else "")
    made += f'[{table}]\nprotocol = "{protocol}"\n' + (f'name = "{model}"\n' if model else "") + more
    made += "".join(f"\n[[{table}.inputs]]\n{text}" for text in inputs)
    return made + "".join(f"\n[[{table}.outputs]]\n{text}" for text in outputs)


def services(triton, tensors, others):
    """The text of each, by name."""
    made = {}

    def add(name, *given, **more):
        made[name] = service(name, *given, **more)

    (DIR / "orientations.txt").write_text("upright\nturned\n")
    (DIR / "kinds.txt").write_text("\n".join(kinds()) + "\n")
    for protocol, address in {"grpc": triton.grpc_address, "rest": triton.address, "binary": triton.address}.items():
        # Without inputs: whatever is asked is converted as it is.
        add(protocol, address, protocol, "echo2")
        for name, (model, inputs) in IMAGES.items():
            add(f"{name}-{protocol}", address, protocol, model, inputs, more="image_pixels = 1000000\n")
        outputs = ['name = "save_infer_model/scale_0.tmp_1"\ntop = 2\nlabels = "orientations.txt"']
        add(f"orientation-{protocol}", address, protocol, "orientation", [ORIENTATION], outputs)
        inputs = ['name = "bytes"\ndatatype = "INT32"\nshape = [2048]\njson = "/file/bytes"']
        outputs = ['name = "target_label"\ntop = 3\nlabels = "kinds.txt"']
        add(f"magika-{protocol}", address, protocol, "magika", inputs, outputs)
    for server in others:
        add(f"{server.name}-grpc", server.grpc_address, "grpc", "echo")
        add(f"{server.name}-rest", server.address, "rest", "echo")
    image = [f'name = "image"\ndatatype = "FP32"\nshape = [3, 64, 48]\nimage = true\n{PLAN}']
    outputs = ['name = "y"\ndatatype = "FP32"']

    def numbers(count):
        return [f'name = "x"\ndatatype = "FP32"\nshape = [{count}]']

    add("tensor", tensors.address, "tensor", "", image, outputs, more='path = "/echo"\n')
    add("sums", tensors.address, "tensor", "sums", numbers(1000), outputs, more='path = "/sums"\n')
    add("large", tensors.address, "tensor", "", numbers(LARGE), outputs, more='path = "/sums"\nmemory = "256MiB"\n')
    add("large-grpc", triton.grpc_address, "grpc", "echo1", more='memory = "256MiB"\n')
    return made


def kinds():
    """Magika's labels, in the order of its scores."""
    return json.loads((magika_folder() / "config.min.json").read_text())["target_labels_space"]
