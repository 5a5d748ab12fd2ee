#!/usr/bin/env bash
# Triton 2.51 with real tritonclient: JSON, binary tensors and gRPC, streams, reloads under load, a server that is killed
#
# Needs Python 3.9 to 3.12 with venv, and the network the first time (about 400 MB in target/proof/triton). No GPU.
set -euo pipefail
: "${TIDEGATE:?run scripts/proof NAME}" "${PROOF_DIR:?run scripts/proof NAME}"
here="$(cd "$(dirname "$0")" && pwd)"
python="${PYTHON:-python3}" venv="$PROOF_DIR/venv"

"$python" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info < (3, 13))' || {
  echo "this proof needs Python 3.9 to 3.12, $python is $("$python" --version); PYTHON=... names another" >&2
  exit 1
}
if ! [ -e "$venv/ready-2" ]; then
  echo "installing Triton and its client (once) ..." >&2
  rm -rf "$venv"
  "$python" -m venv "$venv"
  # --no-deps: of the package only the server inside is wanted.
  install=("$venv/bin/pip" install --quiet --disable-pip-version-check --no-warn-conflicts)
  "${install[@]}" --no-deps nvidia-pytriton==0.7.0
  "${install[@]}" "numpy==1.26.4" "tritonclient==2.73.0" geventhttpclient python-rapidjson urllib3 "aiohttp>=3.8" \
    "grpcio==1.85.3" "protobuf>=5" packaging
  touch "$venv/ready-2"
fi
status=0
"$venv/bin/python" -u "$here/triton.py" || status=1
"$venv/bin/python" -u "$here/triton_grpc.py" || status=1
exit "$status"
