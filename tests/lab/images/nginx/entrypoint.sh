#!/bin/sh
# Stand-in for the official nginx image's entrypoint: what stands in /docker-entrypoint.d runs before nginx does.
set -eu
case ${1:-} in
  nginx | nginx-debug)
    for script in /docker-entrypoint.d/*; do
      [ -x "$script" ] || continue
      # shellcheck disable=SC1090 # .envsh files set variables for what follows
      case $script in
        *.envsh) . "$script" ;;
        *.sh) "$script" ;;
      esac
    done
    ;;
esac
exec "$@"
