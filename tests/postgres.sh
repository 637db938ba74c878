#!/usr/bin/env bash
# A PostgreSQL cluster of its own for tests and benchmarks: `tests/postgres.sh start FOLDER PORT [NAME=VALUE…]` makes it in an
# empty folder, starts it with these settings and prints its URL; `tests/postgres.sh stop FOLDER` ends it. Exit code 3: no
# PostgreSQL server is installed.
set -euo pipefail
action=$1 folder=$2
bindir=$(compgen -G '/usr/lib/postgresql/*/bin' | sort -V | tail -n 1 || true)
[ -x "$bindir/initdb" ] || bindir=$(dirname "$(command -v initdb || echo /none/initdb)")
[ -x "$bindir/initdb" ] || { echo "no PostgreSQL server is installed" >&2; exit 3; }

# The server refuses to run as root.
as_postgres() { if [ "$(id -u)" = 0 ]; then (cd / && su postgres -s /bin/bash -c "$*"); else bash -c "$*"; fi; }

case $action in
start)
  port=$3
  settings=("${@:4}")
  if [ "$(id -u)" = 0 ]; then chown postgres "$folder"; fi
  as_postgres "echo sunledger > '$folder/password' && '$bindir/initdb' -D '$folder/pg' -U sunledger \
    --pwfile='$folder/password' -A scram-sha-256 -E UTF8 --locale=C" >/dev/null
  as_postgres "'$bindir/pg_ctl' -D '$folder/pg' -w -l '$folder/pg.log' \
    -o \"-p $port -k $folder -c listen_addresses=127.0.0.1 ${settings[*]/#/-c }\" start" >/dev/null
  echo "postgresql://sunledger:sunledger@127.0.0.1:$port/postgres"
  ;;
stop)
  as_postgres "'$bindir/pg_ctl' -D '$folder/pg' -m immediate stop" >/dev/null 2>&1 || true
  ;;
*)
  echo "expected start or stop, was $action" >&2
  exit 2
  ;;
esac
