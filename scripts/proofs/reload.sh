#!/usr/bin/env bash
# Over 100,000 requests and 20 reloads that change routes, endpoints and a listener; slow heads by the default timeout
set -euo pipefail
: "${TIDEGATE:?run scripts/proof NAME}"
cd "$(dirname "$0")/../.."
TIDEGATE_PROOF=1 exec cargo test --release --test reload_loses_nothing --test balancing_is_fair --test faults_are_survived -- --nocapture
