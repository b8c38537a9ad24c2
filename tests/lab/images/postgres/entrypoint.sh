#!/usr/bin/env bash
# Stand-in for the official postgres image's entrypoint: same variables, same folders, same order of events.
set -Eeuo pipefail

fail() { echo "error: $*" >&2; exit 1; }

# The value of a variable, or of the file that <variable>_FILE names; both at once are a mistake.
setting() {
  local name=$1 default=${2:-} file="${1}_FILE"
  if [[ -n ${!name:-} && -n ${!file:-} ]]; then fail "both $name and $file are set"; fi
  if [[ -n ${!name:-} ]]; then printf %s "${!name}"
  elif [[ -n ${!file:-} ]]; then cat "${!file}"
  else printf %s "$default"; fi
}

prepare_folders() {
  mkdir --parents "$PGDATA"
  chmod 00700 "$PGDATA" || true
  mkdir --parents /var/run/postgresql || true
  chmod 03775 /var/run/postgresql || true
  if [[ $(id -u) == 0 ]]; then
    find "$PGDATA" ! -user postgres -exec chown postgres '{}' +
    find /var/run/postgresql ! -user postgres -exec chown postgres '{}' +
  fi
}

# From 18 on the volume is the parent folder; a mount or a cluster where they used to be is not silently ignored.
refuse_old_layout() {
  (( PG_MAJOR >= 18 )) && [[ $PGDATA == "/var/lib/postgresql/$PG_MAJOR/docker" ]] || return 0
  local old=/var/lib/postgresql/data
  if [[ -s /var/lib/postgresql/PG_VERSION || -s $old/PG_VERSION ]] || grep -q " $old " /proc/self/mountinfo; then
    fail "there is PostgreSQL data, or a volume, in $old or /var/lib/postgresql: since 18 mount /var/lib/postgresql," \
      "the data goes to $PGDATA; see pg_upgrade for the old data"
  fi
}

query() { psql --set ON_ERROR_STOP=1 --no-password --no-psqlrc --username "$POSTGRES_USER" "$@"; }

run_init_scripts() {
  local script
  for script in /docker-entrypoint-initdb.d/*; do
    echo "init: $script"
    # A script without the executable bit is sourced, as officially.
    # shellcheck disable=SC1090
    case $script in
      *.sh) if [[ -x $script ]]; then "$script"; else . "$script"; fi ;;
      *.sql) query --dbname "$POSTGRES_DB" --file "$script" ;;
      *.sql.gz) gunzip --stdout "$script" | query --dbname "$POSTGRES_DB" ;;
      *) echo "init: ignored" ;;
    esac
  done
}

first_start() {
  POSTGRES_PASSWORD=$(setting POSTGRES_PASSWORD)
  POSTGRES_USER=$(setting POSTGRES_USER postgres)
  POSTGRES_DB=$(setting POSTGRES_DB "$POSTGRES_USER")
  POSTGRES_INITDB_ARGS=$(setting POSTGRES_INITDB_ARGS)
  local method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256} arguments=()
  export POSTGRES_PASSWORD POSTGRES_USER POSTGRES_DB
  if [[ -z $POSTGRES_PASSWORD && $method != trust ]]; then
    fail "the database is new and POSTGRES_PASSWORD is empty"
  fi
  ls /docker-entrypoint-initdb.d/ > /dev/null
  shopt -s nullglob
  eval "arguments=($POSTGRES_INITDB_ARGS)"
  initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") "${arguments[@]}"
  printf '\nhost all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"
  # Only the socket: whoever connects over TCP must not take the half-made database for the real one.
  export PGPASSWORD=$POSTGRES_PASSWORD
  pg_ctl --pgdata "$PGDATA" --wait --options "$* -c listen_addresses= -p ${PGPORT:-5432}" start
  if [[ $POSTGRES_DB != postgres ]]; then
    query --dbname postgres --set db="$POSTGRES_DB" <<< 'CREATE DATABASE :"db"'
  fi
  run_init_scripts
  pg_ctl --pgdata "$PGDATA" --mode fast --wait stop
  unset PGPASSWORD
  echo "init: complete, ready for start up"
}

if [[ ${1:-} == -* ]]; then set -- postgres "$@"; fi
if [[ ${1:-} == postgres && " $* " != *" --help "* && " $* " != *" --version "* && " $* " != *" -V "* ]]; then
  prepare_folders
  if [[ $(id -u) == 0 ]]; then
    exec setpriv --reuid=postgres --regid=postgres --init-groups "${BASH_SOURCE[0]}" "$@"
  fi
  if [[ ! -s $PGDATA/PG_VERSION ]]; then
    refuse_old_layout
    first_start "${@:2}"
  fi
fi
exec "$@"
