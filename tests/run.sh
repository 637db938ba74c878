#!/usr/bin/env bash
# The whole suite: once on SQLite, then what touches a database once more on PostgreSQL.
#
# TEST_POSTGRES_URL names a PostgreSQL server whose user may create databases, e.g.
# postgresql://sunledger:sunledger@127.0.0.1:5432/sunledger. Without it that half says so and is left out, except where CI is set.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
data=$(mktemp -d)
trap 'rm -rf "$data"' EXIT
export SUNLEDGER_DATA="$data/sqlite"
unset DATABASE_URL SUNLEDGER_DEMO

# Servers, browsers and the database make tests wait: two more than there are cores keep the cores busy.
workers=${TEST_WORKERS:-$(($(nproc) + 2))}
# In the order of their names: the long files of browsers come early, and the short ones of tests/unit fill the end.
parallel=(-n "$workers" --dist loadfile --no-loadscope-reorder)
echo "== SQLite =="
"$python" -m pytest "${parallel[@]}" "$@"

if [ -n "${TEST_POSTGRES_URL:-}" ]; then
  echo "== PostgreSQL =="
  export DATABASE_URL="$TEST_POSTGRES_URL" SUNLEDGER_DATA="$data/postgres"
  "$python" -m pytest "${parallel[@]}" tests/integration tests/streaming tests/api
elif [ -n "${CI:-}" ]; then
  echo "TEST_POSTGRES_URL is not set: in CI nothing may be left out" >&2
  exit 1
else
  echo "PostgreSQL half left out: set TEST_POSTGRES_URL to run it"
fi
