# Shared by the scripts that run on the server; not run by itself. See docs/runbooks/deploy-release.md for the folders.
# shellcheck shell=bash disable=SC2034 # not every script uses everything

# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Where this very script belongs to: /opt/APP/releases/ID, whichever link it was called through.
release=$root
releases=$(dirname "$release")
app=$(dirname "$releases")
state=$app/state
live_env=$state/compose.env
history=$state/history
volume_file=$state/postgres-volume # by upgrade-postgres and pgBackRest's restore: the volume that is live

# The numbers by which a server is refused.
readonly minimum_engine=20.10 minimum_compose=2.24

# Programs in containers read what is written to proxy/ and releases/, whatever this login's own mask is.
umask 022

# What nobody foresaw is not passed over in silence.
set -E
tell_surprises() { trap 'printf "%s: stopped at %s line %s: %s\n" "${0##*/}" "${BASH_SOURCE[0]##*/}" "$LINENO" "$BASH_COMMAND" >&2' ERR; }
tell_surprises

me() { id -un 2>/dev/null || true; } # prints the number where there is no name

on_a_server() {
  [ "${releases##*/}" = releases ] || fail "this runs on the server, in /opt/$(fact APP); from here use infra/bin/remote, see --help there"
  project=$(fact COMPOSE_PROJECT)
  proxy=$(fact PROXY)
  [ "$(id -u)" != 0 ] || fail "run this as the user that owns $app ($(stat -c %U "$app")), not as root: what it writes would belong to root"
  [ -O "$app" ] || fail "run this as $(stat -c %U "$app"), who owns $app; you are $(me)"
  mkdir -p "$state/logs" "$app/proxy" "$app/backups"
  chmod 700 "$state" "$app/backups"
  chmod go+rx "$app/proxy" # its containers read it without the right to pass by a mode
}

# --- What is printed -------------------------------------------------------------------------------------------------

step_name='' step_began=0

# step TEXT: announces what comes next and says how long the step before it took.
step() {
  step_end
  step_name=$1 step_began=${EPOCHREALTIME/[.,]/}
  printf '==> %s  %s\n' "$(date -u +%T)" "$1"
}

step_end() {
  [ -z "$step_name" ] || printf '    %s s\n' "$(seconds_since "$step_began")"
  step_name=''
}

note() { printf '%s\n' "$*" | sed 's/^/    /'; }

# seconds_since MICROSECONDS: with one decimal.
seconds_since() {
  local tenths=$(((${EPOCHREALTIME/[.,]/} - $1) / 100000))
  printf '%d.%d' $((tenths / 10)) $((tenths % 10))
}

# attempt COMMAND…: its exit code is left in $code; inside, the first failure ends it, as anywhere else.
attempt() {
  step_end
  set +e
  trap - ERR
  # No && here: on its left side a failure would be passed over.
  (
    tell_surprises
    trap wait EXIT # what it began in the background is not left alone, however it ends
    set -e
    "$@"
    step_end
  )
  code=$?
  tell_surprises
  set -e
}

# --- Settings, read as data ------------------------------------------------------------------------------------------

# value FILE NAME: what Compose would take, the quotes around it removed; nothing when it is missing.
value() {
  local line
  line=$(settings "$1" | grep "^$2=" | tail -n 1) || return 0
  line=${line#*=}
  case $line in
    \"*\" | \'*\') line=${line:1:-1} ;;
  esac
  printf '%s\n' "$line"
}

health_seconds=$(value "$app/.env" DEPLOY_HEALTH_SECONDS)
health_seconds=${health_seconds:-180}

live_release() { [ ! -f "$live_env" ] || value "$live_env" RELEASE; }

# The slot that users are served from, as the last change has written it down.
live_slot() {
  if [ -f "$live_env" ]; then
    value "$live_env" COMPOSE_PROFILES
  else
    value "$app/.env" COMPOSE_PROFILES
  fi
}

serving() {
  if [ -f "$live_env" ]; then
    echo "Serving: release $(live_release) from the slot $(live_slot)."
  else
    echo 'Nothing was in service before.'
  fi
}

other_slot() { if [ "$1" = blue ]; then echo green; else echo blue; fi; }

# environment SLOT RELEASE: the server's settings, the release's digests, the slot; a later line wins.
environment() {
  local names
  names=$(settings "$2/release.env" | sed 's/=.*//' | paste -sd '|')
  printf '# Written by infra/bin/deploy from .env and release.env: change .env, then run infra/bin/deploy.\n'
  grep -vE "^(${names:-RELEASE}|COMPOSE_PROFILES|RELEASE|INFRA_DIR|PROXY_DIR|POSTGRES_VOLUME)=" "$app/.env" || [ $? = 1 ]
  printf '\n'
  settings "$2/release.env"
  printf 'COMPOSE_PROFILES=%s\nRELEASE=%s\nINFRA_DIR=%s\nPROXY_DIR=%s\n' "$1" "${2##*/}" "$app/infra" "$app/proxy"
  [ ! -f "$volume_file" ] || printf 'POSTGRES_VOLUME=%s\n' "$(cat "$volume_file")"
}

# --- Docker ----------------------------------------------------------------------------------------------------------

# compose RELEASE ENV_FILE ARGUMENT…: without the caller's variables, which Compose would prefer to the file's. What stands
# in the array `instead` (NAME=VALUE) is taken in place of the file's.
instead=()
compose() {
  local folder=$1 env_file=$2
  shift 2
  env -i PATH="$PATH" HOME="$HOME" ${DOCKER_HOST:+DOCKER_HOST="$DOCKER_HOST"} "${instead[@]}" \
    docker compose --ansi never --progress quiet --env-file "$env_file" -f "$folder/infra/docker-compose.prod.yml" "$@"
}

# containers SERVICE_PATTERN [STATUS]: ids of this project's containers, one-shots left out.
containers() {
  docker ps --all --no-trunc --filter "label=com.docker.compose.project=$project" --filter 'label=com.docker.compose.oneoff=False' \
    ${2:+--filter "status=$2"} --format '{{.ID}} {{.Label "com.docker.compose.service"}}' | awk -v pattern="^($1)\$" '$2 ~ pattern { print $1 }'
}

service_of() { docker inspect --format '{{index .Config.Labels "com.docker.compose.service"}}' "$1"; }

# slot_services RELEASE ENV_FILE SLOT: services that exist twice.
slot_services() { compose "$1" "$2" config --services | grep -- "-$3\$" | sort; }

# healthy CONTAINER: asks the container's own health check now, instead of waiting for the engine's next turn.
healthy() {
  local check
  mapfile -t check < <(docker inspect --format '{{if .Config.Healthcheck}}{{range .Config.Healthcheck.Test}}{{println .}}{{end}}{{end}}' "$1")
  case ${check[0]:-NONE} in
    CMD) docker exec "$1" "${check[@]:1:${#check[@]}-2}" >/dev/null 2>&1 ;;
    CMD-SHELL) docker exec "$1" sh -c "${check[1]}" >/dev/null 2>&1 ;;
    *) [ "$(docker inspect --format '{{.State.Running}}' "$1")" = true ] ;;
  esac
}

# wait_healthy SECONDS CONTAINER…: until every one of them is, else this is the end; one that ended or began again has failed.
wait_healthy() {
  local until=$((SECONDS + $1)) container told
  shift
  for container in "$@"; do
    until healthy "$container"; do
      told=$(docker inspect --format '{{.State.Status}} {{.RestartCount}} {{if .State.Health}}{{.State.Health.Status}}{{end}}' "$container" 2>/dev/null) || told=gone
      if [[ $told != 'running 0 '* && $told != 'created 0 '* ]]; then
        unhealthy "$container" 'ended before it was healthy'
        exit 1
      fi
      if [ $SECONDS -ge "$until" ] || [ "${told##* }" = unhealthy ]; then
        unhealthy "$container" 'does not get healthy'
        exit 1
      fi
      sleep 0.3
    done
  done
}

unhealthy() {
  note "$(docker inspect --format '{{.Name}}' "$1" 2>/dev/null | cut -c2-) $2; the last it wrote:"
  docker logs --tail 15 "$1" 2>&1 | sed 's/^/      | /' || true
}

# in_network ENV_FILE COMMAND…: run beside the proxy, where every service can be reached: in it, or in a copy of its image.
in_network() {
  local env_file=$1 running
  shift
  running=$(containers "$proxy" running)
  if [ -n "$running" ]; then
    docker exec "$running" "$@"
  else
    docker run --rm --cap-drop ALL --network "${project}_internal" --entrypoint "$1" "$(value "$env_file" "${proxy^^}_IMAGE")" "${@:2}"
  fi
}

# sql ENV_FILE RELEASE ARGUMENT…: psql as the administrator, in a container of its own.
sql() {
  local env_file=$1 folder=$2 instead=(INFRA_DIR="$2/infra")
  shift 2
  compose "$folder" "$env_file" run --rm -T --no-deps roles psql --no-psqlrc --quiet --tuples-only --no-align "$@" </dev/null
}

# --- One change at a time --------------------------------------------------------------------------------------------

# in_background NAME ARGUMENT…: runs this script again, out of reach of a connection that is cut, and shows what it prints.
in_background() {
  local log pid code=0
  log=$state/logs/$(date -u +%Y%m%dT%H%M%SZ)-$1-$$.log
  # On a full disk not even the reason could be written.
  (umask 077 && head -c 65536 /dev/zero >"$log" && : >"$log") 2>/dev/null || { rm -f "$log" && fail "no space left on the device of $state: nothing was changed. df -h shows the disks, docker system df what Docker holds"; }
  ln -sfn "logs/${log##*/}" "$state/log"
  shift
  SLIPWAY_LOG=$log setsid bash "$0" "$@" </dev/null >"$log" 2>&1 &
  pid=$!
  trap 'echo "${0##*/}: goes on without you; infra/bin/logs deploy shows it"; exit 130' INT TERM HUP
  tail --follow --lines=+1 --pid="$pid" --sleep-interval=0.2 "$log" 2>/dev/null || true
  wait "$pid" || code=$?
  find "$state/logs" -name '*.log' -printf '%T@ %p\n' | sort -rn | tail -n +31 | cut -d ' ' -f 2- | xargs -r rm -f
  exit "$code"
}

# lock TEXT [FILE]: held by the kernel until this process and everything that it started are gone.
lock() {
  local file=${2:-$state/lock} fd holder what tries=0
  exec {fd}>>"$file"
  until flock --timeout 0.2 "$fd"; do
    holder='' what=''
    [ ! -f "$file.holder" ] || read -r holder what <"$file.holder" || true # just being written
    if [ -n "$holder" ] && [ -e "/proc/$holder/fd" ] && holds_lock "$holder" "$file"; then
      printf '%s: %s is under way (process %s)%s\n' "${0##*/}" "$what" "$holder" "$([ -n "${2:-}" ] || echo '. Follow it: infra/bin/logs deploy')" >&2
      exit 75
    fi
    # Whoever has only just got it needs a moment to write down who it is.
    tries=$((tries + 1))
    if [ "$tries" = 5 ]; then
      note 'what a killed run left behind is ended first'
      end_orphans "$file"
    fi
    [ "$tries" -lt 150 ] || fail "the lock $file is held by a process that is not ours: fuser $file"
  done
  printf '%s %s\n' $$ "$1, since $(date -u +%FT%TZ)" >"$file.holder"
}

# holds_lock PROCESS FILE
holds_lock() {
  local fd
  for fd in "/proc/$1/fd"/*; do
    [ ! "$fd" -ef "$2" ] || return 0
  done
  return 1
}

# end_orphans FILE: whoever still holds it; its owner is gone.
end_orphans() {
  local folder pid
  for folder in /proc/[0-9]*; do
    pid=${folder##*/}
    if [ "$pid" != $$ ] && [ "$pid" != "$BASHPID" ] && [ -O "$folder" ] && holds_lock "$pid" "$1"; then
      kill -KILL "$pid" 2>/dev/null || true
    fi
  done
}

# record ACTION FROM TO RESULT BEGAN BY: a line of the history: time, who, what, from, to, result, seconds.
record() {
  printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$(date -u +%FT%TZ)" "$6" "$1" "${2:--}" "$3" "$4" "$(seconds_since "$5")" >>"$history"
}

# successful RELEASES, the newest first, each once.
successful() {
  [ ! -f "$history" ] || tac "$history" | awk -F '\t' '$6 == "ok" && NF == 7 && !seen[$5]++ { print $5 }'
}
