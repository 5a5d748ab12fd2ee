#!/usr/bin/env bash
# grpcio on both sides, buf curl: all four kinds, TLS and not, deadlines, cancellation, 20 MiB, 10,000 streams, restarts under load
#
# Needs Python 3.10 or later with venv, openssl, and the network the first time.
set -euo pipefail
: "${TIDEGATE:?run scripts/proof NAME}" "${PROOF_DIR:?run scripts/proof NAME}"
here="$(cd "$(dirname "$0")" && pwd)"
python="${PYTHON:-python3}" venv="$PROOF_DIR/venv"
if ! [ -e "$venv/ready-2" ]; then
  echo "installing grpcio (once) ..." >&2
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check grpcio==1.85.3 grpcio-health-checking==1.85.1 \
    grpcio-reflection==1.85.1 buf-bin==1.75.0
  touch "$venv/ready-2"
fi
ulimit -n "$(ulimit -Hn)"
exec "$venv/bin/python" -u "$here/grpc_client.py"
