#!/usr/bin/env bash
# What a hostile HTTP/2 client costs: 20 attacks, each with memory, processor time and what others notice
#
# Needs Python 3.10 or later, nothing else. Nothing else should run beside it.
set -euo pipefail
: "${TIDEGATE:?run scripts/proof NAME}" "${PROOF_DIR:?run scripts/proof NAME}"
here="$(cd "$(dirname "$0")" && pwd)"
exec "${PYTHON:-python3}" -u "$here/http2_attacks.py"
