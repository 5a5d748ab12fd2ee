#!/usr/bin/env bash
# What conversions cost: images and JSON to gRPC, beside Pillow and OpenCV; and other traffic beside them
# Needs Python 3.10 or later with venv, wrk, two cores for itself, and the network the first time.
set -euo pipefail
here="$(dirname "${BASH_SOURCE[0]}")"
: "${TIDEGATE:?run scripts/proof NAME}" "${PROOF_DIR:?run scripts/proof NAME}"
python="${PYTHON:-python3}" venv="$PROOF_DIR/venv"
command -v wrk >/dev/null || { echo "this proof needs wrk" >&2; exit 2; }
if ! [ -e "$venv/ready" ]; then
  echo "installing Pillow, OpenCV and grpcio ..." >&2
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check grpcio==1.76.0 numpy pillow opencv-python-headless
  touch "$venv/ready"
fi
exec "$venv/bin/python" -u "$here/inference_speed.py" "$@"
