# Shared by the scripts that make, read and rehearse backups: their settings, their lock, whom they tell; not run by itself.
# shellcheck shell=bash disable=SC2034 # not every script uses everything

# shellcheck source-path=SCRIPTDIR source=server.sh
. "$(dirname "${BASH_SOURCE[0]}")/server.sh"

# Not in .env: that file is backed up itself, and no container needs what opens the backups.
settings_file=$app/backup.env
backups=$state/backups # a line for each run: time, what, result, id, bytes, seconds, text

# Besides saying it, keeps why for whoever is told of a run that failed.
trouble_file=''
fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  [ -z "$trouble_file" ] || printf '%s\n' "$*" >>"$trouble_file"
  exit 1
}

# why_it_failed: what `fail` has said first.
why_it_failed() { head -n 1 "$trouble_file" 2>/dev/null || echo 'it was interrupted'; }

backup_settings() {
  [ -f "$settings_file" ] || fail "$settings_file is missing: make it from $infra/backup.env.example, as docs/runbooks/set-up-backups.md shows"
  [ "$(stat -c %a "$settings_file")" = 600 ] || fail "$settings_file can be read by others: chmod 600 $settings_file"
}

setting() { value "$settings_file" "$1"; }

# backup_lock TEXT: a backup does not hinder a deploy; a second one would only take the first one's bandwidth.
backup_lock() { lock "$1" "$state/backup.lock"; }

# in_memory: sets $memory to a folder that no disk ever sees; those of runs that were killed go.
in_memory() {
  local old
  for old in /dev/shm/slipway-"${0##*/}"-*; do
    [ ! -O "$old" ] || [ -e "/proc/${old##*-}" ] || rm -rf "$old"
  done
  memory=/dev/shm/slipway-${0##*/}-$$
  rm -rf "$memory" && mkdir -m 700 "$memory"
}

# ask_url SETTING [TEXT]: a dead man's switch, or whoever is to be told; the address stays out of the process list.
ask_url() {
  local url
  url=$(setting "$1")
  [ -n "$url" ] || return 0
  printf 'url = "%s"\n' "$url" | curl --silent --show-error --fail --location --retry 3 --max-time 20 --output /dev/null ${2:+--data-raw "$2"} --config - ||
    note "$1 could not be reached"
}

# ping_ok SETTING: tells the dead man's switch that all is well; its silence is what raises the alarm.
ping_ok() { ask_url "$1"; }

# ping_failed TEXT
ping_failed() { ask_url BACKUP_FAIL_URL "$(fact APP): $1"; }

# record_backup WHAT RESULT ID BYTES BEGAN TEXT
record_backup() {
  printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$(date -u +%FT%TZ)" "$1" "$2" "${3:--}" "${4:-0}" "$(seconds_since "$5")" "$(printf '%s' "${6:--}" | tr '\t\n' '  ')" >>"$backups"
}

need_jq() { have jq || fail 'jq is missing: apt-get install jq (docs/runbooks/provision-server.md, step 3)'; }

# newest WHAT: the last line of it that ended well.
newest() { [ ! -f "$backups" ] || awk -F '\t' -v what="$1" '$2 == what && $3 == "ok"' "$backups" | tail -n 1; }

# max_age: hours after which a backup is too old.
max_age() {
  local hours
  hours=$(setting BACKUP_MAX_AGE_HOURS)
  echo "${hours:-26}"
}

age_in_hours() { echo $((($(date +%s) - $(date -d "$1" +%s)) / 3600)); }

# in_the_future TIME: further than clocks differ.
in_the_future() { [ "$(date -d "$1" +%s)" -gt $(($(date +%s) + 600)) ]; }

size() { numfmt --to=iec "${1:-0}"; }

# --- The database ----------------------------------------------------------------------------------------------------

# in_database DATABASE COMMAND…: a client program beside the database, as its administrator; standard input goes to it.
in_database() {
  local database=$1
  shift
  if [ "$(fact DATABASE)" = container ]; then
    docker exec --interactive --env "PGDATABASE=$database" --env PGAPPNAME=slipway-backup "$(containers postgres running)" sh -c 'PGUSER=$POSTGRES_USER PGDATABASE=${PGDATABASE:-$POSTGRES_DB} exec "$@"' sh "$@"
  else
    local instead=(INFRA_DIR="$infra" ${database:+POSTGRES_DB="$database"})
    compose "$release" "$live_env" run --rm -T --no-deps --env PGAPPNAME=slipway-backup roles "$@"
  fi
}

ask_database() { in_database "$1" psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 "${@:2}"; }

# What a copy must have in common with its original, a line for each: rows of every table, large objects, extensions, and
# everything that makes the schema.
facts_of_a_database() {
  cat <<'SQL'
SET search_path = pg_catalog;
SELECT 'extension' || E'\t' || extname FROM pg_extension ORDER BY 1;
SELECT 'objects' || E'\t' || count(*) FROM pg_largeobject_metadata;
SELECT 'rows' || E'\t' || format('%I.%I', nspname, relname) || E'\t' ||
       (xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM ONLY %I.%I', nspname, relname), false, true, '')))[1]::text
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE relkind IN ('r', 'm') AND nspname <> 'information_schema' AND nspname !~ '^pg_' ORDER BY 1;
SELECT 'column' || E'\t' || format('%I.%I.%I %s%s%s', nspname, relname, attname, format_type(atttypid, atttypmod),
       CASE WHEN attnotnull THEN ' not null' END, ' default ' || pg_get_expr(adbin, adrelid))
FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = attrelid JOIN pg_namespace AS n ON n.oid = relnamespace
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND nspname <> 'information_schema' AND nspname !~ '^pg_'
ORDER BY 1;
SELECT 'index' || E'\t' || indexdef FROM pg_indexes WHERE schemaname <> 'information_schema' AND schemaname !~ '^pg_' ORDER BY 1;
SELECT 'constraint' || E'\t' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(k.oid)
FROM pg_constraint AS k JOIN pg_namespace AS n ON n.oid = connamespace
WHERE conrelid <> 0 AND contype <> 'n' AND nspname <> 'information_schema' AND nspname !~ '^pg_' ORDER BY 1;
SELECT 'trigger' || E'\t' || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1;
SELECT 'routine' || E'\t' || p.oid::regprocedure || ' ' || md5(prosrc)
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = pronamespace
WHERE nspname <> 'information_schema' AND nspname !~ '^pg_' ORDER BY 1;
SELECT 'view' || E'\t' || format('%I.%I ', schemaname, viewname) || md5(definition) FROM pg_views
WHERE schemaname <> 'information_schema' AND schemaname !~ '^pg_' ORDER BY 1;
SQL
}
