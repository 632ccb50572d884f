#!/usr/bin/env bash
# Makes what a release has, below target/release-files: for each target an archive with the binary, its manual and the
# shells' completions; the clients for Python (a wheel) and for browsers (npm); what the binary is made of (CycloneDX);
# checksums of all.
#
#   deploy/release.sh VERSION [TARGET...]      e.g. deploy/release.sh 0.1.0 x86_64-unknown-linux-gnu
#
# A binary needs the C library and nothing else, of no newer version than the machine's that it is built on: build on an old
# one. Another architecture's needs its compiler here (gcc-aarch64-linux-gnu), and qemu-user-static to ask it for its manual.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
version=$1
shift
host=$(rustc -vV | sed -n 's/^host: //p')
[ $# -gt 0 ] || set -- "$host"

need() { # need COMMAND HOW-TO-GET-IT: said before minutes of building
    command -v "$1" >/dev/null 2>&1 || { echo "$1 is missing: $2" >&2; exit 1; }
}

need cargo-cyclonedx "cargo install --locked cargo-cyclonedx"
need pip3 "apt-get install python3-pip"
need npm "apt-get install npm"
for target in "$@"; do
    machine=${target%%-*}
    [ "$target" = "$host" ] || need "$machine-linux-gnu-gcc" "apt-get install gcc-${machine/_/-}-linux-gnu"
    [ "$machine" = "${host%%-*}" ] || need "qemu-$machine-static" "apt-get install qemu-user-static"
done

target_dir=${CARGO_TARGET_DIR:-target}
out=$target_dir/release-files
rm -rf "$out"
mkdir -p "$out"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export CARGO_PROFILE_RELEASE_STRIP=symbols

build() { # build TARGET: answers the binary's path
    local tool=${1%-unknown-linux-gnu}-linux-gnu
    if [ "$1" = "$host" ]; then
        cargo build --release --locked --package cloudpose >&2
        echo "$target_dir/release/cloudpose"
    else
        local linker
        linker=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$1")_LINKER
        env "$linker=$tool-gcc" cargo build --release --locked --package cloudpose --target "$1" >&2
        echo "$target_dir/$1/release/cloudpose"
    fi
}

# What it is linked to must be on every Linux of its C library.
static_enough() { # static_enough BINARY
    local needs
    needs=$(readelf --dynamic --wide "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
        grep -Ev '^(libc|libm|libgcc_s|ld-linux-[a-z0-9-]+)\.so\.[0-9]+$' || true)
    [ -z "$needs" ] || { echo "$1 needs $needs" >&2; exit 1; }
    readelf --version-info --wide "$1" | grep -o 'GLIBC_2\.[0-9]*' | sort -Vu | tail -1
}

for target in "$@"; do
    binary=$(build "$target")
    name=cloudpose-$version-$target
    folder=$out/$name
    mkdir -p "$folder/bin"
    cp "$binary" "$folder/bin/cloudpose"
    runner=()
    if [ "${target%%-*}" != "${host%%-*}" ]; then
        runner=("qemu-${target%%-*}-static" -L "/usr/${target%-unknown-linux-gnu}-linux-gnu")
    fi
    deploy/extras.sh "$folder/share" "${runner[@]}" "$folder/bin/cloudpose"
    cp README.md README.zh-CN.md CHANGELOG.md LICENSE NOTICE "$folder"
    tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$out" -c "$name" |
        gzip --no-name --best >"$out/$name.tar.gz"
    rm -r "$folder"
    echo "$name: at least $(static_enough "$binary")"
done

pip3 wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$out" ./clients/python
npm pack --silent --pack-destination "$out" ./clients/js

cargo cyclonedx --manifest-path Cargo.toml --format json --no-build-deps --override-filename cloudpose-sbom 2>/dev/null
# Of where it was built nothing is said.
sed "s|file://$PWD|file:///cloudpose|g" cloudpose-sbom.json >"$out/cloudpose-$version.cdx.json"
find . -name cloudpose-sbom.json -not -path './target/*' -delete

(cd "$out" && sha256sum -- * >SHA256SUMS)
ls -l "$out"
