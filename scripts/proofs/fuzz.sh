#!/usr/bin/env bash
# Every fuzz target for a minute each, on the stable compiler
set -euo pipefail
cd "$(dirname "$0")/../.."
exec cargo run --release --manifest-path fuzz/Cargo.toml --bin smoke -- --seconds "${FUZZ_SECONDS:-60}" "$@"
