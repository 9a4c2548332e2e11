#!/usr/bin/env bash
# Measures every row of the table in docs/performance.md, and makes the page and its charts from the results.
#
#   bench/table.sh slices              the names of the slices; each takes one to three minutes
#   bench/table.sh run SLICE…          measures them into bench/results/<name>/, a file for each row and round
#   bench/table.sh page [NAME]         makes docs/performance.md and docs/performance/*.svg from bench/results/<name>/
#   bench/table.sh all                 all slices, then the page
#
# Settings, as variables: NAME (date and commit), SECONDS_EACH=3, WARM_UP=0.5, ROUNDS=5, BACKLOG_SECONDS=60,
# CURVE=1000000, UNDECIDED=1000000, RESTART=1000000, DIRECTORY (where data goes: the disk that is measured; the
# project's target directory). For the figures of the issue in full: BACKLOG_SECONDS=600 CURVE=10000000. Ten minutes at full
# speed would take some 80 GB of disk; BACKLOG_RATE (messages a second, none by default) makes it less: 51000 took 40 GB.
#
# Every run starts a broker of its own with default settings in a fresh directory, and verifies what it received: a run
# that is not sound ends the script.
set -euo pipefail
cd "$(dirname "$0")/.."

SECONDS_EACH="${SECONDS_EACH:-3}"
WARM_UP="${WARM_UP:-0.5}"
ROUNDS="${ROUNDS:-5}"
BACKLOG_SECONDS="${BACKLOG_SECONDS:-60}"
CURVE="${CURVE:-1000000}"
UNDECIDED="${UNDECIDED:-1000000}"
RESTART="${RESTART:-1000000}"
DIRECTORY="${DIRECTORY:-target/bench}"
NAME="${NAME:-$(date -u +%Y-%m-%d)-$(git rev-parse --short=7 HEAD)}"
results="bench/results/$NAME"
escrow=target/release/escrow

slices() {
    for round in $(seq "$ROUNDS"); do echo "round-$round"; done
    printf '%s\n' due backlog curve undecided sizes counts restart compare
}

prepare() {
    cargo build --locked --release --workspace --bin escrow --bin escrow-compare --bin escrow-bench-page
    mkdir -p "$DIRECTORY" "$results"
    # The machine as it was before the first slice.
    [ -e "$results/machine.json" ] || cat >"$results/machine.json" <<END
{
  "commit": "$(git rev-parse HEAD)",
  "machine": "$(nproc) cores, $(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo), $(awk '/MemTotal/ { printf "%d GiB", $2 / 1048576 }' /proc/meminfo), $(uname -sr)",
  "load_before": "$(cut -d' ' -f1-3 /proc/loadavg)"
}
END
}

# measure ROW ROUND ARGUMENTS…: one run, one file.
measure() {
    local row="$1" round="$2"
    shift 2
    echo "$row, round $round" >&2
    "$escrow" -o json bench "$@" --spawn --directory "$DIRECTORY" --warm-up-seconds "$WARM_UP" >"$results/$row.$round.json"
}

timed() {
    measure "$@" --seconds "$SECONDS_EACH"
}

run() {
    case "$1" in
    round-*)
        local round="${1#round-}"
        for outstanding in 1 64 1024; do
            timed "publish-$outstanding" "$round" publish --outstanding "$outstanding" --roofline
            timed "tx-$outstanding" "$round" tx --outstanding "$outstanding" --roofline
        done
        measure consume "$round" consume --outstanding 1024 --backlog 400000
        timed steady "$round" steady --outstanding 1024
        timed e2e "$round" e2e --rate 10000
        ;;
    due)
        for round in 1 2 3; do
            measure retries "$round" retries --backlog 90000
            measure scheduled "$round" scheduled --backlog 90000
        done
        ;;
    backlog) measure backlog 1 backlog --seconds "$BACKLOG_SECONDS" ${BACKLOG_RATE:+--rate "$BACKLOG_RATE"} ;;
    curve) measure curve 1 backlog --curve --backlog "$CURVE" ;;
    undecided) measure undecided 1 undecided --backlog "$UNDECIDED" ;;
    sizes)
        # As many bytes under way each time, within reason.
        timed body-100 1 publish --outstanding 256 --body-bytes 100 --roofline
        timed body-1024 1 publish --outstanding 256 --body-bytes 1024 --roofline
        timed body-10240 1 publish --outstanding 128 --body-bytes 10240 --roofline
        timed body-1048576 1 publish --outstanding 16 --body-bytes 1048576 --roofline
        measure idle 1 idle --seconds 10
        ;;
    counts)
        for count in 1 10 100 1000; do
            timed "topics-$count" 1 publish --outstanding 256 --topics "$count"
            # As many deliveries each time, and so many that opening a thousand groups is little of it.
            measure "groups-$count" 1 consume --outstanding 256 --groups "$count" --backlog "$((1000000 / count))" --prefetch 256
            measure "consumers-$count" 1 consume --outstanding 1000 --consumers "$count" --backlog 200000 --prefetch 64
        done
        ;;
    restart) measure restart 1 restart --backlog "$RESTART" ;;
    compare)
        target/release/escrow-compare --directory "$DIRECTORY" --seconds "$SECONDS_EACH" --warm-up-seconds "$WARM_UP" \
            --rounds "$ROUNDS" --commit "$(git rev-parse HEAD)" --out "$results/compare.1.json"
        ;;
    *)
        echo "error: no slice $1; they are: $(slices | tr '\n' ' ')" >&2
        exit 2
        ;;
    esac
}

case "${1:-}" in
slices) slices ;;
run)
    shift
    prepare
    for slice in "$@"; do run "$slice"; done
    ;;
page)
    cargo build --locked --release -p escrow-bench --bin escrow-bench-page
    target/release/escrow-bench-page "${2:-$NAME}"
    ;;
all)
    prepare
    for slice in $(slices); do run "$slice"; done
    target/release/escrow-bench-page "$NAME"
    ;;
*)
    sed -n '2,17s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
