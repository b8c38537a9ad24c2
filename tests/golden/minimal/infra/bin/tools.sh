# How the programs that check this repository find their tools and its files; not run by itself.
# shellcheck shell=bash disable=SC2154 # lib.sh says what root is

# in_image IMAGE PROGRAM ARGUMENT…: with the repository to read, and nothing else. `docker_options` adds to it.
docker_options=()
in_image() {
  local image=$1 program=$2 status=0
  shift 2
  docker run --rm --network none --read-only --tmpfs /tmp --user "$(id -u):$(id -g)" --env HOME=/tmp \
    --volume "$root:$root:ro" --workdir "$root" ${docker_options[@]+"${docker_options[@]}"} \
    --entrypoint "$program" "$image" "$@" || status=$?
  [ "$status" != 125 ] || fail "Docker cannot run $image, see above"
  return "$status"
}

has_engine() { have docker && docker info >/dev/null 2>&1; }

# tool PROGRAM ARGUMENT…: from PATH, or from the image PROGRAM_IMAGE of deploy.conf.
tool() {
  local program=$1
  shift
  if have "$program"; then
    "$program" "$@"
  elif has_engine; then
    in_image "$(fact "$(printf '%s' "$program" | tr '[:lower:]' '[:upper:]')_IMAGE")" "$program" "$@"
  else
    fail "neither $program nor a Docker engine is here: install one of them"
  fi
}

in_git() { git -C "$root" rev-parse --is-inside-work-tree >/dev/null 2>&1; }

# Files of the repository, committed or about to be; without Git, every file.
files() {
  if in_git; then
    git -C "$root" ls-files --cached --others --exclude-standard --deduplicate
  else
    (cd "$root" && find . -type f ! -path '*/node_modules/*' | sed 's:^\./::')
  fi
}
