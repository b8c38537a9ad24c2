# Shared by backup, restore and restore-drill where pgBackRest makes the backups; not run by itself.
# shellcheck shell=bash disable=SC2034 # not every script uses everything

# shellcheck source-path=SCRIPTDIR source=backup.sh
. "$(dirname "${BASH_SOURCE[0]}")/backup.sh"

# --- Settings --------------------------------------------------------------------------------------------------------

# repositories: 1, and 2 where backup.env names a second one.
repositories() {
  echo 1
  [ -z "$(setting BACKUP2_REPOSITORY)" ] || echo 2
}

# of_repository NUMBER NAME: BACKUP_NAME or BACKUP2_NAME; the keys of an object storage have their usual names.
of_repository() {
  case $1:$2 in
    1:AWS_*) setting "$2" ;;
    1:*) setting "BACKUP_$2" ;;
    *) setting "BACKUP2_$2" ;;
  esac
}

# For object storage whose certificate is of an authority of one's own.
authority=$app/backup_ca.pem

# key_of NUMBER: the private key of an SFTP target.
key_of() { if [ "$1" = 1 ]; then echo "$app/backup_key"; else echo "$app/backup2_key"; fi; }

needed() { [ -n "$2" ] || fail "$1 is missing or empty in $settings_file"; }

readonly sftp_pattern='^sftp://([^@:/]+)@([^@:/]+)(:([0-9]+))?/?(/.+)$' sftp_short_pattern='^sftp:([^@:/]+)@([^@:/]+):(/.+)$'
readonly s3_pattern='^s3:https://([^/:]+)(:([0-9]+))?/([^/]+)(/.+)?$'

# is_sftp NUMBER
is_sftp() { [[ $(of_repository "$1" REPOSITORY) == sftp:* ]]; }

# lines_of NUMBER: what pgBackRest must know of this repository, as it wants to read it.
lines_of() {
  local name=BACKUP repository user host port path way
  [ "$1" = 1 ] || name=BACKUP2
  repository=$(of_repository "$1" REPOSITORY)
  needed "${name}_REPOSITORY" "$repository"
  needed "${name}_PASSWORD" "$(of_repository "$1" PASSWORD)"
  if [[ $repository =~ $sftp_pattern ]]; then
    user=${BASH_REMATCH[1]} host=${BASH_REMATCH[2]} port=${BASH_REMATCH[4]:-22} path=${BASH_REMATCH[5]}
  elif [[ $repository =~ $sftp_short_pattern ]]; then
    user=${BASH_REMATCH[1]} host=${BASH_REMATCH[2]} port=22 path=${BASH_REMATCH[3]}
  elif [[ $repository =~ $s3_pattern ]]; then
    host=${BASH_REMATCH[1]} port=${BASH_REMATCH[3]:-443} user=${BASH_REMATCH[4]} path=${BASH_REMATCH[5]:-/$(fact APP)}
  else
    fail "${name}_REPOSITORY=$repository: write sftp://USER@HOST:PORT//FOLDER or s3:https://HOST/BUCKET/FOLDER"
  fi
  if is_sftp "$1"; then
    [ -f "$(key_of "$1")" ] || fail "$(key_of "$1") is missing: infra/bin/backup --setup makes it"
    [ -f "$infra/custom/known_hosts" ] || fail "infra/custom/known_hosts is missing in this release: it must hold the host key of $host (docs/runbooks/set-up-backups.md)"
    way=(type=sftp "sftp-host=$host" "sftp-host-port=$port" "sftp-host-user=$user" sftp-host-key-hash-type=sha256
      "sftp-private-key-file=/etc/pgbackrest/key$1" sftp-known-host=/etc/pgbackrest/known_hosts)
  else
    needed "the access key (AWS_ACCESS_KEY_ID) of repository $1" "$(of_repository "$1" AWS_ACCESS_KEY_ID)"
    needed "the secret (AWS_SECRET_ACCESS_KEY) of repository $1" "$(of_repository "$1" AWS_SECRET_ACCESS_KEY)"
    way=(type=s3 "s3-endpoint=$host" "storage-port=$port" "s3-bucket=$user" s3-uri-style=path
      "s3-region=$(of_repository "$1" AWS_DEFAULT_REGION | grep . || echo us-east-1)"
      "s3-key=$(of_repository "$1" AWS_ACCESS_KEY_ID)" "s3-key-secret=$(of_repository "$1" AWS_SECRET_ACCESS_KEY)")
    [ ! -f "$authority" ] || way+=(storage-ca-file=/etc/pgbackrest/authority.pem)
  fi
  # Full backups are expired by infra/bin/backup, which knows weeks and months; the log is kept for those of the last weeks.
  printf "repo$1-%s\n" "${way[@]}" "path=$path" cipher-type=aes-256-cbc "cipher-pass=$(of_repository "$1" PASSWORD)" bundle=y block=y \
    retention-full=9999999 "retention-diff=$(fact BACKUP_KEEP_DAILY)" \
    retention-archive-type=full "retention-archive=$(weekly)"
}

# weekly: how many full backups, one a week, go with all of the log after them.
weekly() {
  local weeks
  weeks=$(fact BACKUP_KEEP_WEEKLY)
  echo $((weeks > 0 ? weeks : 1))
}

configuration() {
  local number
  printf '%s\n' '# Written by infra/bin/backup from backup.env.' '[global]'
  for number in $(repositories); do lines_of "$number" || exit; done
  printf '%s\n' compress-type=zst process-max=2 start-fast=y spool-path=/var/spool/pgbackrest \
    log-level-file=off log-level-console=warn '[global:archive-push]' archive-async=y archive-timeout=60 \
    '[main]' "pg1-user=$(value "$app/.env" POSTGRES_USER)" "pg1-database=$(value "$app/.env" POSTGRES_DB)"
}

# configure: what the containers read becomes what backup.env says now. Through standard input into a volume that only the
# user postgres of the containers can read; the folder that it is gathered in lies in memory.
configure() {
  local number text stamp
  backup_settings
  text=$(configuration) || exit 1
  stamp=$({ printf '%s\n' "$text" && cat "$infra/custom/known_hosts" "$app/backup_key" "$app/backup2_key" "$authority" 2>/dev/null; } | sha256sum | cut -d ' ' -f 1) || true
  if [ -n "$(containers postgres running)" ] && [ "$(beside cat /etc/pgbackrest/stamp 2>/dev/null </dev/null)" = "$stamp" ]; then return; fi
  in_memory
  (
    umask 077
    printf '%s\n' "$text" >"$memory/pgbackrest.conf"
    printf '%s\n' "$stamp" >"$memory/stamp"
    for number in $(repositories); do
      ! is_sftp "$number" || cp "$(key_of "$number")" "$memory/key$number"
    done
    [ ! -f "$infra/custom/known_hosts" ] || cp "$infra/custom/known_hosts" "$memory/known_hosts"
    [ ! -f "$authority" ] || cp "$authority" "$memory/authority.pem"
  )
  # The settings come last: until they are there, nothing is sent.
  # shellcheck disable=SC2016 # expanded in the container
  tar -C "$memory" -c . | archive sh -c 'set -e; umask 077; cd /etc/pgbackrest; rm -rf .new; mkdir .new; tar -x -C .new --no-same-owner -f -
    printf "pg1-path=%s\n" "$PGDATA" >>.new/pgbackrest.conf; mv .new/pgbackrest.conf .new.conf; for file in .new/*; do [ ! -e "$file" ] || mv -f "$file" .; done
    mv -f .new.conf pgbackrest.conf; rmdir .new' || { rm -rf "$memory" && fail 'the settings could not be handed to the containers, see above'; }
  rm -rf "$memory"
}

# --- pgBackRest ------------------------------------------------------------------------------------------------------

# archive COMMAND…: in a container of its own, with the database's volume and a way to the repository.
archive() {
  local instead=("${instead[@]}" INFRA_DIR="$release/infra")
  compose "$release" "$live_env" run --rm -T --no-deps archive "$@"
}

# beside COMMAND…: in the database's container, as its user.
beside() {
  local running
  running=$(containers postgres running)
  [ -n "$running" ] || fail 'the database does not run: infra/bin/status shows why'
  docker exec --interactive --user postgres "$running" "$@"
}

# look_into NUMBER: what a repository has, left in $catalogue as JSON. The database's own container is asked where it runs, since
# that is quicker.
catalogue=''
look_into() {
  local question=(pgbackrest --stanza=main --repo="$1" --output=json info)
  if [ -n "$(containers postgres running)" ]; then
    catalogue=$(beside "${question[@]}" </dev/null)
  else
    catalogue=$(archive "${question[@]}" </dev/null)
  fi
}

# sets: labels of the backups in it, the oldest first: 20300131-021700F, or with _20300201-021700D behind it.
sets() { grep -oE '"label":"[0-9]{8}-[0-9]{6}F(_[0-9]{8}-[0-9]{6}[DI])?"' <<<"$catalogue" | cut -d '"' -f 4 || true; }

# superfluous: full backups beyond the newest weeks and the newest of each of the last months.
superfluous() {
  sets | grep -E 'F$' | sort -r | awk -v weeks="$(weekly)" -v months="$(fact BACKUP_KEEP_MONTHLY)" '
    { month = substr($0, 1, 6); first = !(month in seen); seen[month] = 1; if (first) of_months++ }
    NR <= weeks || (first && of_months <= months) { next } { print }'
}

# moment LABEL: when that backup began, as a person and date(1) read it.
moment() { sed -E 's/.*([0-9]{4})([0-9]{2})([0-9]{2})-([0-9]{2})([0-9]{2})([0-9]{2})[FDI]$/\1-\2-\3 \4:\5:\6 UTC/' <<<"$1"; }

# last_segment: the last file of the log that is in it.
last_segment() { grep -oE '"max":"[0-9A-F]{24}"' <<<"$catalogue" | cut -d '"' -f 4 | tail -n 1 || true; }

# bytes_of LABEL: how large the restored database is.
bytes_of() { grep -oE "\"size\":[0-9]+\},\"label\":\"$1\"" <<<"$catalogue" | grep -oE '[0-9]+' | head -n 1 || true; }

# room_for LABEL: refuses where a second copy of the database would not fit.
room_for() {
  local folder free bytes
  bytes=$(bytes_of "$1")
  folder=$(docker info --format '{{.DockerRootDir}}')
  until free=$(df --output=avail -B 1 "$folder" 2>/dev/null); do folder=$(dirname "$folder"); done # where it may not look
  free=$((${free##*$'\n'}))
  [ "$free" -gt "$((${bytes:-0} + 1073741824))" ] || fail "$(size "$free") are free where Docker keeps its volumes, and the database needs $(size "$bytes") besides 1 GB to spare: nothing was changed"
  note "$(size "$bytes") to restore, $(size "$free") free"
}

# --- A database that comes back --------------------------------------------------------------------------------------

# fetch VOLUME NUMBER OPTION…: a backup into a new volume. What cannot be read of the log must not pass for its end: PostgreSQL
# would stop there and serve. So only "there is no such file" (1) is handed on, and everything else ends the recovery.
# shellcheck disable=SC2016 # PostgreSQL's shell expands it
readonly restore_command='pgbackrest --stanza=main archive-get %f "%p" || { code=$?; [ $code = 1 ] && exit 1; exit 200; }'
fetch() {
  local volume=$1 number=$2 instead=(POSTGRES_VOLUME="$1")
  shift 2
  # shellcheck disable=SC2016 # expanded in the container
  archive sh -c 'mkdir -p "$PGDATA" && chmod 700 "$PGDATA" && exec pgbackrest --stanza=main --log-level-console=detail restore "$@"' sh \
    --repo="$number" --recovery-option=restore_command="$restore_command" "$@" </dev/null 2>&1 | progress
}

# start_copy CONTAINER VOLUME: a database from a fetched volume that nobody else reaches. It writes no log into the repository, runs
# no subscription, and has a way out for as long as it reads the log.
start_copy() {
  local instead=(INFRA_DIR="$release/infra" POSTGRES_VOLUME="$2")
  compose "$release" "$live_env" run --detach --no-deps --name "$1" archive docker-entrypoint.sh postgres -carchive_mode=off -cshared_buffers=128MB \
    -clisten_addresses= -cmax_logical_replication_workers=0 -cfsync=off >/dev/null
}

# progress: a line for every tenth of what is restored, and whatever is no progress.
progress() {
  awk '/ DETAIL: restore file / { if (match($0, /, [0-9.]+%\)/)) { done = int(substr($0, RSTART + 2)); if (done >= next_line) { printf "    restored %d %%\n", done; fflush(); next_line = done - done % 10 + 10 } } next }
    / (ERROR|WARN): / || /HINT/ { print "    | " $0; fflush() }'
}

# ask_copy CONTAINER SQL [DATABASE]: of a database that is coming back.
# shellcheck disable=SC2016 # expanded in the container
ask_copy() { docker exec --interactive --user postgres "$1" sh -c 'exec psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 --username="$1" --dbname="$2" --command="$3"' sh "$(value "$app/.env" POSTGRES_USER)" "${3:-$(value "$app/.env" POSTGRES_DB)}" "$2"; }

# wait_recovered CONTAINER: until it has read the log and takes writes. As long as the log goes forward, it may take its time.
wait_recovered() {
  local told before='' since=$SECONDS shown=$SECONDS
  while :; do
    if [ "$(docker inspect --format '{{.State.Running}} {{.RestartCount}}' "$1" 2>/dev/null)" != 'true 0' ]; then
      note 'PostgreSQL gave up; the last it wrote:'
      docker logs --tail 20 "$1" 2>&1 | sed 's/^/      | /' || true
      if docker logs --tail 20 "$1" 2>&1 | grep -q 'before configured recovery target was reached'; then
        note 'the log holds nothing that was written after that moment: say latest, or an earlier one'
      fi
      return 1
    fi
    told=$(ask_copy "$1" "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn(), date_trunc('second', pg_last_xact_replay_timestamp())" 2>/dev/null </dev/null) || told=''
    [[ $told != 'f|'* ]] || break
    if [ "$told" != "$before" ]; then before=$told since=$SECONDS; fi
    if [ $((SECONDS - since)) -ge 600 ]; then
      note "the log has not gone forward for ten minutes (${told:-no answer})"
      return 1
    fi
    if [ $((SECONDS - shown)) -ge 10 ]; then shown=$SECONDS && note "reading the log: ${told#*|}"; fi
    sleep 0.5
  done
  told=${told#*|} told=${told#*|}
  [ -z "$told" ] || note "the last transaction is of $told"
}

# cut_off CONTAINER: what comes back beside the live database has no business outside.
cut_off() { docker network disconnect "${project}_archive" "$1"; }

# reached CONTAINER SEGMENT: whether the log was read up to and into that file; what is missing before it ends a recovery early.
reached() {
  local replayed
  replayed=$(ask_copy "$1" "SELECT pg_last_wal_replay_lsn() > ('$(lsn_of "$2")')::pg_lsn" </dev/null)
  [ "$replayed" = t ]
}

# lsn_of SEGMENT: where a file of 16 MB begins.
lsn_of() { printf '%X/%X\n' "$((16#${1:8:8}))" "$((16#${1:16:8} << 24))"; }
