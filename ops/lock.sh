#!/bin/sh
# Writes both lock files anew: hashes for every file, no address of any index, no path of this machine.
# Needs uv (pip install uv). Run it after a change of the dependencies in pyproject.toml.
set -eu
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The producer library is part of this checkout, so it has no hash to lock.
grep -v '^    "nightcrew",$' pyproject.toml | sed '/^\[tool\./,$d' >"$work/pyproject.toml"
touch "$work/README.md"
set -- --generate-hashes --no-emit-index-url --no-header --no-annotate --universal --python-version 3.11 --quiet
uv pip compile "$work/pyproject.toml" --group "$work/pyproject.toml:build" "$@" -o requirements.lock >/dev/null
uv pip compile "$work/pyproject.toml" --group "$work/pyproject.toml:build" --group "$work/pyproject.toml:dev" -c requirements.lock "$@" -o requirements-dev.lock >/dev/null
