#!/usr/bin/env bash
# 594 violations of HTTP/2 and HPACK and 274 that only look so, by hyperframe, hpack and raw bytes: what the RFCs say
#
# Needs Python 3.10 or later with venv, openssl, and the network the first time.
set -euo pipefail
: "${TIDEGATE:?run scripts/proof NAME}" "${PROOF_DIR:?run scripts/proof NAME}"
here="$(cd "$(dirname "$0")" && pwd)"
python="${PYTHON:-python3}" venv="$PROOF_DIR/venv"

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
  echo "this proof needs Python 3.10 or later, $python is $("$python" --version); PYTHON=... names another" >&2
  exit 1
}
if ! [ -e "$venv/ready" ]; then
  echo "installing hyperframe and hpack (once) ..." >&2
  rm -rf "$venv"
  "$python" -m venv "$venv"
  if command -v uv >/dev/null; then
    install=(uv pip install --quiet --python "$venv/bin/python")
  else
    install=("$venv/bin/pip" install --quiet --disable-pip-version-check)
  fi
  "${install[@]}" hyperframe==6.1.0 hpack==4.2.0
  touch "$venv/ready"
fi
exec "$venv/bin/python" -u "$here/http2.py" "$@"
