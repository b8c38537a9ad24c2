# Shared by backup, restore and restore-drill: the repositories that restic keeps away from this server; not run by itself.
# shellcheck shell=bash disable=SC2034 # not every script uses everything

# shellcheck source-path=SCRIPTDIR source=backup.sh
. "$(dirname "${BASH_SOURCE[0]}")/backup.sh"

backup_key=$app/backup_key
# Where a record is put together: in memory, since passwords are in it.
record_folder=/dev/shm/slipway-backup${app//\//-}

# The targets that backup.env names, by the beginning of their settings.
targets() {
  local prefix
  for prefix in BACKUP BACKUP2; do
    [ -z "$(setting "${prefix}_SSH")$(setting "${prefix}_REPOSITORY")" ] || echo "$prefix"
  done
}

where_is() {
  local ssh
  ssh=$(setting "$1_SSH")
  echo "${ssh:-$(setting "$1_REPOSITORY")}"
}

# The program comes out of its image, by the digest that the release was tested with: Debian 12's own is too old.
restic_program() {
  local image container program
  image=$(value "$release/release.env" RESTIC_IMAGE)
  image=${image:-$(fact RESTIC_IMAGE)}
  program=$state/tools/restic-$(sha256sum <<<"$image" | cut -c 1-12)
  if [ ! -x "$program" ]; then
    mkdir -p "${program%/*}"
    container=$(docker create "$image") || fail "$image cannot be had: is its registry reachable?"
    docker cp --quiet "$container:/usr/bin/restic" "$program.$$" >/dev/null
    docker rm "$container" >/dev/null
    mv "$program.$$" "$program"
    find "${program%/*}" -name 'restic-*' ! -name "${program##*/}" -delete
  fi
  echo "$program"
}

# become_restic TARGET ARGUMENT…: for $limit seconds at most, if that is set. What restores says --no-lock: a target without a
# free byte must still be read. Secrets reach it by its environment, which other users cannot read, and never as arguments.
become_restic() {
  local target=$1 program ssh host port=22 options=()
  local with_key="-i $backup_key -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15 -o ServerAliveCountMax=8 -o StrictHostKeyChecking=yes -o UserKnownHostsFile=$infra/custom/known_hosts"
  shift
  program=$(restic_program) || exit 1
  ssh=$(setting "${target}_SSH")
  if [ -n "$ssh" ]; then
    host=${ssh%:*}
    [ "$host" = "$ssh" ] || port=${ssh##*:}
    RESTIC_REPOSITORY=rclone:backup
    # What the other end runs is what its authorized_keys says: `rclone serve restic`, which only adds.
    options=(--option "rclone.program=ssh -p $port $with_key $host" --option rclone.timeout=1m)
  else
    RESTIC_REPOSITORY=$(setting "${target}_REPOSITORY")
    AWS_ACCESS_KEY_ID=$(setting "${target}_AWS_ACCESS_KEY_ID")
    AWS_SECRET_ACCESS_KEY=$(setting "${target}_AWS_SECRET_ACCESS_KEY")
    [[ $RESTIC_REPOSITORY != sftp:* ]] || options=(--option "sftp.args=$with_key")
    export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
  fi
  RESTIC_PASSWORD=${typed_password-$(setting "${target}_PASSWORD")}
  RESTIC_CACHE_DIR=$state/restic-cache
  # Times are compared as text.
  export RESTIC_REPOSITORY RESTIC_PASSWORD RESTIC_CACHE_DIR TZ=UTC
  exec ${limit:+timeout "$limit"} "$program" --retry-lock 5m "${options[@]}" "$@"
}

# restic TARGET ARGUMENT…
restic() (become_restic "$@")

# answer_seconds: by itself restic asks for a quarter of an hour before it believes that a key has expired.
answer_seconds() {
  local seconds
  seconds=$(setting BACKUP_ANSWER_SECONDS)
  echo "${seconds:-120}"
}

# why_restic CODE: what its exit code means, and what to do.
why_restic() {
  case $1 in
    10) echo 'there is no repository yet: infra/bin/backup --setup makes it' ;;
    11) echo 'somebody else works in the repository: try again later' ;;
    12) echo 'the password does not open it: BACKUP_PASSWORD in backup.env must be the one that was kept at set-up' ;;
    124) echo "no answer came within $limit s: is it there, and is its key still good? See what restic says above" ;;
    130) echo 'it was interrupted' ;;
    *) echo 'see what restic says above' ;;
  esac
}

# restic_or_fail WHAT TARGET ARGUMENT…
restic_or_fail() {
  local what=$1 code=0
  shift
  restic "$@" || code=$?
  [ "$code" = 0 ] || fail "$what: $(why_restic "$code") ($(where_is "$1"))"
}

# --- Records: a backup without one was never read back ---------------------------------------------------------------

# records TARGET: "ID TIME DUMP BYTES RELEASE FOLDER NUMBER", the newest first; the folder is what it was called when it was stored.
# They are numbered as they come, since a clock can be wrong.
records() {
  local listed limit
  limit=$(answer_seconds)
  listed=$(restic_or_fail 'the backups cannot be listed' "$1" snapshots --no-lock --json </dev/null) || exit 1
  jq -r '
    def tagged(prefix): .tags[] | select(startswith(prefix)) | ltrimstr(prefix);
    [.[] | select(.tags != null)]
    | (map({(.short_id): .}) | add) as $all
    | map(select(.tags | index("record")) | .number = (first(tagged("number-")) // "0" | tonumber))
    | sort_by(.number, .time) | reverse | .[]
    | first(tagged("of-") | select($all[.].tags // [] | index("database"))) as $dump
    | [.short_id, (.time | sub("\\.[0-9]+"; "")), $dump, ($all[$dump].summary.total_bytes_processed // 0), (first(tagged("release-")) // "-"), .paths[0], .number]
    | join(" ")' <<<"$listed"
}

id='' time='' dump='' bytes='' stored='' # of the backup that was chosen

# choose_record TARGET ID|latest|TIME: sets id, time, dump, bytes and stored; of a time, the last one before it.
choose_record() {
  local all line wanted=$2
  all=$(records "$1") || exit 1
  [ -n "$all" ] || fail "no backup at $(where_is "$1") was ever read back: infra/bin/backup makes one"
  case $wanted in
    latest) line=${all%%$'\n'*} ;;
    *-*-*)
      wanted=$(date -u -d "$2" +%FT%TZ) || fail "$2 is no time: 2030-05-01T12:00Z, say"
      line=$(awk -v wanted="$wanted" '$2 <= wanted { print; exit }' <<<"$all")
      ;;
    *) line=$(awk -v wanted="$wanted" 'index($1, wanted) == 1 { print; exit }' <<<"$all") ;;
  esac
  [ -n "$line" ] || fail "there is no backup $2 at $(where_is "$1"): infra/bin/restore --list shows them"
  read -r id time dump bytes _ stored _ <<<"$line"
}

# read_record TARGET: what was chosen, into $memory.
read_record() {
  restic_or_fail "record $id cannot be read" "$1" restore --no-lock --quiet "$id:$stored" --target "$memory" </dev/null >/dev/null
  [ -s "$memory/about" ] && [ -s "$memory/facts" ] || fail "record $id is not whole: choose another one (infra/bin/restore --list)"
}

# compare_with_record COMMAND…: it answers SQL in the copy.
compare_with_record() {
  facts_of_a_database | "$@" >"$memory/facts.restored"
  diff "$memory/facts" "$memory/facts.restored" >"$memory/differences" || {
    head -n 20 "$memory/differences" | sed 's/^/    | /'
    fail "what was restored is not what was backed up ($(wc -l <"$memory/differences") lines differ; <: written down, >: restored)"
  }
  note "$(grep -c '^rows' "$memory/facts") tables, $(awk -F '\t' '$1 == "rows" { sum += $3 } END { print sum + 0 }' "$memory/facts") rows, and the schema are as they were written down"
}

# covered_volume TARGET NAME: the snapshot of a volume that the chosen backup covers; nothing when it covers none.
covered_volume() {
  restic_or_fail 'the backups cannot be listed' "$1" snapshots --no-lock --json |
    jq -r --arg record "$id" --arg paths "/$2.tar" '(.[] | select(.short_id == $record) | .tags) as $covered | .[] | select(.paths == [$paths]) | .short_id | select("of-\(.)" as $tag | $covered | index($tag))'
}

# target_named NUMBER: the beginning of its settings.
target_named() {
  case $1 in
    1) echo BACKUP ;;
    2) echo BACKUP2 ;;
    *) fail 'a target is 1 or 2' ;;
  esac
}

# about NAME: a line of the record that was read.
about() { value "$memory/about" "$1"; }
