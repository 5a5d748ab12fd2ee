#!/usr/bin/env bash
# Backends that fail under load, no descriptors, a full disk, 64 MiB, slow and idle clients, ten minutes of mixed load
set -euo pipefail
: "${TIDEGATE:?run scripts/proof NAME}"
cd "$(dirname "$0")/../.."
export TIDEGATE_PROOF=1
# One test at a time: the times of one must not be those of another.
for test in backends_fail_under_load exhaustion_is_survived faults_are_survived idle_connections_are_small \
  mixed_load_keeps_memory_flat; do
  cargo test --release --test "$test" -- --nocapture --test-threads=1
done
