#!/usr/bin/env bash
# The main job, end to end, on a throwaway PostgreSQL: archive, back up under
# load, lose everything, restore to a point in time, count every row.
#
# Usage: demo/demo.sh path/to/walport
#
# Nothing outside a temporary folder is touched. PostgreSQL refuses to run as
# root, so as root the demo runs everything as the user postgres.
set -euo pipefail

walport=$(realpath "${1:?usage: demo/demo.sh path/to/walport}")

bold='' dim='' green='' red='' plain=''
if [ -t 1 ]; then
    bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
note() { printf '  %s\n' "$*"; }
fail() {
    printf '%sdemo: %s%s\n' "$red" "$*" "$plain" >&2
    exit 1
}

# --- PostgreSQL -----------------------------------------------------------
bin=''
for folder in /usr/lib/postgresql/*/bin "$(dirname "$(command -v postgres || echo /nowhere/x)")"; do
    [ -x "$folder/postgres" ] && [ -x "$folder/pgbench" ] && bin=$folder
done
[ -n "$bin" ] || fail "no PostgreSQL with its client programs was found; run tests/setup, or apt-get install postgresql"

as=()
if [ "$(id -u)" = 0 ]; then
    as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi

# --- A place for all of it ------------------------------------------------
place=$(mktemp -d /tmp/walport-demo.XXXXXX)
main=$place/main restored=$place/restored socket=$place/socket
cleanup() {
    local code=$?
    for data in "$main" "$restored"; do
        [ -f "$data/postmaster.pid" ] && kill -QUIT "$(head -1 "$data/postmaster.pid")" 2>/dev/null && sleep 0.3
    done
    [ -n "${load:-}" ] && kill "$load" 2>/dev/null
    if [ $code -ne 0 ]; then
        printf '%sThe demo failed; its files are in %s%s\n' "$red" "$place" "$plain" >&2
        tail -n 15 "$place"/*.log >&2 2>/dev/null || true
    else
        rm -rf "$place"
    fi
}
trap cleanup EXIT
mkdir "$place/archive" "$socket"
# A copy, since a folder of root's may be closed to postgres.
cp "$walport" "$place/walport"
chmod 755 "$place" "$place/walport"
[ ${#as[@]} -gt 0 ] && chown -R postgres:postgres "$place"

cat >"$place/walport.json" <<EOF
{
  "WALG_FILE_PREFIX": "$place/archive",
  "WALG_COMPRESSION_METHOD": "zstd",
  "PGHOST": "$socket", "PGUSER": "postgres"
}
EOF
chmod 644 "$place/walport.json"

clean() { (cd "$place" && "${as[@]}" env -i PATH=/usr/bin:/bin HOME="$place" LC_ALL=C.UTF-8 "$@"); }
walport() {
    printf '  %s$ walport %s%s\n' "$dim" "$*" "$plain"
    clean "$place/walport" --config "$place/walport.json" "$@" 2>&1 | sed 's/^/  /'
}
sql() { clean "$bin/psql" -XqAt -v ON_ERROR_STOP=1 -h "$socket" -U postgres -d postgres -c "$1"; }
start() {
    clean "$bin/postgres" -D "$1" -k "$socket" -c listen_addresses= >>"$place/$(basename "$1").log" 2>&1 &
    for _ in $(seq 600); do
        [ "$(sed -n 8p "$1/postmaster.pid" 2>/dev/null | tr -d ' ')" = ready ] && return
        kill -0 $! 2>/dev/null || fail "PostgreSQL ended while starting"
        sleep 0.1
    done
    fail "PostgreSQL did not start within a minute"
}
rows() {
    sql "select count(*) || ' rows, digest ' || sum(hashtext(t::text)::bigint) from (
        select a::text from pgbench_accounts a union all select b::text from pgbench_branches b
        union all select t::text from pgbench_tellers t union all select h::text from pgbench_history h
        union all select p::text from payments p) t"
}
seconds() { awk -v from="$1" -v to="$(date +%s.%N)" 'BEGIN { printf "%.1f", to - from }'; }

begin=$(date +%s.%N)
step "1. A throwaway PostgreSQL $("$bin/postgres" --version | awk '{print $3}') that archives its WAL with Walport"
clean "$bin/initdb" -D "$main" -U postgres --data-checksums --no-sync -A trust >"$place/initdb.log"
cat >>"$main/postgresql.conf" <<EOF
archive_mode = on
archive_command = '$place/walport --config $place/walport.json wal-push "%p"'
EOF
start "$main"
note "archive_command = 'walport wal-push \"%p\"'"
clean "$bin/pgbench" -h "$socket" -U postgres -i -q -s 10 postgres >>"$place/pgbench.log" 2>&1
sql "create table payments (id int primary key, paid timestamptz default clock_timestamp())"
note "$(sql "select pg_size_pretty(sum(pg_database_size(oid))) from pg_database") of data"

step "2. A base backup while pgbench writes"
clean "$bin/pgbench" -h "$socket" -U postgres -n -c 2 -T 8 postgres >>"$place/pgbench.log" 2>&1 &
load=$!
sleep 1
walport backup-push "$main"
wait "$load" || fail "pgbench failed"
load=''
note "pgbench committed $(sql 'select count(*) from pgbench_history') transactions meanwhile"

step "3. More work, and a good moment"
sql "insert into payments select generate_series(1, 5000)"
good=$(rows)
sleep 0.1
time=$(sql "select clock_timestamp()")
sleep 0.1
note "at $time: $good"

step "4. The accident: rows are added, then a table is dropped, then the disk is lost"
sql "insert into payments select generate_series(5001, 6000)"
sql "drop table pgbench_accounts"
sql "select pg_logical_emit_message(true, 'demo', 'the end')" >/dev/null
last=$(sql "select pg_walfile_name(pg_switch_wal())")
for _ in $(seq 300); do
    [[ "$(sql "select coalesce(last_archived_wal, '') from pg_stat_archiver")" < "$last" ]] || break
    sleep 0.1
done
note "$(sql 'select archived_count from pg_stat_archiver') WAL files were archived, $(sql 'select failed_count from pg_stat_archiver') attempts failed"
kill -KILL "$(head -1 "$main/postmaster.pid")"
wait 2>/dev/null || true
sleep 0.5
rm -rf "$main"
note "the data directory is gone; what is left is the archive:"
walport backup-list
note "$(du -sh "$place/archive" | cut -f1) in $(find "$place/archive" -type f | wc -l) files"

step "5. Restore to the good moment"
walport backup-fetch "$restored" LATEST
cat >>"$restored/postgresql.conf" <<EOF
archive_mode = off
hot_standby = off
restore_command = '$place/walport --config $place/walport.json wal-fetch "%f" "%p"'
recovery_target_time = '$time'
recovery_target_action = promote
EOF
touch "$restored/recovery.signal"
[ ${#as[@]} -gt 0 ] && chown postgres:postgres "$restored/recovery.signal"
since=$(date +%s.%N)
start "$restored"
note "PostgreSQL replayed the WAL through 'walport wal-fetch' and opened after $(seconds "$since") s"

step "6. Is every row there, and nothing else?"
found=$(rows)
note "wanted: $good"
note "found:  $found"
[ "$found" = "$good" ] || fail "the rows differ"
sound=''
if [ -x "$bin/pg_amcheck" ] && clean "$bin/pg_amcheck" -h "$socket" -U postgres --all --install-missing \
    --heapallindexed >"$place/amcheck.log" 2>&1; then
    sound=', pg_amcheck found nothing'
elif [ -x "$bin/pg_amcheck" ] && [ -e "$("$bin/pg_config" --sharedir 2>/dev/null)/extension/amcheck.control" ]; then
    fail "pg_amcheck found damage"
fi
kill -INT "$(head -1 "$restored/postmaster.pid")"
wait 2>/dev/null || true
if [ -x "$bin/pg_checksums" ]; then
    clean "$bin/pg_checksums" --check -D "$restored" >"$place/checksums.log" 2>&1 || fail "pg_checksums found damage"
    sound="$sound, pg_checksums found nothing"
fi
printf '\n%sEvery row is there%s.%s The demo took %s s.\n' "$green" "$sound" "$plain" "$(seconds "$begin")"
