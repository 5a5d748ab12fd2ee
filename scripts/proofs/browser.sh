#!/usr/bin/env bash
# Chromium over HTTP/2: 50 fetches, uploads, streams, server-sent events, a WebSocket on a stream, gRPC-Web from another origin
#
# Needs Debian's chromium, Node.js 20 with npm, openssl, and the network the first time.
set -euo pipefail
: "${TIDEGATE:?run scripts/proof NAME}" "${PROOF_DIR:?run scripts/proof NAME}"
here="$(cd "$(dirname "$0")" && pwd)"
for tool in chromium node npm openssl; do
  command -v "$tool" >/dev/null || { echo "this proof needs $tool" >&2; exit 1; }
done
if ! [ -e "$PROOF_DIR/ready" ]; then
  echo "installing what drives the browser (once) ..." >&2
  npm install --silent --no-audit --no-fund --prefix "$PROOF_DIR" \
    playwright-core@1.65.1 ws@8.23.0 @grpc/grpc-js@1.14.7 grpc-web@2.1.1 esbuild@0.28.2
  touch "$PROOF_DIR/ready"
fi
exec node "$here/browser.mjs"
