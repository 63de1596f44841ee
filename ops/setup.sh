#!/bin/sh
# Makes the virtual environment of this checkout: `ops/setup.sh run` for the service, `ops/setup.sh test` for its tests too.
# Does nothing when what it would install is installed already. Root on Debian gets missing system packages; anyone else
# is told the command.
set -eu
cd "$(dirname "$0")/.."
purpose=${1:-run}
case $purpose in
run) lock=requirements.lock ;;
test) lock=requirements-dev.lock ;;
*)
    echo "usage: ops/setup.sh [run|test]" >&2
    exit 2
    ;;
esac

works() { # works PACKAGE COMMAND...: whether the command works, if need be after installing the package
    package=$1
    shift
    if "$@" >/dev/null 2>&1; then return; fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then return 1; fi
    echo "installing the system package $package" >&2
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package"; } >&2 || return 1
    "$@" >/dev/null 2>&1
}

need() { # need PACKAGE COMMAND...: go on only when the command works
    if works "$@"; then return; fi
    echo "error: $1 is missing" >&2
    echo "hint: sudo apt-get install $1" >&2
    exit 3
}

want() { # want PACKAGE WHY COMMAND...: go on without it, and say what does not work
    package=$1 why=$2
    shift 2
    if works "$package" "$@"; then return; fi
    echo "warning: $package is missing: $why" >&2
    echo "hint: sudo apt-get install $package" >&2
}

need python3 python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'
need python3-venv python3 -c 'import ensurepip, venv'
if [ "$purpose" = test ]; then
    need redis-server redis-server --version
    need restic restic version
else
    want restic "backups will fail until it is there" restic version
fi

# The stamp holds what was installed: another lock file or another Python, and it is installed anew.
stamp=.venv/installed-$purpose
wanted=$(cat "$lock" pyproject.toml producer/pyproject.toml | sha256sum)$(python3 --version)$(pwd)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then exit 0; fi

echo "installing into .venv (about a minute the first time)" >&2
if ! .venv/bin/python -c 'import sys; sys.exit(sys.prefix == sys.base_prefix)' 2>/dev/null; then
    python3 -m venv --clear .venv
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e producer -e .
printf %s "$wanted" >"$stamp"
