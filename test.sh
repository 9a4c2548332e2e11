#!/usr/bin/env bash
# The tests. Needs the Rust toolchain and this checkout, nothing else.
#
#   ./test.sh              what every change must pass (minutes)
#   ./test.sh --sim N      N seeds of the simulator, in a release build
#   ./test.sh --kills N    N rounds of kill -9 of the real binary under load, in a release build
#   ./test.sh --long       the long forms: 10,000 seeds, 200 kills
#   ./test.sh --all        everyday and long
set -euo pipefail
cd "$(dirname "$0")"

everyday() {
    # The rigs start the real binary, and the examples: build them first, so that they find these.
    cargo build --locked --bin escrow
    cargo build --locked -p escrow-client --examples
    cargo test --locked --workspace --all-targets
    cargo test --locked --workspace --doc
    # The simulator must notice every fault that is planted on purpose.
    cargo test --locked -p escrow-tests --features sabotage --test sabotage
    echo "the stories of escrow dev, to their end:"
    cargo run --locked --quiet --bin escrow -- dev --check
}

simulate() {
    ESCROW_SIM_SEEDS="$1" cargo test --locked --release -p escrow-tests --test simulator -- --nocapture
}

kills() {
    cargo build --locked --release --bin escrow
    ESCROW_KILL_ROUNDS="$1" cargo test --locked --release -p escrow-tests --test kill -- --nocapture
}

number() {
    case "${1:-}" in
    '' | *[!0-9]*) echo "test.sh: $2 needs a number, e.g. ./test.sh $2 1000" >&2 && exit 2 ;;
    *) echo "$1" ;;
    esac
}

case "${1:-}" in
'') everyday ;;
--sim) simulate "$(number "${2:-}" --sim)" ;;
--kills) kills "$(number "${2:-}" --kills)" ;;
--long) simulate 10000 && kills 200 ;;
--all) everyday && simulate 10000 && kills 200 ;;
*) sed -n '2,9s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac
