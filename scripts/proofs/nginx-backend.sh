#!/usr/bin/env bash
# nginx as the backend, two instances: bytes exact, ranges, uploads, connections it closes, reloads of it under load
#
# Needs nginx (with the dav, sub and stub_status modules, as in Debian) and curl >= 7.84; wrk is used when it is there.
set -uo pipefail
source "$(dirname "$0")/lib.sh"
export LC_ALL=C

for tool in nginx curl; do
  command -v "$tool" >/dev/null || { echo "this proof needs $tool" >&2; exit 1; }
done
rm -rf "${PROOF_DIR:?}"/*
site="$PROOF_DIR/site" dav="$PROOF_DIR/dav" tmp="$PROOF_DIR/tmp"
mkdir -p "$site/files" "$site/chunked" "$site/small" "$dav/capped" "$tmp"

# ---------------------------------------------------------------- the parts

sizes=(0 1 1023 4096 65535 65536 1048577 10485760 67108864)
for size in "${sizes[@]}"; do head -c "$size" /dev/urandom >"$site/files/$size.bin"; done
head -c 1024 /dev/urandom >"$site/files/1k.bin"
seq 200000 >"$site/files/text.txt"
cp "$site/files/text.txt" "$site/files/67108864.bin" "$site/chunked/"
# The same times everywhere, so that both instances and the copies have the same validators.
touch -d '2026-01-02 03:04:05 UTC' "$site"/*/*

free_port && port_a=$port
free_port && port_b=$port
free_port && port_web=$port
free_port && port_admin=$port

# nginx_config NAME PORT GENERATION
nginx_config() {
  mkdir -p "$PROOF_DIR/$1"
  cat >"$PROOF_DIR/$1/nginx.conf" <<EOF
$([ "$(id -u)" != 0 ] || echo 'user root;')
daemon off;
worker_processes 2;
pid $PROOF_DIR/$1/pid;
error_log $PROOF_DIR/$1/error.log warn;
events { worker_connections 1024; }
http {
  types { text/plain txt; }
  default_type application/octet-stream;
  access_log off;
  client_body_temp_path $tmp/$1-body;
  proxy_temp_path $tmp/$1-proxy;
  fastcgi_temp_path $tmp/$1-fastcgi;
  uwsgi_temp_path $tmp/$1-uwsgi;
  scgi_temp_path $tmp/$1-scgi;
  keepalive_requests 100;
  keepalive_timeout 60s;
  add_header x-instance $1 always;
  add_header x-generation $3 always;
  server {
    listen 127.0.0.1:$2 backlog=1024;
    root $site;
    location /files/ { gzip on; gzip_types text/plain; gzip_min_length 100; }
    location /chunked/ { sub_filter_types *; sub_filter 'a text that no file holds' ''; }
    location /short/ { alias $site/files/; keepalive_timeout 1s; }
    location /dav/ {
      alias $dav/;
      dav_methods PUT DELETE;
      create_full_put_path on;
      client_max_body_size 256m;
    }
    location /dav/capped/ { alias $dav/capped/; dav_methods PUT; client_max_body_size 1k; }
    location /echo { proxy_pass http://127.0.0.1:$2/reflect; proxy_set_header x-echo \$request_body; proxy_set_header connection close; }
    location /echo-short { keepalive_timeout 1s; proxy_pass http://127.0.0.1:$2/reflect; proxy_set_header x-echo \$request_body; }
    location /reflect { return 200 \$http_x_echo; }
    location = /status { stub_status; }
  }
}
EOF
}

# start_nginx NAME PORT: its master's pid is $spawned
start_nginx() {
  spawn "nginx-$1" nginx -p "$PROOF_DIR/$1/" -c nginx.conf -e "$PROOF_DIR/$1/error.log"
  wait_for "http://127.0.0.1:$2/status"
}

nginx_config a "$port_a" 0
nginx_config b "$port_b" 0
start_nginx a "$port_a" && master_a=$spawned
start_nginx b "$port_b" && master_b=$spawned

cat >"$PROOF_DIR/gateway.toml" <<EOF
driver = "${PROOF_DRIVER:-auto}"

[listen.web]
address = "127.0.0.1:$port_web"

[admin]
address = "127.0.0.1:$port_admin"

[log]
access = "access.log"

[service.origin]
endpoints = ["127.0.0.1:$port_a", "127.0.0.1:$port_b"]

# Survives an instance that is gone although every request under way has to be tried again.
[service.origin-patient]
endpoints = ["127.0.0.1:$port_a", "127.0.0.1:$port_b"]
retry     = { budget_min = 100 }

[[route]]
name       = "uploads"
match      = { path = "/dav/**" }
to         = "origin"
body_limit = "128MiB"

[[route]]
name    = "limited"
match   = { path = "/limited/**" }
to      = "origin"
rewrite = { regex = "^/limited/", replacement = "/dav/" }

[[route]]
name    = "patient"
match   = { path = "/patient/**" }
to      = "origin-patient"
rewrite = { strip_prefix = "/patient" }

[[route]]
name = "all"
to   = "origin"
EOF
spawn gateway "$TIDEGATE" run -c "$PROOF_DIR/gateway.toml"
gateway=$spawned
wait_for "http://127.0.0.1:$port_admin/readyz"
web="http://127.0.0.1:$port_web" direct="http://127.0.0.1:$port_a"

get() { curl -sS --max-time 120 "$@"; }
sum() { sha256sum "$@" | cut -d' ' -f1; }
# header NAME <HEADERS: its value, of the last head
header() { tr -d '\r' | sed -n "s/^$1: //Ip" | tail -1; }
# metric NAME: the sum of its series
metric() {
  curl -fsS "http://127.0.0.1:$port_admin/metrics" | awk -v name="$1" '{ split($1, part, "{") } part[1] == name { sum += $NF } END { printf "%d", sum }'
}
# What is left of a head when the parts that may differ are gone.
comparable() { tr -d '\r' | grep -viE '^(date|connection|keep-alive|x-request-id|x-instance):|^$' | tr '[:upper:]' '[:lower:]' | sort; }

# ---------------------------------------------------------------- what a single exchange looks like

section "files of 0 B to 64 MiB, byte for byte, from both instances"
for size in "${sizes[@]}"; do
  file="$site/files/$size.bin"
  for try in 1 2 3 4; do
    get -D "$tmp/head" "$web/files/$size.bin" >"$tmp/body"
    header x-instance <"$tmp/head" >>"$tmp/instances"
    [ "$(sum "$tmp/body")" = "$(sum "$file")" ] || break
  done
  same "GET $size bytes, $try times" "$(sum "$file")" "$(sum "$tmp/body")"
done
same "both instances answered" "a b" "$(sort -u "$tmp/instances" | tr '\n' ' ' | sed 's/ $//')"
for path in files/4096.bin files/0.bin files/text.txt chunked/text.txt nothing-here; do
  same "the head of /$path is the one that nginx sent" \
    "$(get -D - -o /dev/null "$direct/$path" | comparable)" "$(get -D - -o /dev/null "$web/$path" | comparable)"
done

section "HEAD"
for path in files/67108864.bin files/0.bin chunked/text.txt nothing-here; do
  same "HEAD /$path" "$(get -I "$direct/$path" | comparable)" "$(get -I "$web/$path" | comparable)"
done
same "HEAD, GET, HEAD, GET on one connection" "200 1 0|200 0 4096|200 0 0|200 0 1023|" \
  "$(w='%{http_code} %{num_connects} %{size_download}|'
    get -w "$w" -o /dev/null -I "$web/files/4096.bin" --next -sS -w "$w" -o /dev/null "$web/files/4096.bin" \
      --next -sS -w "$w" -o /dev/null -I "$web/chunked/text.txt" --next -sS -w "$w" -o /dev/null "$web/files/1023.bin")"

section "ranges"
big="$site/files/1048577.bin"
range() { # RANGE CONTENT-RANGE OFFSET LENGTH
  get -D "$tmp/head" -r "$1" "$web/files/1048577.bin" >"$tmp/body"
  same "bytes=$1" "206 $2 $(tail -c +$(($3 + 1)) "$big" | head -c "$4" | sum)" \
    "$(awk 'NR == 1 { print $2 }' "$tmp/head") $(header content-range <"$tmp/head") $(sum "$tmp/body")"
}
range 0-0 "bytes 0-0/1048577" 0 1
range 1000-66999 "bytes 1000-66999/1048577" 1000 66000
range 1048576- "bytes 1048576-1048576/1048577" 1048576 1
range -500 "bytes 1048077-1048576/1048577" 1048077 500
parts() { get -r 0-99,1000-1099 -D "$tmp/head" "$1/files/text.txt" | tr -d '\r' | sed -E 's/^--[0-9]+/--boundary/'; }
same "two ranges are multipart/byteranges" "$(parts "$direct")" "$(parts "$web")"
same "... and complete" "multipart/byteranges" "$(header content-type <"$tmp/head" | cut -d';' -f1)"
same "a range beyond the end" "416 bytes */1048577" \
  "$(get -r 2000000- -o /dev/null -w '%{http_code} %header{content-range}' "$web/files/1048577.bin")"
etag="$(get -I "$web/files/1048577.bin" | header etag)"
same "if-range that holds" 206 "$(get -r 0-9 -H "if-range: $etag" -o /dev/null -w '%{http_code}' "$web/files/1048577.bin")"
same "if-range that does not" 200 "$(get -r 0-9 -H 'if-range: "other"' -o /dev/null -w '%{http_code}' "$web/files/1048577.bin")"

section "304"
same "if-none-match, and the connection goes on" "304 1 0|200 0 4096|" \
  "$(w='%{http_code} %{num_connects} %{size_download}|'
    get -w "$w" -o /dev/null -H "if-none-match: $etag" "$web/files/1048577.bin" --next -sS -w "$w" -o /dev/null "$web/files/4096.bin")"
same "if-modified-since" 304 \
  "$(get -o /dev/null -w '%{http_code}' -H 'if-modified-since: Fri, 02 Jan 2026 03:04:05 GMT' "$web/files/1048577.bin")"
same "the head of a 304" "$(get -D - -H "if-none-match: $etag" "$direct/files/1048577.bin" | comparable)" \
  "$(get -D - -H "if-none-match: $etag" "$web/files/1048577.bin" | comparable)"
same "if-match that does not hold" 412 "$(get -o /dev/null -w '%{http_code}' -H 'if-match: "other"' "$web/files/1048577.bin")"

section "gzip and chunks"
get -D "$tmp/head" -H 'accept-encoding: gzip' "$web/files/text.txt" >"$tmp/body"
same "gzip passes as it is" "gzip chunked" "$(header content-encoding <"$tmp/head") $(header transfer-encoding <"$tmp/head")"
same "... and unpacks to the file" "$(sum "$site/files/text.txt")" "$(gzip -dc <"$tmp/body" | sum)"
get -D "$tmp/head" "$web/chunked/67108864.bin" >"$tmp/body"
same "64 MiB in chunks" "chunked $(sum "$site/files/67108864.bin")" "$(header transfer-encoding <"$tmp/head") $(sum "$tmp/body")"
get --http1.0 -D "$tmp/head" "$web/chunked/text.txt" >"$tmp/body"
same "an HTTP/1.0 client gets no chunks" " $(sum "$site/files/text.txt")" \
  "$(header transfer-encoding <"$tmp/head") $(sum "$tmp/body")"
get --http1.0 --compressed "$web/files/text.txt" >"$tmp/body"
same "gzip to an HTTP/1.0 client" "$(sum "$site/files/text.txt")" "$(sum "$tmp/body")"

# ---------------------------------------------------------------- uploads

section "uploads"
put() { # WHAT FILE CURL-ARGUMENTS...: stores it and compares the file on disk, then the bytes of a GET
  local what="$1" file="$2" status
  shift 2
  status="$(get -D "$tmp/head" -o /dev/null -w '%{http_code}' "$@" "$web/dav/up.bin")"
  case "$status" in 201 | 204) status=stored ;; esac
  same "$what" "stored $(sum "$file") $(sum "$file")" \
    "$status $(sum "$dav/up.bin") $(get "$web/dav/up.bin" | sum)"
}
for size in 0 1 65536 1048577 67108864; do
  file="$site/files/$size.bin"
  put "PUT $size bytes with a length" "$file" -T "$file" -H 'expect:'
  put "PUT $size bytes in chunks" "$file" -T - -H 'transfer-encoding: chunked' -H 'expect:' <"$file"
done
for size in 1 1048577 67108864; do
  file="$site/files/$size.bin"
  put "PUT $size bytes after 100 Continue" "$file" -T "$file" -H 'expect: 100-continue' --expect100-timeout 30
  same "... which was sent" "HTTP/1.1 100 Continue" "$(head -1 "$tmp/head" | tr -d '\r')"
done
same "100 Continue is not promised for a body that nginx refuses" "413 0" \
  "$(get -o /dev/null -w '%{http_code} %{size_upload}' -T "$site/files/65536.bin" -H 'expect: 100-continue' \
    --expect100-timeout 30 "$web/dav/capped/x")"
# refused WHAT BY FILE URL CURL-ARGUMENTS...: curl, which looks for an answer while it sends, sees the 413, twenty
# times out of twenty
refused() {
  local what="$1" by="$2" file="$3" url="$4" seen
  shift 4
  seen="$(for _ in $(seq 20); do get -o "$tmp/body" -w '%{http_code} %{content_type}\n' "$@" "$url" <"$file" 2>&1; done | sort | uniq -c | tr -s ' \n' ' ')"
  same "$what" " 20 413 $by " "$seen"
}
ten="$site/files/10485760.bin" most="$site/files/67108864.bin" problem=application/problem+json
refused "10 MiB over nginx' limit, already on their way" text/html "$ten" "$web/dav/capped/x" -T "$ten" -H 'expect:'
refused "64 MiB over nginx' limit, already on their way" text/html "$most" "$web/dav/capped/x" -T "$most" -H 'expect:'
refused "64 MiB over the gateway's limit, expecting 100" "$problem" "$most" "$web/limited/x" -T "$most" -H 'expect: 100-continue'
refused "64 MiB over the gateway's limit, with a length" "$problem" "$most" "$web/limited/x" -T "$most" -H 'expect:'
refused "64 MiB over the gateway's limit, in chunks" "$problem" "$most" "$web/limited/x" -T - -H 'expect:'
# send_all PATH FILE: a client that looks for the answer only after it has sent everything, as most libraries do
send_all() (
  trap '' PIPE
  exec 3<>"/dev/tcp/127.0.0.1/$port_web"
  printf 'PUT %s HTTP/1.1\r\nhost: proof\r\ncontent-length: %s\r\n\r\n' "$1" "$(stat -c %s "$2")" >&3
  timeout 30 cat "$2" 2>/dev/null >&3 && printf 'all sent, '
  timeout 10 head -1 <&3 2>/dev/null | cut -c1-12
)
same "64 MiB over nginx' limit, to a client that sends first and reads then" "all sent, HTTP/1.1 413" "$(send_all /dav/capped/x "$most")"
same "64 MiB over the gateway's limit, to such a client" "all sent, HTTP/1.1 413" "$(send_all /limited/x "$most")"
holds "nothing of a refused body was stored" test ! -e "$dav/x"
same "DELETE, then it is gone" "204 404" \
  "$(get -X DELETE -w '%{http_code} ' "$web/dav/up.bin")$(get -o /dev/null -w '%{http_code}' "$web/dav/up.bin")"

# ---------------------------------------------------------------- connections that nginx closes

# get_loop ID COUNT URL FILE: COUNT GETs on one connection; one line a request in loop-ID, and whether the bytes
# are COUNT times FILE
get_loop() {
  local seen expected
  seen="$(get -w '%{stderr}%{http_code} %{num_connects} %header{x-generation} %header{x-instance}\n' \
    "$3?[1-$2]" 2>>"$tmp/loop-$1" | sum)"
  expected="$(yes "$4" | head -"$2" | xargs cat | sum)"
  [ "$seen" = "$expected" ] || echo "bytes differ" >>"$tmp/loop-$1"
}
# loops: all lines that are not a 200, counted by kind
trouble() { cat "$tmp"/loop-* | grep -v '^200 ' | sort | uniq -c | tr -s ' \n' ' '; }
reconnects() { cat "$tmp"/loop-* | awk '{ sum += $2 } END { print sum + 0 }'; }
accepted() { # of both instances, this question included
  for at in "$port_a" "$port_b"; do curl -fsS "http://127.0.0.1:$at/status" | awk 'NR == 3 { print $1 }'; done | awk '{ sum += $1 } END { print sum }'
}

section "20,000 GETs while nginx closes each connection after 100 requests"
rm -f "$tmp"/loop-*
before="$(accepted)"
loops=()
for id in 1 2 3 4; do
  get_loop "$id" 5000 "$web/files/1k.bin" "$site/files/1k.bin" &
  loops+=($!)
done
wait "${loops[@]}"
opened=$(($(accepted) - before))
same "requests without an answer of 200 and the right bytes" "" "$(trouble)"
same "answers" 20000 "$(cat "$tmp"/loop-* | grep -c '^200 ')"
same "connections of the four clients: the gateway closed none" 4 "$(reconnects)"
holds "nginx closed connections: it saw $opened" test "$opened" -ge 190

section "5,000 POSTs, which may not be tried again, under the same"
seq -f 'number %g' 5000 >"$tmp/expected"
seq 5000 | awk -v url="$web/echo" '{ if (NR > 1) print "next"; print "url = \"" url "\""; print "data = \"number " $1 "\""; print "silent"; print "show-error"; print "write-out = \" %{http_code}\\n\"" }' >"$tmp/posts"
sed -i 's/$/ 200/' "$tmp/expected"
get -K "$tmp/posts" >"$tmp/seen" 2>&1
same "each got its own body back" "$(sum "$tmp/expected")" "$(sum "$tmp/seen")"
diff "$tmp/expected" "$tmp/seen" | head -5

section "connections that nginx closed while they waited (keepalive_timeout 1s)"
stale=0 wrong=0
for _ in 1 2 3 4 5 6; do
  for n in 1 2 3 4; do
    [ "$(get -d "stale $n" -w ' %{http_code}' "$web/echo-short")" = "stale $n 200" ] || wrong=$((wrong + 1))
    stale=$((stale + 1))
  done
  sleep 1.3
done
same "$stale POSTs, in bursts after pauses of 1.3 s: failed" 0 "$wrong"
rm -f "$tmp"/loop-*
loops=()
for id in 1 2 3 4 5 6 7 8; do
  (
    for n in 1 2 3 4 5 6 7 8 9 10; do
      get -o /dev/null -w "%{http_code} %{num_connects}\n" "$web/short/1k.bin" 2>&1
      sleep "$(awk -v id="$id" -v n="$n" 'BEGIN { print 0.98 + (id * 10 + n) / 2000 }')"
    done >>"$tmp/loop-$id"
  ) &
  loops+=($!)
done
wait "${loops[@]}"
same "80 GETs, just as nginx closes: failed" "" "$(trouble)"

if command -v wrk >/dev/null; then
  section "wrk, 64 connections, 8 s"
  wrk -t2 -c64 -d8s "$web/files/4096.bin" >"$tmp/wrk"
  grep -E 'requests in|Requests/sec' "$tmp/wrk"
  same "errors" "" "$(grep -E 'Socket errors|Non-2xx' "$tmp/wrk")"
fi

# ---------------------------------------------------------------- nginx reloads, stops and starts under load

# under_load URL-PATH COMMAND...: four clients GET in rounds of 500 while COMMAND runs
under_load() {
  local path="$1" id
  shift
  rm -f "$tmp"/loop-* "$tmp/stop"
  loops=()
  for id in 1 2 3 4; do
    while ! [ -e "$tmp/stop" ]; do get_loop "$id" 500 "$web$path" "$site/files/4096.bin"; done &
    loops+=($!)
  done
  "$@"
  touch "$tmp/stop"
  wait "${loops[@]}"
}
reload_both() {
  local generation
  for generation in 1 2 3 4 5 6; do
    nginx_config a "$port_a" "$generation"
    nginx_config b "$port_b" "$generation"
    kill -HUP "$master_a"
    sleep 0.5
    kill -HUP "$master_b"
    sleep 1
  done
}
stop_and_start_b() {
  local how
  for how in QUIT TERM QUIT; do
    sleep 1
    kill "-$how" "$master_b"
    wait_gone "$master_b" 10
    sleep 1
    start_nginx b "$port_b" && master_b=$spawned
  done
  sleep 1
}

section "six reloads of both instances under load"
under_load /files/4096.bin reload_both
same "failed GETs of $(cat "$tmp"/loop-* | wc -l)" "" "$(trouble)"
same "generations of nginx that answered" "0 1 2 3 4 5 6" "$(cat "$tmp"/loop-* | awk '{ print $3 }' | sort -un | tr '\n' ' ' | sed 's/ $//')"
same "connections: one for each round of 500" "$(($(cat "$tmp"/loop-* | wc -l) / 500))" "$(reconnects)"

section "one instance stops and starts three times under load"
under_load /patient/files/4096.bin stop_and_start_b
same "failed GETs of $(cat "$tmp"/loop-* | wc -l)" "" "$(trouble)"
holds "the other and then both answered" test "$(cat "$tmp"/loop-* | awk '{ print $4 }' | sort -u | wc -l)" = 2

# ---------------------------------------------------------------- what it leaves behind

section "slow clients and clients that go away"
rss() { awk '/VmRSS/ { print $2 }' "/proc/$gateway/status"; }
before="$(rss)"
loops=()
for id in 1 2 3 4 5 6 7 8; do
  get --limit-rate 8M "$web/files/67108864.bin" 2>&1 | sum >"$tmp/slow-$id" &
  loops+=($!)
done
sleep 3
grown=$((($(rss) - before) / 1024))
holds "eight slow downloads of 64 MiB: $grown MiB more memory" test "$grown" -lt 32
wait "${loops[@]}"
same "... and all complete" "8 $(sum "$site/files/67108864.bin")" "$(cat "$tmp"/slow-* | uniq -c | sed 's/^ *//')"
for _ in $(seq 20); do
  curl -sS --max-time 0.1 --limit-rate 1M -o /dev/null "$web/chunked/67108864.bin" 2>/dev/null
  curl -sS --max-time 0.1 --limit-rate 1M -T "$site/files/67108864.bin" -o /dev/null "$web/dav/gone.bin" 2>/dev/null
done
sleep 1
same "requests in flight at the end" 0 "$(metric tidegate_endpoint_in_flight)"
same "... by the gateway's count" 0 "$(metric tidegate_requests_active)"
same "panics" 0 "$(metric tidegate_panics_total)"
kill -TERM "$gateway"
wait "$gateway"
same "the gateway drains and exits with" 0 $?
[ "$failed" -gt 0 ] || rm -rf "$site" "$dav" "$tmp" "$PROOF_DIR/access.log"
finish
