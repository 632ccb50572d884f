#!/usr/bin/env bash
# Looks for inputs that break what reads bytes from elsewhere.
#
#     fuzz/run.sh                          every target for a minute
#     fuzz/run.sh --seconds 600 http       one, for ten
#     fuzz/run.sh --keep                   and keeps what was found new, in fuzz/corpus
#
# Needs a nightly compiler (`rustup toolchain install nightly`) and `cargo install cargo-fuzz`. An input that breaks something ends
# the run, and stays in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")"
seconds=60 keep=false targets=()
while [ $# -gt 0 ]; do
    case "$1" in
    --seconds) seconds=$2 && shift ;;
    --keep) keep=true ;;
    -*) echo "unknown option $1: see the head of fuzz/run.sh" >&2 && exit 2 ;;
    *) targets+=("$1") ;;
    esac
    shift
done
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n 's/^name = "\(.*\)"/\1/p' Cargo.toml | tail -n +2)
cargo fuzz --version >/dev/null 2>&1 || {
    echo "cargo-fuzz is missing: cargo install cargo-fuzz" >&2
    exit 1
}
rustc +nightly --version >/dev/null 2>&1 || {
    echo "A nightly compiler is missing: rustup toolchain install nightly" >&2
    exit 1
}

# The crates are those of the product.
cp ../Cargo.lock .
cargo +nightly fuzz build --fuzz-dir .
host=$(rustc -vV | sed -n 's/^host: //p')
# What a server keeps for ever is no leak. Broken pipes are errors, as they are where Rust has begun the process.
export ASAN_OPTIONS=detect_odr_violation=0:detect_leaks=0
trap '' PIPE
work=target/work
python3 seeds.py "$work/seeds"
for target in "${targets[@]}"; do
    found=$work/corpus/$target
    mkdir -p "$found" "artifacts/$target"
    [ ! -f "corpus/$target.tar.xz" ] || tar xJf "corpus/$target.tar.xz" -C "$found"
    fuzz=(nice "target/$host/release/$target" -artifact_prefix="artifacts/$target/" -rss_limit_mb=3072 -max_len=65536)
    echo "fuzz: $target for $seconds s"
    # An input that takes 10 s hangs something.
    "${fuzz[@]}" -max_total_time="$seconds" -timeout=10 -print_final_stats=1 "$found" "$work/seeds/$target" 2>&1 |
        grep -vE '^#[0-9]+\s+(NEW|REDUCE|RELOAD|pulse)'
    $keep || continue
    rm -rf "$work/least" && mkdir -p "$work/least" corpus
    "${fuzz[@]}" -merge=1 "$work/least" "$found" "$work/seeds/$target" 2>&1 | tail -1
    tar cJf "corpus/$target.tar.xz" --sort=name --owner=0 --group=0 --mtime=@0 -C "$work/least" .
done
