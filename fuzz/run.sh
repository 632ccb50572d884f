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

# What a server keeps for ever is no leak.
export ASAN_OPTIONS=detect_leaks=0
# The crates are those of the product.
cp ../Cargo.lock .
work=target/work
mkdir -p "$work"
python3 seeds.py "$work/seeds"
for target in "${targets[@]}"; do
    mkdir -p "$work/corpus/$target"
    [ ! -f "corpus/$target.tar.xz" ] || tar xJf "corpus/$target.tar.xz" -C "$work/corpus/$target"
    echo "fuzz: $target for $seconds s"
    # An input that takes 10 s hangs something.
    cargo +nightly fuzz run --fuzz-dir . "$target" "$work/corpus/$target" "$work/seeds/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=3072 -max_len=65536 -print_final_stats=1 \
        2>&1 | grep -vE '^#[0-9]+\s+(NEW|REDUCE|RELOAD|pulse)' | tee "$work/$target.log"
    $keep || continue
    cargo +nightly fuzz cmin --fuzz-dir . "$target" "$work/corpus/$target" -- -rss_limit_mb=3072 2>&1 | tail -1
    mkdir -p corpus
    tar cJf "corpus/$target.tar.xz" --sort=name --owner=0 --group=0 --mtime=@0 -C "$work/corpus/$target" .
done
