# Shared by deploy and rollback: how one release takes the place of another without a request failing; not run by itself.
# shellcheck shell=bash

# shellcheck source-path=SCRIPTDIR source=server.sh
. "$(dirname "${BASH_SOURCE[0]}")/server.sh"

new_env=$state/compose.env.new
live='' idle='' # the slots, set by whoever uses this

# is_switched RELEASE: whether it is the live one, from the slot that was idle.
is_switched() { [ "$(live_release)" = "${1##*/}" ] && [ "$(live_slot)" = "$idle" ]; }

# clear_the_way: nothing of a run that was killed is left; what serves is not touched.
clear_the_way() {
  local left
  left=$(docker ps --all --quiet --filter "name=^$project-(candidate-|migrate$|look$)")
  [ -z "$left" ] || { note 'removing what an interrupted run left' && xargs docker rm --force --volumes <<<"$left" >/dev/null; }
  find /dev/shm -maxdepth 1 -name "slipway-$project-*" -user "$(id -u)" -exec rm -rf {} + 2>/dev/null || true
  if [ -f "$live_env" ] && [ -d "$releases/$(live_release)" ]; then point_to "$releases/$(live_release)"; fi
}

# point_to RELEASE: `current`, and with it infra/, by one rename.
point_to() {
  ln -sfn ../../../state/compose.env "$1/infra/.env"
  [ "$(readlink "$app/current" || true)" = "releases/${1##*/}" ] || { ln -sfn "releases/${1##*/}" "$app/current.new" && mv -T "$app/current.new" "$app/current"; }
  if [ -d "$app/infra" ] && [ ! -L "$app/infra" ]; then
    mv "$app/infra" "$app/infra.before-releases" # how it was laid out by hand
    note "infra is a link now; the folder that stood there is infra.before-releases"
  fi
  [ -L "$app/infra" ] || ln -s current/infra "$app/infra"
}

# try_candidates RELEASE: one container of every service that has slots, without a name that the proxy knows.
try_candidates() {
  local service candidate started=()
  for service in "${services[@]}"; do
    candidate=$project-candidate-${service%-*}
    compose "$1" "$new_env" run --detach --no-deps --name "$candidate" --env "API_BASE_URL=http://$project-candidate-api:8080" "$service" >/dev/null
    started+=("$candidate")
  done
  wait_healthy "$health_seconds" "${started[@]}"
  smoke_test "$1" "$new_env" "http://$project-candidate-"
  docker rm --force "${started[@]}" >/dev/null
}

# smoke_test RELEASE ENV_FILE PREFIX: each line of custom/smoke.conf, asked inside the network.
smoke_test() {
  local service path status text port
  while read -r service path status text; do
    case $service in '' | \#*) continue ;; api) port=8080 ;; *) port=3000 ;; esac
    smoke_one "$service$path" "$status" "$text" in_network "$2" curl "$3$service:$port$path" || exit 1
  done < <(smoke_lines "$1/infra")
}

# keep_static_assets RELEASE: pages that were opened before the change still find their files, and so do those opened
# before the last ones. Names carry a hash of the content, so files of several releases lie side by side.
keep_static_assets() {
  local front image container folder
  for front in $(fact FRONTENDS); do
    image=$(value "$new_env" "$(variable_of "$front")")
    folder=$app/proxy/static/$front/_next/static
    if [ "$(cat "$1/static-$front.of" 2>/dev/null)" = "$image" ] && [ -d "$folder" ]; then continue; fi
    rm -rf "$app/proxy/static/.new" && mkdir -p "$app/proxy/static/.new" "$folder"
    container=$(docker create "$image")
    if docker cp "$container:/app/apps/$front/.next/static/." "$app/proxy/static/.new" >/dev/null 2>&1; then
      (cd "$app/proxy/static/.new" && find . -type f | sort) >"$1/static-$front.list"
      chmod -R u+rwX,go+rX "$app/proxy/static"
      tar -C "$app/proxy/static/.new" -c . | tar -C "$folder" -x -p --skip-old-files
      printf '%s\n' "$image" >"$1/static-$front.of"
    else
      note "no /app/apps/$front/.next/static in the image of $front: a page opened before this change may miss its files"
    fi
    docker rm "$container" >/dev/null
    rm -rf "$app/proxy/static/.new"
  done
}

# Inside nginx's container: the variables in braces are replaced by its environment, as its own start does.
# shellcheck disable=SC2016
readonly render_nginx='envsubst "$(grep -o "\${[A-Z_]*}" /etc/nginx/proxy/nginx.conf | sort -u | tr -d "\n")" < /etc/nginx/proxy/nginx.conf > /run/nginx.conf.new'

# stage_proxy RELEASE: its configuration, checked by the proxy itself, is ready in state/proxy.new, if it is another one.
stage_proxy() {
  local file
  rm -rf "$state/proxy.new" && mkdir "$state/proxy.new"
  for file in Caddyfile nginx.conf custom/caddy custom/nginx; do
    if [ -e "$1/infra/$file" ]; then
      mkdir -p "$(dirname "$state/proxy.new/$file")"
      cp -a "$1/infra/$file" "$state/proxy.new/$file"
    fi
  done
  chmod -R go+rX "$state/proxy.new"
  if diff -r --exclude=static --exclude=slot.green --exclude=maintenance.html --exclude=release.txt "$state/proxy.new" "$app/proxy" >/dev/null; then
    rm -rf "$state/proxy.new"
    note 'unchanged'
    return
  fi
  check_proxy "$1" || fail "the configuration of $proxy in release ${1##*/} is not valid, see above"
}

check_proxy() {
  local instead=(PROXY_DIR="$state/proxy.new") told command
  case $proxy in
    caddy) command='caddy validate --config /etc/caddy/Caddyfile' ;;
    nginx) command="$render_nginx && nginx -t -q -c /run/nginx.conf.new" ;;
  esac
  told=$(compose "$1" "$new_env" run --rm -T --no-deps --name "$project-look" "$proxy" sh -c "$command" 2>&1 </dev/null) || {
    note "$told"
    return 1
  }
}

# bring_in_proxy: what stage_proxy has left becomes the proxy's folder; the folder itself stays, since it is mounted.
bring_in_proxy() {
  [ -d "$state/proxy.new" ] || return 0
  local old
  rm -rf "$state/proxy.old" && mkdir "$state/proxy.old"
  for old in "$app/proxy"/*; do
    case ${old##*/} in static | slot.green | maintenance.html | release.txt | '*') continue ;; esac
    cp -a "$old" "$state/proxy.old/"
    [ -e "$state/proxy.new/${old##*/}" ] || rm -rf "$old"
  done
  rm -rf "$app/proxy/custom"
  cp -a --remove-destination "$state/proxy.new/." "$app/proxy/"
  rm -rf "$state/proxy.new"
  proxy_changed=yes
}

# reload_proxy: takes in its folder without closing a connection; the old configuration stays when it refuses.
reload_proxy() {
  local running told
  running=$(containers "$proxy" running)
  [ -n "$running" ] || return 0
  case $proxy in
    caddy) told=$(docker exec "$running" caddy reload --config /etc/caddy/Caddyfile 2>&1) ;;
    nginx) told=$(docker exec "$running" sh -c "$render_nginx && nginx -t -q -c /run/nginx.conf.new && mv /run/nginx.conf.new /run/nginx.conf && nginx -c /run/nginx.conf -s reload" 2>&1) ;;
  esac || { note "$told"; return 1; }
}

# fill RELEASE: the idle slot, anew; everything that runs is left alone.
fill() {
  local old
  old=$(containers ".*-$idle")
  [ -z "$old" ] || xargs docker rm --force --volumes <<<"$old" >/dev/null
  compose "$1" "$new_env" up --detach --no-recreate --no-build --quiet-pull "${services[@]}"
  local started=() service
  for service in "${services[@]}"; do started+=("$(containers "$service")"); done
  wait_healthy "$health_seconds" "${started[@]}"
}

# clear_idle_slot: whatever was begun in the slot that does not serve. What serves is read from where it is written down.
clear_idle_slot() {
  containers ".*-$(other_slot "$(live_slot)")" | xargs -r docker rm --force --volumes >/dev/null 2>&1 || true
  rm -rf "$state/proxy.new"
}

# switch_over RELEASE: from here on the new slot is the live one, whatever happens.
switch_over() {
  # The proxy looks for a slot every 0.5 s (Caddy) or asks for its address every second (nginx).
  if [ -n "$(containers "$proxy" running)" ]; then
    if [ "$proxy" = nginx ]; then sleep 2.5; else sleep 1.2; fi
  fi
  mv "$new_env" "$live_env"
  point_to "$1"
  proxy_changed=
  bring_in_proxy
  # Both proxies look for this file at every request: from now on the new slot gets them, and nothing is reloaded for it.
  if [ "$idle" = green ]; then : >"$app/proxy/slot.green"; else rm -f "$app/proxy/slot.green"; fi
  if [ -n "$proxy_changed" ] && ! reload_proxy; then
    note "$proxy refused its new configuration and goes on with the old one: infra/bin/logs $proxy"
    return 1
  fi
}

# retire: the slot that was live ends its requests and goes.
retire() {
  local old
  old=$(containers ".*-$live")
  [ -n "$old" ] || return 0
  sleep 1 # what the proxy has handed to it must have been taken
  xargs docker stop --time 60 <<<"$old" >/dev/null
  xargs docker rm --volumes <<<"$old" >/dev/null
}

# outdated RELEASE ENV_FILE: services without slots whose container differs from what the release wants, the worker first.
outdated() {
  local service wanted container has
  while read -r service wanted; do
    case $service in *-blue | *-green) continue ;; esac
    container=$(containers "$service")
    has=$([ -z "$container" ] || docker inspect --format '{{.State.Running}} {{index .Config.Labels "com.docker.compose.config-hash"}}' "$container")
    if [[ $has != 'true '?* || " $wanted " != *" ${has#true } "* ]]; then printf '%s\n' "$service"; fi
  done < <(active_hashes "$1" "$2") | awk '{ print ($1 == "worker" ? 0 : 1), $1 }' | sort | cut -d ' ' -f 2
}

# active_hashes RELEASE ENV_FILE: "service hash hash" of the services that `up` would start. `config --hash` forgets what env_file
# brings, which `up` counts; of the resolved configuration it gives the right one.
active_hashes() {
  local services resolved
  services=$(compose "$1" "$2" config --services)
  resolved=$(compose "$1" "$2" config)
  join <(compose "$1" "$2" config --hash '*' | sort) <(env -i PATH="$PATH" HOME="$HOME" docker compose --env-file /dev/null -f - config --hash '*' <<<"$resolved" | sort) |
    awk -v wanted=" ${services//$'\n'/ } " 'index(wanted, " " $1 " ")'
}

# replace SERVICE RELEASE: stop, then start, so that two never run; says how long the pause was.
replace() {
  local began=${EPOCHREALTIME/[.,]/} old
  old=$(containers "$1")
  [ -z "$old" ] || { xargs docker stop <<<"$old" >/dev/null && xargs docker rm <<<"$old" >/dev/null; }
  compose "$2" "$live_env" up --detach --no-recreate --no-build --quiet-pull "$1"
  wait_healthy "$health_seconds" "$(containers "$1")"
  [ -z "$old" ] || note "$1 was away for $(seconds_since "$began") s"
}

pause_of() {
  case $1 in
    "$proxy") echo 'nobody can connect until it is back' ;;
    postgres) echo 'requests that need the database wait or fail until it is back' ;;
    worker) echo 'users notice nothing' ;;
    *) echo 'it is replaced on its own' ;;
  esac
}

# replace_rest RELEASE: the worker, and whatever else the release changes, one after the other.
replace_rest() {
  local service
  for service in $(outdated "$1" "$live_env"); do
    step "Replace $service: $(pause_of "$service")"
    replace "$service" "$1"
  done
}

# remove_the_dropped OLD_RELEASE NEW_RELEASE: services that the old release had and the new one has no more.
remove_the_dropped() {
  local service gone
  [ -d "$1/infra" ] || return 0
  for service in $(comm -23 <(compose "$1" "$live_env" --profile '*' config --services 2>/dev/null | sort) <(compose "$2" "$live_env" --profile '*' config --services | sort)); do
    gone=$(containers "$service")
    [ -z "$gone" ] || { note "$service is no more part of the project" && xargs docker stop <<<"$gone" >/dev/null && xargs docker rm <<<"$gone" >/dev/null; }
  done
}

# activate RELEASE: everything from the idle slot to the last container. The caller has written $new_env.
activate() {
  mapfile -t services < <(slot_services "$1" "$new_env" "$idle")
  step 'Keep static assets'
  keep_static_assets "$1"
  step "Fill the slot $idle"
  fill "$1"
  step "Switch from $live to $idle"
  switch_over "$1"
  step "Retire the slot $live: it ends the requests that it has"
  retire &
  local retiring=$!
  replace_rest "$1"
  step "Wait for the last requests of $live"
  wait "$retiring"
}

# --- The database's major version -------------------------------------------------------------------------------------

major_in() { sed -n 's/^PG_MAJOR=//p'; }

# written_by: the major version whose container has the data; nothing where there is none.
written_by() {
  local container
  container=$(containers postgres)
  [ -z "$container" ] || docker inspect --format '{{range .Config.Env}}{{println .}}{{end}}' "$container" | major_in
}

# major_of_image IMAGE: nothing when it is not on this server.
major_of_image() { { docker image inspect --format '{{range .Config.Env}}{{println .}}{{end}}' "$1" 2>/dev/null || true; } | major_in; }

# fits_data RELEASE: refuses a release whose PostgreSQL does not read what is there.
fits_data() {
  local old new
  [ "$(fact DATABASE)" = container ] || return 0
  old=$(written_by) new=$(major_of_image "$(value "$1/release.env" POSTGRES_IMAGE)")
  [ -n "$old" ] && [ -n "$new" ] && [ "$old" != "$new" ] || return 0
  if [ "$new" -gt "$old" ]; then
    fail "release ${1##*/} brings PostgreSQL $new, and the data was written by $old, which $new does not read; $(live_release) serves as before. On the server: $1/infra/bin/upgrade-postgres --dry-run ${1##*/} (docs/runbooks/upgrade-postgres.md)"
  fi
  fail "release ${1##*/} has PostgreSQL $new, and the data was written by $old, which $new does not read; $(live_release) serves as before. What the upgrade left behind is reached by infra/bin/upgrade-postgres --back (docs/runbooks/upgrade-postgres.md)"
}

# no_upgrade_left: while an upgrade is not at its end, only upgrade-postgres may change anything.
no_upgrade_left() {
  local phase
  phase=$(value "$state/upgrade" PHASE)
  case $phase in
    '' | complete) ;;
    *) fail "an upgrade of PostgreSQL was interrupted, and users may see the maintenance page: run $releases/$(value "$state/upgrade" TO_RELEASE)/infra/bin/upgrade-postgres again, or the same with --back" ;;
  esac
}

# --- Schema -----------------------------------------------------------------------------------------------------------

# schema RELEASE NAME: a number of custom/schema.conf, 0 when it is not given.
schema() {
  local number
  number=$(value "$1/infra/custom/schema.conf" "$2")
  [[ ${number:-0} =~ ^[0-9]+$ ]] || fail "$2 in infra/custom/schema.conf must be a number"
  echo "${number:-0}"
}

contracted() { cat "$state/contracted" 2>/dev/null || echo 0; }

# fits_schema RELEASE: refuses a release whose code needs what a contract step has removed.
fits_schema() {
  local prepared removed
  prepared=$(schema "$1" PREPARED) removed=$(contracted)
  [ "$prepared" -ge "$removed" ] ||
    fail "release ${1##*/} is prepared for contract step $prepared, and step $removed has removed what it needs: go forward with a new release instead, or restore a backup from before (docs/runbooks/restore-database-backup.md)"
}
