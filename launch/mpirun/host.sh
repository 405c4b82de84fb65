#!/usr/bin/env bash
# launch/mpirun/host.sh [FILE...]: prints a line about this machine for launch/mpirun.sh: "host NAME CORES GPUS". Before
# it comes "missing NAME FILE" for each FILE that cannot be read here. CORES counts the physical cores of this process.
set -eu
allowed=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)
cores=$(for range in ${allowed//,/ }; do seq "${range%-*}" "${range#*-}"; done | while read -r cpu; do
    cat "/sys/devices/system/cpu/cpu$cpu/topology/thread_siblings_list" 2>/dev/null || echo "$cpu"
done | sort -u | wc -l)
gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU' || true)
for file in "$@"; do
    [ -r "$file" ] || echo "missing $HOSTNAME $file"
done
echo "host $HOSTNAME $cores $gpus"
