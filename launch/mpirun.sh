#!/usr/bin/env bash
# launch/mpirun.sh CONFIG [RANKS] [--hostfile F] [ARGUMENTS of 'spikefloss train'...]
# trains on MPI ranks, on this machine, on the hosts of an Open MPI hostfile, or on those of the Slurm job it runs in.
#
#   RANKS         MPI processes. The default is P times Q of a PxQ grid; in a Slurm job its tasks; with slots in the
#                 hostfile their sum; else one for each GPU (nvidia-smi -L) if the program is built with CUDA; else one
#                 for each physical core of all hosts, up to train.batch.
#   --hostfile F  one host a line, with or without slots=N. All hosts need the same program, config and run directory
#                 under the same paths, so these must be on a shared file system. ssh must reach the hosts without a
#                 password. If they have several networks, name one: OMPI_MCA_btl_tcp_if_include=10.0.0.0/8
#
# Signals, to this script: the first USR1, TERM, INT (Ctrl-C), HUP, USR2 or XCPU stops the ranks after their step, with
# a checkpoint, by a signal of run.stop_signals; another TERM or INT ends the job at once. A
# terminal that closes may send HUP twice. If this script is killed (kill -9), mpirun and its ranks end, too.
# Exit codes: those of the program, docs/exit_codes.md (85: stopped with a checkpoint; 75: a rank or a host is lost,
# also by kill -9; 2: called wrongly), and 128 + n for a crash by signal n or if signal n ended the job at once.
# Environment: PRESET of CMakePresets.json (default cpu-release) or SPIKEFLOSS, the program; BIND=none: do not bind
# ranks to cores (by default a job that uses all cores of its hosts is bound to them, any other is not).
set -eu
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
program=${SPIKEFLOSS:-$root/build/${PRESET:-cpu-release}/spikefloss}

usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$root/launch/mpirun.sh"; }
say() { echo "spikefloss: $*" >&2; }
counted() { if [ "$1" -eq 1 ]; then echo "1 $2"; else echo "$1 $2s"; fi; }
stop() {  # code, problem, what to do
    printf 'spikefloss: error: %s\n  what to do: %s\n' "$2" "$3" >&2
    exit "$1"
}

# --- the arguments
case ${1:-} in
    "") usage >&2; exit 2 ;;
    -h | --help) usage; exit 0 ;;
esac
config=$1
shift
ranks=
if [[ ${1:-} =~ ^[0-9]+$ ]]; then
    ranks=$1
    shift
    [ "$ranks" -gt 0 ] || stop 2 "0 ranks cannot train" "give a number of MPI processes, or none for the default"
fi
hostfile=
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
        --hostfile=*) hostfile=${1#*=} ;;
        --hostfile)
            [ $# -gt 1 ] || stop 2 "--hostfile has no file" "name an Open MPI hostfile: one host a line"
            shift
            hostfile=$1
            ;;
        -h | --help) usage; exit 0 ;;
        *) arguments+=("$1") ;;
    esac
    shift
done
[ -r "$config" ] || stop 2 "there is no config file $config that can be read here ($PWD)" \
    "name it first, as in launch/mpirun.sh $root/configs/tiny.toml"
[ -z "$hostfile" ] || [ -r "$hostfile" ] ||
    stop 2 "the hostfile $hostfile cannot be read" "name a file with one host a line"
[ -x "$program" ] ||
    stop 2 "there is no program $program" "build it with launch/build spikefloss, or name it: SPIKEFLOSS=..."
mpirun=$(command -v mpirun) ||
    stop 1 "mpirun is not installed" "install openmpi-bin (launch/packages), or load its module"

# The first signal may come at any time. These traps come before the one for EXIT: with that one alone bash would end
# here on a signal.
asked=0
at_once=
killed=
# shellcheck disable=SC2317  # traps call it
on_signal() {  # name, number
    if [ "$asked" -eq 0 ]; then
        asked=1
        say "$1: stopping after this step with a checkpoint (TERM or Ctrl-C now: at once)"
    elif [ "$2" -eq 2 ] || [ "$2" -eq 15 ]; then
        at_once=$2
    fi
}
trap 'on_signal HUP 1' HUP
trap 'on_signal INT 2' INT
trap 'on_signal USR1 10' USR1
trap 'on_signal USR2 12' USR2
trap 'on_signal XCPU 24' XCPU
trap 'on_signal TERM 15' TERM
ignore_signals() { trap '' HUP INT TERM USR1 USR2 XCPU; }

# The folders that mpirun needs. Without them it ends with forty lines of messages.
temporary=${TMPDIR:-${TEMP:-${TMP:-/tmp}}}
state=$(mktemp -d "$temporary/spikefloss.XXXXXX" 2>/dev/null) ||
    stop 2 "the folder for temporary files, $temporary, is missing or cannot be written to" \
        "set TMPDIR to a folder in which you may create files"
trap 'rm -rf "$state"' EXIT
sessions=$temporary/ompi.${HOSTNAME%%.*}.$(id -u)
if [ -e "$sessions" ] && ! { [ -d "$sessions" ] && [ -w "$sessions" ] && [ -x "$sessions" ]; }; then
    stop 2 "$sessions, the folder in which Open MPI keeps its sessions, belongs to another user" \
        "remove it, or set TMPDIR to another folder"
fi

# By default Open MPI refuses root and more ranks than cores.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_btl_base_warn_component_unused=0
# Idle threads release their core after about 0.1 ms instead of 10 ms: with another program on the machine the default
# made a run on two threads seven times slower.
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-20000}

# The program reads its config once, alone, so that an error of the config is one message. It is not a task of Slurm.
settings=$(env -u SLURM_NTASKS "$program" train "$config" "${arguments[@]}" --print-config) || exit $?
setting() {  # section, key
    awk -v section="[$1]" -v key="$2" '/^\[/ { here = $0 == section }
        here && $1 == key { sub(/^[^=]*= */, ""); gsub(/"/, ""); print; exit }' <<<"$settings"
}

# --- the machines: one line "host NAME CORES GPUS" for each
program=$(readlink -f "$program")
many=
[ -z "$hostfile" ] && [ "${SLURM_JOB_NUM_NODES:-1}" -le 1 ] || many=1
if [ -n "$many" ]; then
    on_hosts=("$mpirun")
    [ -z "$hostfile" ] || on_hosts+=(--hostfile "$hostfile")
    hosts=$("${on_hosts[@]}" --map-by ppr:1:node --bind-to none "$root/launch/mpirun/host.sh" "$program" \
        "$(readlink -f "$config")" </dev/null) ||
        stop 1 "mpirun could not start a command on every host; its messages are above" \
            "check that ssh reaches every host of ${hostfile:-the job} without a password and that it has Open MPI"
    missing=$(sed -n 's/^missing //p' <<<"$hosts")
    [ -z "$missing" ] || stop 2 "not on every host: ${missing//$'\n'/, }" \
        "put program and config on a shared file system, under the same path on all hosts"
else
    hosts=$("$root/launch/mpirun/host.sh")
fi
read -r count cores_least cores_all gpus_least gpus_all < <(awk '$1 == "host" {
        if (!n++ || $3 < c) c = $3; C += $3; if (n == 1 || $4 < g) g = $4; G += $4
    } END { print n + 0, c, C, g, G }' <<<"$hosts")
where="this machine"
[ -z "$many" ] || where="$count hosts"

# On one host the ranks communicate through memory. With TCP each rank would listen on all addresses of the machine.
[ -n "$many" ] || export OMPI_MCA_btl=${OMPI_MCA_btl:-self,vader}

# --- the number of ranks, and the reason for it
slots=      # of all hosts, and of the host with most
most=
if [ -n "$hostfile" ]; then
    mapfile -t per_host < <(
        sed -nE 's/#.*//; s/^.*[[:blank:]]slots[[:blank:]]*=[[:blank:]]*([0-9]+).*$/\1/p' "$hostfile")
    if [ ${#per_host[@]} -gt 0 ]; then
        [ ${#per_host[@]} -eq "$(grep -cE '^[[:space:]]*[^#[:space:]]' "$hostfile")" ] ||
            stop 2 "some hosts of $hostfile have slots=N, others have none" "give every host its slots, or none"
        read -r slots most < <(printf '%s\n' "${per_host[@]}" |
            awk '{ n += $1; if ($1 > m) m = $1 } END { print n, m }')
    fi
elif [ -n "${SLURM_NTASKS:-}" ]; then
    slots=$SLURM_NTASKS
    most=$(((slots + count - 1) / count))
fi
on_gpus=
if [ "$gpus_all" -gt 0 ] && [ "$(setting parallel backend)" != cpu ] &&
    "$program" info 2>/dev/null | grep -q '^backends.*cuda'; then
    on_gpus=1
fi
grid=$(setting parallel grid)
batch=$(setting train batch)
if [ -n "$ranks" ]; then
    why="as requested"
elif [[ $grid =~ ^[0-9]+x[0-9]+$ ]]; then
    ranks=$((${grid%x*} * ${grid#*x}))
    why="for the grid $grid"
elif [ -n "$slots" ]; then
    ranks=$slots
    why="the slots of $hostfile"
    [ -n "$hostfile" ] || why="the tasks of the Slurm job"
elif [ -n "$on_gpus" ]; then
    [ $((gpus_least * count)) -eq "$gpus_all" ] ||
        stop 2 "the hosts have different numbers of GPUs" "give each its slots=N in the hostfile"
    ranks=$gpus_all
    why="one for each GPU"
else
    ranks=$cores_all
    why="one for each physical core"
fi
if [ "$why" != "as requested" ] && [ "$grid" = auto ] && [ "$ranks" -gt "$batch" ]; then
    why="one for each of train.batch sequences ($ranks would be $why)"
    ranks=$batch
fi

# --- the place of each rank. Neighbours are on one host. A host has as many ranks as slots or, without slots, all hosts
# have the same number. Ranks are bound to cores if the job uses all cores. Two smaller jobs could be bound to the same
# cores and leave others idle.
launch=("$mpirun" -n "$ranks")
[ -z "$hostfile" ] || launch+=(--hostfile "$hostfile")
map=slot
each=$(((ranks + count - 1) / count))  # at most, on a host
if [ -n "$slots" ]; then
    each=$((ranks < most || count == 1 ? ranks : ranks > slots ? each : most))
elif [ -n "$many" ]; then
    map=ppr:$each:node
fi
threads=$(setting parallel threads)
[ "$threads" -gt 0 ] || threads=$((cores_least > each ? cores_least / each : 1))
if [ "${BIND:-}" != none ] && [ $((each * threads)) -le "$cores_least" ] &&
    [ $(((each + 1) * threads)) -gt "$cores_least" ]; then
    launch+=(--map-by "$map:PE=$threads" --bind-to core)
    bound="bound to $(counted "$threads" core)"
else
    launch+=(--map-by "$map" --bind-to none)
    bound="not bound to a core"
fi
with="$(counted "$cores_all" "physical core")"
[ -z "$on_gpus" ] || with+=" and $(counted "$gpus_all" GPU)"
say "$(counted "$ranks" rank) on $where with $with: $why; $(counted "$threads" thread) each, $bound"

# The signal that stops the ranks. mpirun passes on USR1, USR2 and configured others, but never TERM, INT and
# HUP.
wanted=" $(setting run stop_signals | tr -d '[],') "
sign=
for name in XCPU USR2 USR1; do
    case $wanted in *" $name "*) sign=$name ;; esac
done
[ -n "$sign" ] ||
    stop 2 "run.stop_signals =$wanted has no signal that mpirun passes on to the ranks" "add USR1, USR2 or XCPU"
[ $sign != XCPU ] || export OMPI_MCA_ess_base_forward_signals=SIGXCPU

# mpirun detects a host that is cut off only by unanswered keepalives. The watchdog of the program reports more, so it
# must be first: it takes watchdog.seconds and up to 10 s.
watchdog=$(printf '%.0f' "$(setting watchdog seconds)")
if [ "$watchdog" -gt 0 ]; then
    interval=$(((watchdog + 10) / 4 + 1))
    export OMPI_MCA_oob_tcp_keepalive_time=$interval OMPI_MCA_oob_tcp_keepalive_intvl=$interval
    export OMPI_MCA_oob_tcp_keepalive_probes=4
fi

# --- the ranks, each started by launch/mpirun/rank.sh.
# follow() filters the standard error of the ranks and of mpirun. Lines of rank.sh become files of the folder $state.
# The ten lines of mpirun about a program that ended with another code than 0 are left out.
follow() {
    ignore_signals
    local line block="" inside="" started=0 rank host what code
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
            "mpirun: Forwarding signal "* | *"/launch/mpirun/rank.sh: line "*) ;;  # the latter: "Killed"
            *"spikefloss-rank "*)
                [ -z "${line%%spikefloss-rank *}" ] || echo "${line%%spikefloss-rank *}"
                read -r rank host what code <<<"${line#*spikefloss-rank }"
                if [ "$what" = started ]; then
                    started=$((started + 1))
                    [ $started -lt "$ranks" ] || : >"$state/started"
                elif [ "$code" -ne 0 ]; then
                    echo "$rank $host $code" >>"$state/ended"
                fi
                ;;
            --------------------*)
                block+=$line$'\n'
                if [ -n "$inside" ]; then
                    case $block in
                        *"Primary job "* | *"exited with non-zero status"*) ;;
                        *) printf %s "$block" ;;
                    esac
                    block="" inside=""
                else
                    inside=1
                fi
                ;;
            *) if [ -n "$inside" ]; then block+=$line$'\n'; else printf '%s\n' "$line"; fi ;;
        esac
    done
    printf %s "$block"
}
exec {errors}> >(follow >&2)
follower=$!

[ $asked -eq 0 ] || { say "stopped before the training began"; exit 85; }
# If this script is killed, the kernel sends SIGTERM to mpirun, which then ends its ranks.
guarded=(setpriv --pdeathsig TERM)
"${guarded[@]}" true 2>/dev/null || guarded=()
# If the reader of the output ends (| head), mpirun would end the ranks.
outlived() {
    ignore_signals
    cat 2>/dev/null || true
    exec cat >/dev/null
}
relay=
if [ -p /dev/stdout ]; then
    exec {lines}> >(outlived {errors}>&-)
    relay=$!
else
    exec {lines}>&1
fi
# mpirun has its own process group, which Ctrl-C does not reach.
set -m
exported=(-x GOMP_SPINCOUNT)
[ -z "${SPIKEFLOSS_TOKEN:-}" ] || exported+=(-x SPIKEFLOSS_TOKEN) # rank 0 may be on another machine
"${guarded[@]}" "${launch[@]}" "${exported[@]}" "$root/launch/mpirun/rank.sh" "$sign" "$program" train "$config" \
    "${arguments[@]}" </dev/null >&"$lines" 2>&"$errors" {errors}>&- {lines}>&- &
job=$!
set +m
exec {errors}>&- {lines}>&-

# The loop runs ten times a second. It passes on the signal to stop, every 5 s again, because a rank may have missed it
# during its start. It also checks whether mpirun still waits although a rank has ended the job: mpirun waits for a
# quarter of an hour for a host that is cut off. The loop does not use `wait`: a trapped signal that comes just when
# mpirun ends makes bash return a wrong code or wait for ever.
mkfifo "$state/silent"
exec {silent}<>"$state/silent"
round=0
left=  # rounds until mpirun is ended; the clock is not used, because it may be set
while kill -0 $job 2>/dev/null && [ "${left:-1}" -gt 0 ]; do
    [ -z "$left" ] || left=$((left - 1))
    if [ -n "$at_once" ] && [ -z "$killed" ]; then
        killed=1
        left=50
        kill -TERM $job 2>/dev/null || true
    elif [ -e "$state/ended" ]; then
        left=${left:-100}
    elif [ $asked -eq 1 ] && [ -e "$state/started" ]; then
        [ $((round++ % 50)) -ne 0 ] || kill "-$sign" $job 2>/dev/null || true
    fi
    read -rt 0.1 -u "$silent" || true
done
ignore_signals
family() {  # a process and all its descendants
    local child children
    echo "$1"
    read -ra children <"/proc/$1/task/$1/children" || return 0
    for child in "${children[@]}"; do family "$child"; done
}
if kill -0 $job 2>/dev/null; then
    [ -n "$at_once" ] || say "mpirun still waits for a host that does not answer; it is ended now"
    mapfile -t all < <(family $job 2>/dev/null)
    kill -KILL "${all[@]}" 2>/dev/null || true
fi
status=0
wait $job 2>/dev/null || status=$?
for _ in {1..20}; do  # for output that is still on its way; a process on a lost host may keep the pipes open
    kill -0 $follower 2>/dev/null || { [ -n "$relay" ] && kill -0 "$relay" 2>/dev/null; } || break
    sleep 0.1
done

# --- the report. A killed rank has priority, then a lost one. The other ranks ended because of it.
if [ -n "$at_once" ]; then
    say "ended at once by the second signal; earlier checkpoints stay whole"
    exit $((128 + at_once))
fi
if [ -e "$state/ended" ]; then
    read -r rank host code < <(awk 'function weight(c) { return c == 137 ? 2 : c == 75 }
        NR == 1 || weight($3) > weight(c) { r = $1; h = $2; c = $3 } END { print r, h, c }' "$state/ended")
    if [ "$code" -eq 137 ]; then
        say "rank $rank ($host) was killed (kill -9, or no memory left); continue with --resume"
        exit 75
    fi
    [ "$code" -le 128 ] || say "rank $rank ($host) was ended by signal $((code - 128)); its messages are above"
    exit "$code"
fi
[ "$status" -ne 0 ] || exit 0
if [ -e "$state/started" ]; then
    say "mpirun has lost a host, or was killed itself (code $status), with its ranks; continue with --resume"
    exit 75
fi
say "mpirun could not start the ranks (code $status); its messages are above"
exit 1
