#!/usr/bin/env bash
# HAProxy and nginx: their PROXY headers name our clients, ours are read by them, versions 1 and 2, L4 and L7
#
# Needs haproxy, nginx (with its realip variables, as in Debian) and curl >= 7.84. A minute, mostly for the build.
set -uo pipefail
source "$(dirname "$0")/lib.sh"
export LC_ALL=C

for tool in haproxy nginx curl; do
  command -v "$tool" >/dev/null || { echo "this proof needs $tool" >&2; exit 1; }
done
rm -rf "${PROOF_DIR:?}"/*
# Whose address must arrive. Everything else on the way talks from 127.0.0.1.
client=127.0.0.3

names=(nginx_plain nginx_proxied haproxy_stats admin
  to_http_v1 to_http_v2 to_tcp_v1 to_tcp_v2 http tcp out_http_v1 out_http_v2 out_tcp_v1 out_tcp_v2
  accept into_haproxy_v1 into_haproxy_v2)
declare -A at
for name in "${names[@]}"; do free_port && at[$name]=$port; done

# ---------------------------------------------------------------- the parts

cat >"$PROOF_DIR/nginx.conf" <<EOF
$([ "$(id -u)" != 0 ] || echo 'user root;')
daemon off;
worker_processes 1;
pid $PROOF_DIR/nginx.pid;
error_log $PROOF_DIR/nginx-error.log warn;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path $PROOF_DIR/t1;
  proxy_temp_path $PROOF_DIR/t2;
  fastcgi_temp_path $PROOF_DIR/t3;
  uwsgi_temp_path $PROOF_DIR/t4;
  scgi_temp_path $PROOF_DIR/t5;
  server {
    listen 127.0.0.1:${at[nginx_plain]};
    location / { return 200 "\$http_x_forwarded_for"; }
  }
  server {
    listen 127.0.0.1:${at[nginx_proxied]} proxy_protocol;
    location / { return 200 "\$proxy_protocol_addr:\$proxy_protocol_port \$proxy_protocol_server_addr:\$proxy_protocol_server_port"; }
    location /connection { return 200 "\$connection"; }
  }
}
EOF

# haproxy_front NAME TO OPTION: passes the connections of one port on, with a PROXY header
haproxy_front() {
  cat <<EOF
listen $1
  mode tcp
  bind 127.0.0.1:${at[$1]}
  server tidegate 127.0.0.1:${at[$2]} $3
EOF
}
{
  cat <<EOF
global
  maxconn 500
defaults
  timeout connect 5s
  timeout client 30s
  timeout server 30s
EOF
  haproxy_front to_http_v1 http send-proxy
  haproxy_front to_http_v2 http send-proxy-v2
  haproxy_front to_tcp_v1 tcp send-proxy
  haproxy_front to_tcp_v2 tcp send-proxy-v2
  cat <<EOF
listen accept
  mode http
  option forwardfor
  bind 127.0.0.1:${at[accept]} accept-proxy
  server nginx 127.0.0.1:${at[nginx_plain]}
# Its checks say LOCAL: no client is behind them.
backend checked
  mode http
  option httpchk
  http-check send meth GET uri / ver HTTP/1.1 hdr Host tidegate
  http-check expect string 127.0.0.1
  server tidegate 127.0.0.1:${at[http]} send-proxy-v2 check check-send-proxy inter 200ms
frontend stats
  mode http
  bind 127.0.0.1:${at[haproxy_stats]}
  stats enable
  stats uri /
EOF
} >"$PROOF_DIR/haproxy.cfg"

# service NAME PORT VERSION; tcp_listener NAME SERVICE; http_listener NAME SERVICE
service() { printf '[service.%s]\nendpoints = ["127.0.0.1:%s"]\n%s\n' "$1" "${at[$2]}" "${3:+proxy_protocol = \"$3\"}"; }
tcp_listener() { printf '[listen.%s]\naddress = "127.0.0.1:%s"\nprotocol = "tcp"\nto = "%s"\n%s\n' "$1" "${at[$1]}" "$2" "${3:-}"; }
http_listener() {
  printf '[listen.%s]\naddress = "127.0.0.1:%s"\n%s\n' "$1" "${at[$1]}" "${3:-}"
  printf '[[route]]\nmatch.listener = "%s"\nto = "%s"\n' "$1" "$2"
}
trusted='proxy_protocol = { trusted = ["127.0.0.1"] }'
{
  printf '[admin]\naddress = "127.0.0.1:%s"\n[log]\naccess = "%s"\n' "${at[admin]}" "$PROOF_DIR/access.log"
  service plain nginx_plain
  http_listener http plain "$trusted"
  tcp_listener tcp proxied_v2 "$trusted"
  for version in v1 v2; do
    service "proxied_$version" nginx_proxied $version
    service "haproxy_$version" accept $version
    http_listener out_http_$version proxied_$version
    tcp_listener out_tcp_$version proxied_$version
    tcp_listener into_haproxy_$version haproxy_$version
  done
} >"$PROOF_DIR/tidegate.toml"

spawn nginx nginx -p "$PROOF_DIR" -e "$PROOF_DIR/nginx-error.log" -c "$PROOF_DIR/nginx.conf"
spawn haproxy haproxy -db -f "$PROOF_DIR/haproxy.cfg"
[ -z "${PROOF_DRIVER:-}" ] || sed -i "1i driver = \"$PROOF_DRIVER\"" "$PROOF_DIR/tidegate.toml"
spawn tidegate "$TIDEGATE" run -c "$PROOF_DIR/tidegate.toml"
wait_for "http://127.0.0.1:${at[admin]}/readyz"
wait_for "http://127.0.0.1:${at[nginx_plain]}/"
wait_for "http://127.0.0.1:${at[haproxy_stats]}/"

# ask PORT [OPTIONS...]: the answer's body, then the port that curl called from
ask() {
  local to="$1"
  shift
  curl -sS --max-time 10 --interface "$client" -w ' from %{local_port}' "$@" "http://127.0.0.1:$to/"
}
# told WHAT PORT CALLED: the endpoint is told this client, its port, and the address that it called
told() {
  local said
  said="$(ask "$2")"
  same "$1" "$client:${said##* from } 127.0.0.1:$3" "${said%% from *}"
}
answer() { local said; said="$(ask "$@")"; echo "${said%% from *}"; }

# ---------------------------------------------------------------- in

section "headers of HAProxy and curl"
for version in v1 v2; do
  same "HTTP behind HAProxy's $version: x-forwarded-for" "$client" "$(answer "${at[to_http_$version]}")"
  told "TCP behind HAProxy's $version: client and address that it called, passed on in our v2" \
    "${at[to_tcp_$version]}" "${at[to_tcp_$version]}"
done
# curl announces its own connection, so that a trusted one that is refused shows what is untrusted.
same "curl's header from an address that is not trusted: a bad request" 400 \
  "$(curl -sS -o /dev/null -w '%{http_code}' --max-time 10 --interface "$client" --haproxy-protocol "http://127.0.0.1:${at[http]}/")"
same "curl's header from one that is" 127.0.0.1 \
  "$(curl -sS --max-time 10 --haproxy-protocol "http://127.0.0.1:${at[http]}/")"

section "HAProxy's own checks (LOCAL)"
checked() { curl -fsS --max-time 5 "http://127.0.0.1:${at[haproxy_stats]}/;csv" | grep -q '^checked,tidegate,.*,UP,.*L7OK'; }
for _ in $(seq 50); do checked && break; sleep 0.1; done
holds "HAProxy's checks see 200 and the connection's own address" checked

# ---------------------------------------------------------------- out

section "headers for nginx and HAProxy"
for version in v1 v2; do
  told "TCP, our $version, nginx" "${at[out_tcp_$version]}" "${at[out_tcp_$version]}"
  told "HTTP, our $version, nginx" "${at[out_http_$version]}" "${at[out_http_$version]}"
  same "TCP, our $version, HAProxy's accept-proxy" "$client" "$(answer "${at[into_haproxy_$version]}")"
  url="http://127.0.0.1:${at[out_http_$version]}/connection"
  read -r first second < <(curl -sS --max-time 10 -w ' ' "$url" "$url")
  third="$(curl -sS --max-time 10 "$url")"
  same "HTTP, our $version: one client's requests share a connection" "$first" "$second"
  holds "HTTP, our $version: another client's have one of their own" test "$third" != "$first"
done

# ---------------------------------------------------------------- under load

section "many at once"
errors=0
for n in $(seq 200); do
  version=v$((n % 2 + 1)) address="127.0.0.$((n + 3))"
  (
    said="$(curl -sS --max-time 10 --interface "$address" "http://127.0.0.1:${at[to_http_$version]}/")"
    [ "$said" = "$address" ]
  ) &
  pids[n]=$!
done
for pid in "${pids[@]}"; do wait "$pid" || errors=$((errors + 1)); done
same "200 clients behind HAProxy, each under its own name" 0 "$errors"
metric() { curl -fsS "http://127.0.0.1:${at[admin]}/metrics" | awk -v name="$1" 'index($1, name) == 1 { sum += $2 } END { print sum + 0 }'; }
same "no header of HAProxy was refused" 0 "$(metric tidegate_proxy_header_errors_total)"
same "no connection failed" 0 "$(metric tidegate_tcp_errors_total)"
same "no panic" 0 "$(metric tidegate_panics_total)"
finish
