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

# restic TARGET ARGUMENT…: secrets reach it by its environment, which other users cannot read, and never as arguments.
restic() (
  target=$1 program=$(restic_program) options=()
  shift
  ssh=$(setting "${target}_SSH")
  if [ -n "$ssh" ]; then
    host=${ssh%:*} port=22
    [ "$host" = "$ssh" ] || port=${ssh##*:}
    RESTIC_REPOSITORY=rclone:backup
    # What the other end runs is what its authorized_keys says: `rclone serve restic`, which only adds.
    options=(--option "rclone.program=ssh -p $port -i $backup_key -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15 -o ServerAliveCountMax=8 -o StrictHostKeyChecking=yes -o UserKnownHostsFile=$infra/custom/known_hosts $host" --option rclone.timeout=1m)
  else
    RESTIC_REPOSITORY=$(setting "${target}_REPOSITORY")
    AWS_ACCESS_KEY_ID=$(setting "${target}_AWS_ACCESS_KEY_ID")
    AWS_SECRET_ACCESS_KEY=$(setting "${target}_AWS_SECRET_ACCESS_KEY")
    export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
  fi
  RESTIC_PASSWORD=${typed_password-$(setting "${target}_PASSWORD")}
  RESTIC_CACHE_DIR=$state/restic-cache
  export RESTIC_REPOSITORY RESTIC_PASSWORD RESTIC_CACHE_DIR
  exec "$program" --retry-lock 5m "${options[@]}" "$@"
)

# why_restic CODE: what its exit code means, and what to do.
why_restic() {
  case $1 in
    10) echo 'there is no repository yet: infra/bin/backup --setup makes it' ;;
    11) echo 'somebody else works in the repository: try again later' ;;
    12) echo 'the password does not open it: BACKUP_PASSWORD in backup.env must be the one that was kept at set-up' ;;
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

# records TARGET: "ID TIME DUMP BYTES RELEASE FOLDER", the newest first; the folder is what it was called when it was stored.
records() {
  local listed
  listed=$(restic_or_fail 'the backups cannot be listed' "$1" snapshots --json) || exit 1
  jq -r '
    def tagged(prefix): .tags[] | select(startswith(prefix)) | ltrimstr(prefix);
    [.[] | select(.tags != null)] | (map({(.short_id): .}) | add) as $all | map(select(.tags | index("record"))) | sort_by(.time) | reverse | .[] |
    (first(tagged("of-")) // "") as $dump | [.short_id, (.time | sub("\\.[0-9]+"; "")), $dump, ($all[$dump].summary.total_bytes_processed // 0), (first(tagged("release-")) // "-"), .paths[0]] | join(" ")' <<<"$listed"
}

# choose_record TARGET ID|latest|TIME: its line of `records`; of a time, the last one before it.
choose_record() {
  local all line id time rest wanted=$2
  all=$(records "$1") || exit 1
  [ -n "$all" ] || fail "no backup at $(where_is "$1") was ever read back: infra/bin/backup makes one"
  case $wanted in
    latest) line=${all%%$'\n'*} ;;
    *-*-*)
      wanted=$(date -d "$2" +%s) || fail "$2 is no time: 2030-05-01T12:00Z, say"
      line=$(while read -r id time rest; do [ "$(date -d "$time" +%s)" -gt "$wanted" ] || { echo "$id $time $rest" && break; }; done <<<"$all")
      ;;
    *) line=$(grep -m 1 "^$2" <<<"$all" || true) ;;
  esac
  [ -n "$line" ] || fail "there is no backup $2 at $(where_is "$1"): infra/bin/restore --list shows them"
  echo "$line"
}

# about RECORD_FOLDER NAME: a line of its file `about`.
about() { value "$1/about" "$2"; }
