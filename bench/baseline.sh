#!/usr/bin/env bash
# Measures publish, tx and consume with default settings against a broker of its own, and writes one file for the run to
# bench/results/: machine, commit, and the JSON of each scenario. Needs what the build needs.
#
#   bench/baseline.sh [seconds for each scenario]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds="${1:-10}"

cargo build --locked --release --bin escrow
escrow=target/release/escrow
scratch="$(mktemp -d)"
trap 'kill "$broker" 2>/dev/null || true; rm -rf "$scratch"' EXIT
log="$scratch/broker.log"
"$escrow" server --set "data_dir=$scratch/data" --set grpc.listen=127.0.0.1:0 --set http.listen=127.0.0.1:0 2>"$log" &
broker=$!
# The broker says where it listens once it serves.
address="$(timeout 60 sed -n '/ready/{s/.*grpc=\([0-9.:]*\).*/\1/p;q}' <(tail -n +1 -F "$log" 2>/dev/null --pid "$broker"))"

measure() {
    "$escrow" --url "http://$address" -o json bench "$@" --seconds "$seconds" --broker-pid "$broker"
}

name="$(date -u +%Y-%m-%d)-$(git rev-parse --short HEAD)"
mkdir -p bench/results
{
    echo "{"
    echo "  \"commit\": \"$(git rev-parse HEAD)\","
    echo "  \"machine\": \"$(nproc) cores, $(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo), $(awk '/MemTotal/ { printf "%d GiB", $2 / 1048576 }' /proc/meminfo), $(uname -sr)\","
    echo "  \"load_before\": \"$(cut -d' ' -f1-3 /proc/loadavg)\","
    echo "  \"scenarios\": ["
    measure publish --outstanding 1 && echo "    ,"
    measure publish --outstanding 64 && echo "    ,"
    measure publish --outstanding 1024 && echo "    ,"
    measure tx --outstanding 1 && echo "    ,"
    measure tx --outstanding 64 && echo "    ,"
    measure tx --outstanding 1024 && echo "    ,"
    measure consume --backlog 200000
    echo "  ]"
    echo "}"
} >"$scratch/all.json"
mv "$scratch/all.json" "bench/results/$name.json"
echo "bench/results/$name.json"
