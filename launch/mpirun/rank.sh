#!/usr/bin/env bash
# launch/mpirun/rank.sh SIGNAL PROGRAM [ARGUMENTS...]: one rank of launch/mpirun.sh. It reports on standard error when
# signals may be sent to the rank, and how it ended. mpirun does not report this when a host is cut off:
#   spikefloss-rank RANK HOST started
#   spikefloss-rank RANK HOST ended CODE
set -u
sign=$1
shift
# SIGNAL is ignored until the program handles it. This shell survives the signals that are for the program.
trap : HUP INT TERM USR1 USR2 XCPU
trap '' "$sign"
echo "spikefloss-rank $OMPI_COMM_WORLD_RANK $HOSTNAME started" >&2
"$@"
code=$?
echo "spikefloss-rank $OMPI_COMM_WORLD_RANK $HOSTNAME ended $code" >&2

# 75 comes from the watchdog. If this host was cut off, its daemon of mpirun (orted) would try to reach mpirun for a
# quarter of an hour.
if [ $code -eq 75 ]; then
    # shellcheck disable=SC2016  # for the inner shell
    setsid bash -c '
        is_there() { [ "$(cat "/proc/$1/comm" 2>/dev/null)" = orted ]; }
        for _ in {1..15}; do sleep 1; is_there "$1" || exit; done
        kill -TERM "$1"
        sleep 2
        if is_there "$1"; then kill -KILL "$1"; fi' end_orted $PPID </dev/null >/dev/null 2>&1 &
fi
exit $code
