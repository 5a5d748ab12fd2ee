"""A model for KServe that answers with what it has got. Runs in KServe's venv (scripts/proof inference)."""

import argparse

import kserve
from kserve import InferOutput, InferRequest, InferResponse
from kserve.errors import InvalidInput


class Echo(kserve.Model):
    """`echo` answers calls in raw bytes, `typed` in the typed fields of the protocol, which tritonclient does not read."""

    def __init__(self, name):
        super().__init__(name)
        self.ready = True

    def predict(self, payload: InferRequest, headers=None) -> InferResponse:
        outputs = []
        for given in payload.inputs:
            if given.name == "fail":
                raise InvalidInput('no "luck" today')
            made = InferOutput(given.name.replace("IN_", "OUT_"), list(given.shape), given.datatype)
            made.set_data_from_numpy(given.as_numpy(), binary_data=payload.from_grpc and self.name == "echo")
            outputs.append(made)
        return InferResponse(payload.id, self.name, outputs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--http_port", type=int)
    parser.add_argument("--grpc_port", type=int)
    given = parser.parse_args()
    server = kserve.ModelServer(http_port=given.http_port, grpc_port=given.grpc_port, workers=1, enable_grpc=True)
    server.start([Echo("echo"), Echo("typed")])
