# Shared by the scripts in this folder; not run by itself.
# shellcheck shell=bash disable=SC2034 # not every script uses both folders

infra=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
root=$(dirname "$infra")

# Prints the comment at the top of the script that was called.
usage() { sed -n '2,/^[^#]/{/^#/!d; s/^# \{0,1\}//; p;}' "$0"; }

fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# fact KEY: its value in deploy.conf, which is read as data and never sourced.
fact() {
  local line
  line=$(grep -m 1 "^$1=" "$infra/deploy.conf") || fail "infra/deploy.conf has no $1: run copier update, or restore the file from Git"
  printf '%s\n' "${line#*=}"
}

# settings FILE: its NAME=VALUE lines, without comments; nothing when there is no such file.
settings() { [ ! -f "$1" ] || sed -n '/^[A-Za-z_][A-Za-z0-9_]*=/p' "$1"; }

# variable_of NAME: API_IMAGE for api.
variable_of() { printf '%s_IMAGE\n' "$(printf '%s' "$1" | tr '[:lower:]-' '[:upper:]_')"; }

# smoke_lines INFRA: "SERVICE PATH STATUS [TEXT]" of custom/smoke.conf; where that is missing, health and the front pages.
smoke_lines() {
  local front
  if [ -f "$1/custom/smoke.conf" ]; then
    cat "$1/custom/smoke.conf"
  else
    echo 'api /health 200'
    for front in $(fact FRONTENDS); do echo "$front / 200"; done
  fi
}

# smoke_one NAME STATUS TEXT COMMAND…: the command is curl and an address; three tries, a second apart.
smoke_one() {
  local name=$1 wanted=$2 text=$3 answer status try
  shift 3
  for try in 1 2 3; do
    [ "$try" = 1 ] || sleep 1
    answer=$("$@" --silent --show-error --max-time 15 --write-out '\n%{http_code}' 2>&1 </dev/null) || true
    status=${answer##*$'\n'} answer=${answer%$'\n'*}
    if [ "$status" = "$wanted" ] && [[ $answer == *"$text"* ]]; then
      printf '    ok    %s  %s\n' "$name" "$status"
      return
    fi
  done
  if [ "$status" != "$wanted" ]; then
    printf '    FAIL  %s  %s instead of %s: %s\n' "$name" "$status" "$wanted" "$(head -c 200 <<<"$answer" | tr '\n' ' ')"
  else
    printf '    FAIL  %s  %s, but without the text: %s\n' "$name" "$status" "$text"
  fi
  return 1
}

# release_name ARCHIVE: the commit, and the beginning of the archive's SHA-256, since a commit can be built twice.
release_name() {
  local commit
  commit=$(tar --extract --to-stdout --gzip --file "$1" release.env | sed -n '1s/.* at commit \([0-9a-f]\{12\}\).*/\1/p')
  [ -n "$commit" ] || fail "$1 names no commit in the first line of its release.env"
  printf '%s-%.6s\n' "$commit" "$(sha256sum <"$1")"
}
