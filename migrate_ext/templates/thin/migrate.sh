#!/bin/sh
# Runs scripts/migrate.py in the backend's container, from any folder: ./scripts/migrate.sh upgrade head
# Arguments and the exit code are passed through. Uses the running container, or a new one that is removed afterwards.
#
# MIGRATE_SERVICE  the service in compose.yaml (default: backend)
# MIGRATE_USER     who runs it, user:group (default: you, so that a new revision file belongs to you; image: the image's own)
set -eu

service=${MIGRATE_SERVICE:-backend}
user=${MIGRATE_USER:-$(id -u):$(id -g)}

fail() {
    printf 'migrate.sh: %s\n' "$@" >&2
    exit 125
}

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd -- "$root"

if command -v docker >/dev/null && docker compose version >/dev/null 2>&1; then
    compose='docker compose'
elif command -v docker-compose >/dev/null; then
    compose=docker-compose
elif command -v docker >/dev/null; then
    fail "docker has no compose plugin, and docker-compose is not installed." \
        "Install docker compose, or run it here: python scripts/migrate.py"
else
    fail "docker is not installed, or not on PATH." \
        "Install docker with its compose plugin, or run it here: python scripts/migrate.py"
fi
if command -v docker >/dev/null && ! docker info >/dev/null 2>&1; then
    fail "docker's daemon does not answer: it is not running, or $(id -un) may not use it." \
        "Start docker, or join the group docker."
fi

# $compose holds one or two words, neither of them from outside.
# shellcheck disable=SC2086
services=$($compose config --services) || fail "compose.yaml cannot be used; the reason stands above."
if ! printf '%s\n' "$services" | grep -qxF -- "$service"; then
    fail "there is no service '$service' in $root/compose.yaml; MIGRATE_SERVICE names another. There are:" "$services"
fi

set -- "$service" python scripts/migrate.py "$@"
[ "$user" = image ] || set -- --user "$user" "$@"
# A terminal only where both ends are one: it would turn line ends in a file or a pipe to CR LF.
if ! [ -t 0 ] || ! [ -t 1 ]; then
    set -- -T "$@"
fi
# shellcheck disable=SC2086
if $compose ps --services --filter status=running | grep -qxF -- "$service"; then
    exec $compose exec "$@"
else
    exec $compose run --rm "$@"
fi
