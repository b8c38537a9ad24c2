#!/bin/sh
# /etc/nginx/templates/**/X.template becomes /etc/nginx/conf.d/**/X; only variables that are set are replaced.
set -eu
templates=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
output=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}
suffix=${NGINX_ENVSUBST_TEMPLATE_SUFFIX:-.template}
[ -d "$templates" ] || exit 0
if [ ! -w "$output" ]; then
  echo "error: $templates exists, but $output is not writable" >&2
  exit 0
fi
names=$(env | sed -n "s/^\(${NGINX_ENVSUBST_FILTER:-.*}[A-Za-z0-9_]*\)=.*/\${\1}/p" | tr '\n' ' ')
find "$templates" -type f -name "*$suffix" | while read -r template; do
  target=$output/${template#"$templates"/}
  target=${target%"$suffix"}
  mkdir -p "$(dirname "$target")"
  envsubst "$names" < "$template" > "$target"
done
