#!/usr/bin/env bash
# Makes sure that a Docker daemon answers: the one that is there, or, for root on Debian, one that is installed and
# started by hand. Prints the version of the daemon. Never starts a second one beside one that runs.
#   scripts/docker.sh            exits 1, saying why, where there is none
# CASEMATE_DOCKERD_PID names a file for the number of a daemon that was started, for whoever wants to stop it.
set -euo pipefail

say() { echo "docker: $*" >&2; }

if docker info >/dev/null 2>&1; then
  docker version --format '{{.Server.Version}}'
  exit
fi
if [ -n "${DOCKER_HOST:-}" ]; then
  say "DOCKER_HOST is $DOCKER_HOST, and nothing answers there"
  exit 1
fi
if pgrep -x dockerd >/dev/null; then
  say 'a daemon runs, but does not answer this user'
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  say 'no daemon answers, and only root may start one'
  exit 1
fi
if ! command -v dockerd >/dev/null; then
  if ! command -v apt-get >/dev/null; then
    say 'there is no dockerd, and no apt-get to install it with'
    exit 1
  fi
  say 'installing docker.io'
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io iptables >&2
fi
log=$(mktemp -t dockerd.XXXXXX.log)
setsid dockerd >"$log" 2>&1 </dev/null &
daemon=$!
[ -z "${CASEMATE_DOCKERD_PID:-}" ] || echo "$daemon" > "$CASEMATE_DOCKERD_PID"
for _ in $(seq 150); do
  if docker info >/dev/null 2>&1; then
    docker version --format '{{.Server.Version}}'
    exit
  fi
  kill -0 "$daemon" 2>/dev/null || break
  sleep 0.2
done
say 'the daemon did not start:'
tail -n 20 "$log" >&2
exit 1
