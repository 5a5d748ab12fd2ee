#!/usr/bin/env bash
# curl, openssl, Python, Chromium, sslyze and testssl.sh; 1,000 event streams and WebSockets over 50 reloads; half handshakes
#
# Needs Python 3.9 or later with venv, openssl and curl. Chromium and testssl.sh are used where they are installed (Debian:
# apt-get install chromium testssl.sh); what is missing is said and counts as a failure, unless SKIP_MISSING=1.
set -euo pipefail
: "${TIDEGATE:?run scripts/proof NAME}" "${PROOF_DIR:?run scripts/proof NAME}"
here="$(cd "$(dirname "$0")" && pwd)"
python="${PYTHON:-python3}" venv="$PROOF_DIR/venv"

if ! [ -e "$venv/ready" ]; then
  echo "installing sslyze and websockets (once) ..." >&2
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check sslyze websockets
  touch "$venv/ready"
fi
ulimit -n "$(ulimit -Hn)"
exec "$venv/bin/python" -u "$here/tls.py"
