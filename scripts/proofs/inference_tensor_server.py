"""A model server that reads `TensorRequest` of proto/tensor.proto and answers `TensorResponse`: the tensor as it came on /echo,
its sums over all but the first dimension on /sums. Both FP32. Started by scripts/proof inference."""

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

sys.path.insert(0, os.environ["PROOF_DIR"])
from tensor_pb2 import TensorRequest, TensorResponse


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200, "text/plain", b"ok")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["content-type"] != "application/x-protobuf":
            return self.answer(415, "text/plain", b"no protobuf")
        asked = TensorRequest.FromString(body)
        try:
            tensor = np.frombuffer(asked.data, dtype="<f4").reshape(asked.shape)
        except ValueError as error:
            return self.answer(400, "application/json", b'{"error": "%s"}' % str(error).replace('"', "'").encode())
        if self.path == "/sums":
            tensor = tensor.reshape(tensor.shape[0], -1).sum(axis=1, dtype="<f4")
        made = TensorResponse(data=tensor.tobytes(), shape=list(tensor.shape))
        self.answer(200, "application/x-protobuf", made.SerializeToString())

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
