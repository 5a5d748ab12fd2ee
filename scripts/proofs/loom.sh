#!/usr/bin/env bash
# Every interleaving of a few threads through the lock-free policies, and what weak memory makes of it
set -euo pipefail
cd "$(dirname "$0")/../.."
exec cargo test --manifest-path loom/Cargo.toml "$@" -- --nocapture
