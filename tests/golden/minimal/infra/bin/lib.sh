# Shared by the scripts in this folder; not run by itself.
# shellcheck shell=bash disable=SC2034 # not every script uses both folders

infra=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
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
