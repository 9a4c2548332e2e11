#!/usr/bin/env bash
# The tests. Needs the Rust toolchain and this checkout, nothing else.
#
#   ./test.sh                 what every change must pass (minutes)
#   ./test.sh --browser       the console in a real Chromium; installs Debian's chromium, and from npm what drives it
#   ./test.sh --sim N         N seeds of the simulator, in a release build
#   ./test.sh --rig NAME [N]  one rig with N trials (its long form unless told), in a release build
#   ./test.sh --rigs          the rigs there are, with their long forms
#   ./test.sh --long          the long form of every rig, and an hour of each fuzz target (many hours)
#   ./test.sh --fuzz SECONDS  each fuzz target for so long (needs a nightly toolchain; builds cargo-fuzz)
#   ./test.sh --all           everyday, browser and long
#
# Rigs append their results to target/reliability.jsonl, or to ESCROW_RECORD. ESCROW_SEED sets what they choose by chance.
set -euo pipefail
cd "$(dirname "$0")"

# Every rig is a test of escrow-tests by its name: the trials of its long form, and what one trial is.
RIGS="
simulator   100000  seeds
kill          1000  kills
network        500  runs
clocks          50  runs
held_sync      200  seeds
held_broker    600  holds
timers     1000000  timers
timers_soak 200000  messages
overload      3600  seconds
corpus     5000000  inputs
power         1000  cuts
full_disk      200  cycles
io_faults    20000  operations that fail
damage        2000  flips and cuts
backup         100  backups
upgrade          1  formats
pages      1000000  undecided transactions
"

# What tests/src/fuzz tries, and what cargo-fuzz is built from when the machine has none.
FUZZ_TARGETS="journal records backup wire config"
CARGO_FUZZ_VERSION=0.13.2

everyday() {
    # The rigs start the real binary, and the examples: build them first, as the tests' own build has them.
    cargo build --locked --workspace --bins --examples
    cargo test --locked --workspace --all-targets
    cargo test --locked --workspace --doc
    # The simulator must notice every fault that is planted on purpose.
    cargo test --locked -p escrow-tests --features sabotage --test sabotage
    echo "the stories of escrow dev, to their end:"
    "${CARGO_TARGET_DIR:-target}/debug/escrow" dev --check
}

# The console in a real Chromium; needs a system that has apt-get, or Chromium, Node and npm there already. Screenshots
# are left in target/screenshots, for a person to look at.
browser() {
    local missing=""
    mkdir -p target/browser
    command -v node npm >/dev/null || missing="nodejs npm"
    [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null || missing="$missing chromium"
    [ -n "$(fc-list :lang=zh 2>/dev/null)" ] || missing="$missing fontconfig fonts-noto-cjk"
    if [ -n "$missing" ]; then
        # shellcheck disable=SC2086 # several packages
        { apt-get update -q && apt-get install -q -y --no-install-recommends $missing; } >target/browser-install.log 2>&1 ||
            { echo "test.sh: --browser needs $missing; apt-get does not install them, see target/browser-install.log" >&2 && exit 2; }
    fi
    cp tests/browser/package.json target/browser/
    npm install --prefix target/browser --no-package-lock --no-audit --no-fund --silent
    cargo build --locked --bin escrow
    cargo build --locked -p escrow-tests --example scene
    node tests/browser/main.mjs
}

# The named rig with the given trials.
rig() {
    export ESCROW_TRIALS="$2" ESCROW_RECORD="${ESCROW_RECORD:-$PWD/target/reliability.jsonl}"
    ESCROW_COMMIT="$(git describe --always --dirty --exclude '*' 2>/dev/null || echo unknown)"
    export ESCROW_COMMIT
    mkdir -p "$(dirname "$ESCROW_RECORD")"
    cargo build --locked --release --bin escrow
    cargo test --locked --release -p escrow-tests --test "$1" -- --nocapture
}

long_form() {
    local trials
    trials="$(awk -v name="$1" '$1 == name { print $2 }' <<<"$RIGS")"
    [ -n "$trials" ] || { echo "test.sh: there is no rig $1; see ./test.sh --rigs" >&2 && exit 2; }
    echo "$trials"
}

number() {
    case "${1:-}" in
    '' | *[!0-9]*) echo "test.sh: $2 needs a number, e.g. ./test.sh $2 1000" >&2 && exit 2 ;;
    *) echo "$1" ;;
    esac
}

long() {
    local name trials unit failed=""
    while read -r name trials unit; do
        [ -n "$name" ] || continue
        echo "== $name: $trials $unit"
        rig "$name" "$trials" </dev/null || failed="$failed $name"
    done <<<"$RIGS"
    # Not as a function: behind `||` its first failure would not end it.
    ./test.sh --fuzz 3600 || failed="$failed fuzz"
    [ -z "$failed" ] || { echo "test.sh: failed:$failed" >&2 && exit 1; }
}

# Each fuzz target for the given seconds, from the kept corpus; what is learnt stays under target/, what is found is
# named in the output and belongs into fuzz/found/<target>, where tests/corpus.rs tries it again in every run.
fuzz() {
    local target learnt tools="$PWD/target/tools"
    if ! cargo fuzz --version >/dev/null 2>&1; then
        export PATH="$tools/bin:$PATH"
        cargo fuzz --version >/dev/null 2>&1 ||
            cargo install cargo-fuzz --locked --version "$CARGO_FUZZ_VERSION" --root "$tools" --quiet
    fi
    for target in $FUZZ_TARGETS; do
        learnt="$PWD/target/fuzz/$target"
        mkdir -p "$learnt"
        echo "== $target: $1 seconds"
        # Without a sanitizer: our code is safe Rust. The bounds on memory find lengths that are believed.
        cargo +nightly fuzz run --fuzz-dir fuzz --sanitizer none --target-dir "$PWD/target/fuzz-build" "$target" \
            "$learnt" "fuzz/corpus/$target" -- -max_total_time="$1" -max_len=65536 -malloc_limit_mb=256 \
            -rss_limit_mb=1024 -timeout=30 -print_final_stats=1
    done
}

case "${1:-}" in
'') everyday ;;
--sim) trials="$(number "${2:-}" --sim)" && rig simulator "$trials" ;;
--rig)
    trials="$(long_form "${2:-}")"
    [ -z "${3:-}" ] || trials="$(number "$3" "--rig $2")"
    rig "$2" "$trials"
    ;;
--rigs) awk 'NF { printf "%-12s %7d %s\n", $1, $2, $3 }' <<<"$RIGS" ;;
--long) long ;;
--fuzz) seconds="$(number "${2:-}" --fuzz)" && fuzz "$seconds" ;;
--browser) browser ;;
--all) everyday && browser && long ;;
*) sed -n '2,13s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac
