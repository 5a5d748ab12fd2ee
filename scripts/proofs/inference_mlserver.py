"""A model for MLServer that answers with what it has got. Runs in MLServer's venv (scripts/proof inference)."""

from mlserver import MLModel
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Echo(MLModel):
    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        wanted = {output.name for output in payload.outputs or []}
        outputs = []
        for given in payload.inputs:
            if given.name == "fail":
                raise InferenceError('no "luck" today')
            name = given.name.replace("IN_", "OUT_")
            if not wanted or name in wanted:
                outputs.append(ResponseOutput(name=name, shape=given.shape, datatype=given.datatype, data=given.data))
        return InferenceResponse(model_name=self.name, model_version=self.version, id=payload.id, outputs=outputs)
