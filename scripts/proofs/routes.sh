#!/usr/bin/env bash
# 100,000 routes: memory, reload time, and what requests at a fixed rate notice of 20 reloads
set -euo pipefail
: "${TIDEGATE:?run scripts/proof NAME}"
exec python3 "$(dirname "$0")/routes.py"
