# A session in which nothing is typed for half an hour ends.
# shellcheck shell=sh
[ -n "${TMOUT:-}" ] || readonly TMOUT=1800
export TMOUT
