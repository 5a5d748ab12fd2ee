#!/usr/bin/env bash
# Triton, MLServer and KServe behind services with a model: images, JSON, binary tensors and gRPC, each made of the other
#
# Needs Python 3.10 to 3.12 with venv, and the network the first time (about 1.3 GB in target/proof/inference). No GPU.
# INFERENCE_ONLY=images,memory does some of it (values, calls, images, tensor, others, memory, numbers).
set -euo pipefail
: "${TIDEGATE:?run scripts/proof NAME}" "${PROOF_DIR:?run scripts/proof NAME}"
here="$(cd "$(dirname "$0")" && pwd)"
python="${PYTHON:-python3}"

"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' || {
  echo "this proof needs Python 3.10 to 3.12, $python is $("$python" --version); PYTHON=... names another" >&2
  exit 1
}

# environment NAME COMMAND: once, a venv in which the command has installed what it needs
environment() {
  venv="$PROOF_DIR/venv-$1"
  [ -e "$venv/ready-1" ] && return
  echo "installing $1 (once) ..." >&2
  rm -rf "$venv"
  "$python" -m venv "$venv"
  install=("$venv/bin/pip" install --quiet --disable-pip-version-check --no-warn-conflicts)
  "$2"
  touch "$venv/ready-1"
}
triton() {
  # --no-deps: of the first only the server inside is wanted, of the last two only the models.
  "${install[@]}" --no-deps nvidia-pytriton==0.7.0 rapidocr-onnxruntime==1.4.4 magika==1.0.3
  "${install[@]}" numpy==1.26.4 tritonclient==2.73.0 geventhttpclient==2.6.1 python-rapidjson urllib3 "aiohttp>=3.8" \
    grpcio==1.85.3 grpcio-tools==1.85.1 protobuf==7.36.2 packaging onnxruntime==1.32.0 pillow==13.0.0 ml_dtypes==0.5.4
}
mlserver() { "${install[@]}" mlserver==1.7.1; }
kserve() { "${install[@]}" kserve==0.21.0; }
environment mlserver mlserver
environment kserve kserve
environment triton triton

"$venv/bin/python" -m grpc_tools.protoc -I "$here/../../proto" --python_out="$PROOF_DIR" tensor.proto
ulimit -n "$(ulimit -Hn)"
exec "$venv/bin/python" -u "$here/inference.py"
