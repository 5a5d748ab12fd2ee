#!/usr/bin/env bash
# What small requests notice of one chunked response at full speed through the same core, beside nginx
#
# The stream's ends and ours share the second core; those who ask and answer us have real-time priority, so that only the proxy, which
# is alone on the first core, is shared. Needs two cores, root, curl and python3; nginx is measured too where it is there.
set -uo pipefail
source "$(dirname "$0")/lib.sh"
command -v chrt >/dev/null && chrt -f 1 true 2>/dev/null || { echo "this proof needs real-time priorities (root)" >&2; exit 1; }
[ "$(nproc)" -ge 2 ] || { echo "this proof needs two cores" >&2; exit 1; }
cargo build --quiet --release -p loadtest
loadtest="${CARGO_TARGET_DIR:-target}/release/loadtest"
seconds="${SECONDS_EACH:-5}" rounds="${ROUNDS:-3}"

free_port && port_bulk=$port
free_port && port_small=$port
free_port && port_web=$port
free_port && port_admin=$port
spawn bulk taskset -c 1 "$loadtest" backend --listen "127.0.0.1:$port_bulk"
spawn small chrt -f 9 taskset -c 1 "$loadtest" backend --listen "127.0.0.1:$port_small"

cat >"$PROOF_DIR/tidegate.toml" <<TOML
workers = 1
[admin]
address = "127.0.0.1:$port_admin"
[log]
access = "off"
[listen.web]
address = "127.0.0.1:$port_web"
[service.bulk]
endpoints = ["127.0.0.1:$port_bulk"]
[service.small]
endpoints = ["127.0.0.1:$port_small"]
[[route]]
match.path = "/small"
to = "small"
rewrite = { path = "/" }
[[route]]
to = "bulk"
TOML
cat >"$PROOF_DIR/nginx.conf" <<NGINX
$([ "$(id -u)" != 0 ] || echo 'user root;')
daemon off;
worker_processes 1;
pid $PROOF_DIR/nginx.pid;
error_log $PROOF_DIR/nginx.error warn;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path $PROOF_DIR/body; proxy_temp_path $PROOF_DIR/proxy; fastcgi_temp_path $PROOF_DIR/fastcgi;
  uwsgi_temp_path $PROOF_DIR/uwsgi; scgi_temp_path $PROOF_DIR/scgi;
  keepalive_requests 1000000000;
  upstream bulk { server 127.0.0.1:$port_bulk; keepalive 16; }
  upstream small { server 127.0.0.1:$port_small; keepalive 16; }
  server {
    listen 127.0.0.1:$port_web;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_max_temp_file_size 0;
    location = /small { proxy_pass http://small/; }
    location / { proxy_pass http://bulk; }
  }
}
NGINX
cat >"$PROOF_DIR/ask.py" <<'PYTHON'
import socket, sys, time
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
times, end = [], time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    time.sleep(0.004)
    begin = time.perf_counter()
    connection.sendall(b"GET /small HTTP/1.1\r\nhost: a\r\n\r\n")
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(65536)
    times.append(1e6 * (time.perf_counter() - begin))
times.sort()
print(*(round(times[int(part * len(times))]) for part in (0.5, 0.99)))
PYTHON

# measure PROXY calm|beside: p50 and p99 in µs, as words
measure() {
  local proxy stream=
  case "$1" in
    tidegate) taskset -c 0 "$TIDEGATE" run -c "$PROOF_DIR/tidegate.toml" >>"$PROOF_DIR/tidegate.log" 2>&1 & ;;
    nginx) taskset -c 0 nginx -p "$PROOF_DIR" -e "$PROOF_DIR/nginx.error" -c "$PROOF_DIR/nginx.conf" >>"$PROOF_DIR/nginx.log" 2>&1 & ;;
  esac
  proxy=$!
  for _ in $(seq 100); do
    curl -s -o /dev/null "http://127.0.0.1:$port_web/small" && break
    sleep 0.05
  done
  if [ "$2" = beside ]; then
    taskset -c 1 curl -s -o /dev/null "http://127.0.0.1:$port_web/chunked/67108864?[1-100000]" &
    stream=$!
  fi
  chrt -f 10 taskset -c 1 python3 "$PROOF_DIR/ask.py" "$port_web" 0.5 >/dev/null
  chrt -f 10 taskset -c 1 python3 "$PROOF_DIR/ask.py" "$port_web" "$seconds"
  [ -z "$stream" ] || { kill "$stream"; wait "$stream"; } 2>/dev/null
  kill "$proxy"
  wait "$proxy" 2>/dev/null
}

proxies=(tidegate)
command -v nginx >/dev/null && proxies+=(nginx)
for round in $(seq "$rounds"); do
  for proxy in "${proxies[@]}"; do
    for how in calm beside; do
      measured=$(measure "$proxy" "$how")
      read -r p50 p99 <<<"$measured"
      echo "$p50" >>"$PROOF_DIR/$proxy.$how.p50.$$"
      echo "$p99" >>"$PROOF_DIR/$proxy.$how.p99.$$"
      echo "round $round $proxy $how: p50 $p50 µs, p99 $p99 µs"
    done
  done
done
median() { sort -n "$PROOF_DIR/$1.$$" | sed -n "$(((rounds + 1) / 2))p"; }
for proxy in "${proxies[@]}"; do
  echo "$proxy: p50 $(median "$proxy.calm.p50") -> $(median "$proxy.beside.p50") µs, p99 $(median "$proxy.calm.p99") -> $(median "$proxy.beside.p99") µs"
done
holds "a median request takes at most twice as long beside the stream" \
  [ "$(median tidegate.beside.p50)" -le $((2 * $(median tidegate.calm.p50))) ]
if [ "${#proxies[@]}" = 2 ]; then
  holds "and the slowest of a hundred are faster than nginx's" \
    [ "$(median tidegate.beside.p99)" -le "$(median nginx.beside.p99)" ]
fi
finish
