# What the proofs in shell share: PASS and FAIL lines, free ports, and processes that end with the script.
# Sourced by them; scripts/proof sets TIDEGATE (the binary) and PROOF_DIR (where a proof may write).
: "${TIDEGATE:?run scripts/proof NAME}" "${PROOF_DIR:?run scripts/proof NAME}"

passed=0 failed=0
started=()

pass() { passed=$((passed + 1)); echo "PASS $1"; }
fail() { failed=$((failed + 1)); echo "FAIL $1${2:+: $2}"; }

# same WHAT EXPECTED SEEN
same() {
  if [ "$2" = "$3" ]; then pass "$1"; else fail "$1" "expected '${2:0:300}', saw '${3:0:300}'"; fi
}

# holds WHAT COMMAND...: the command succeeds
holds() {
  local what="$1"
  shift
  if "$@"; then pass "$what"; else fail "$what" "$*"; fi
}

section() { printf '\n== %s\n' "$*"; }

# spawn NAME COMMAND...: in the background, with its output in NAME.log; its pid is $spawned
spawn() {
  local name="$1"
  shift
  "$@" >>"$PROOF_DIR/$name.log" 2>&1 &
  spawned=$!
  started+=("$spawned")
}

# Ports below the kernel's ephemeral range, on which nobody answers now. The port is $port.
port=$((20000 + RANDOM % 8000))
free_port() {
  port=$((port + 1))
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
}

# wait_for URL: until it answers 200, at most 10 s
wait_for() {
  local try
  for try in $(seq 100); do
    curl -fsS -o /dev/null --max-time 1 "$1" 2>/dev/null && return 0
    sleep 0.1
  done
  echo "nothing answers on $1 after $try tries" >&2
  exit 1
}

# wait_gone PID SECONDS
wait_gone() {
  local try
  for try in $(seq $(($2 * 10))); do
    kill -0 "$1" 2>/dev/null || return 0
    sleep 0.1
  done
  echo "process $1 is still there after $try tries" >&2
  return 1
}

# Ends what the script started, and nothing else: TERM, and KILL for what stays longer than 5 s.
end_started() {
  local pid
  for pid in "${started[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${started[@]}"; do
    wait_gone "$pid" 5 2>/dev/null || kill -KILL "$pid" 2>/dev/null || true
  done
}
at_exit() {
  local status=$?
  end_started
  [ "$finished" = yes ] || { fail "the proof runs to its end"; totals; }
  return "$status"
}
totals() { printf '\n%d passed, %d failed\n' "$passed" "$failed"; }

finished=no
trap at_exit EXIT
trap 'exit 143' TERM INT

finish() {
  finished=yes
  totals
  [ "$failed" -eq 0 ]
}
