# shellcheck shell=bash
# launch/slurm/common.sh: the common parts of the batch scripts of this folder. They source it, and call
#   begin_job SCRIPT "$@"    checks that this is a job with a config; CPUs of a rank; sets the array `arguments`,
#                            and, for the script to change, `work`, the command of spikefloss, and `resume_option`
#   choose_launcher          sets the array `launch`: srun, or mpirun
#   show_job PROGRAM...      prints job, nodes, versions, and how to follow, stop and resume; reads the config. PROGRAM:
#                            the command that starts one process of spikefloss
#   run_job COMMAND...       runs COMMAND (launcher, program, arguments) to the end, and exits with its exit code:
#
# | COMMAND ends with | run_job                                                                                    |
# |-------------------|--------------------------------------------------------------------------------------------|
# | 0, 2, 3           | exits: done, wrong input, not finite                                                       |
# | 85                | requeues the job, which was stopped with a checkpoint and will resume                      |
# | anything else     | runs it again with --resume (a sweep: --retry), up to RETRIES times; after a stop, as with 85 |
#
# The first retry comes at once. The wait before each later retry is RETRY_WAIT seconds longer than the wait before.
# After about 5 minutes Slurm notices that a node is gone, and requeues the job itself.
#
# A signal to this shell (--signal=B:USR1@..., scancel) is sent to COMMAND as USR1, or as USR2 if run.stop_signals has
# no USR1. srun and mpirun both pass these signals on. On TERM mpirun would kill its ranks a second later. Ranks that
# had the first signal from Slurm ignore a second one. A job that was cancelled or requeued meanwhile is left to Slurm.

signals=(USR1 USR2 TERM HUP XCPU)

say() { echo "spikefloss: $*"; }
# The words of a command for the log, without the token of the live page.
shown() { printf '%q ' "$@" | sed -E 's/(serve\.token\\?=)(\\.|[^ \\])*/\1.../g'; }

give_up() { # CODE PROBLEM ADVICE
    printf 'spikefloss: error: %s\n  what to do: %s\n' "$2" "$3" >&2
    exit "$1"
}

begin_job() { # SCRIPT CONFIG [ARGUMENT...]
    script=$1 child="" asked="" signals_seen=0 stop_signal=USR1 work=(train) resume_option=--resume
    # The name of a task of an array. The id of one task is also that of the whole array.
    job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
    job=${job:-$SLURM_JOB_ID}
    for name in "${signals[@]}"; do
        # shellcheck disable=SC2064  # expanded now
        trap "pass_on $name" "$name"
    done
    if [ -z "${2:-}" ] || [ "${2#-}" != "$2" ]; then
        give_up 2 "no config is named" "sbatch [options of sbatch] $script CONFIG [arguments of spikefloss train]"
    elif [ ! -r "$2" ]; then
        give_up 2 "there is no config file $2 that can be read in $PWD on $(hostname)" \
            "name an existing one; a relative name is relative to the folder where sbatch was called"
    fi
    arguments=("${@:2}")
    [[ ${RETRIES:=3} =~ ^[0-9]+$ ]] || give_up 2 "RETRIES=$RETRIES is not a number" "use 0, 1, 2, ..."
    [[ ${RETRY_WAIT:=150} =~ ^[0-9]+$ ]] || give_up 2 "RETRY_WAIT=$RETRY_WAIT is not a number" "use seconds: 0, 1, 2, ..."
    ranks=${SLURM_NTASKS:-$SLURM_JOB_NUM_NODES}
    # Since Slurm 22.05 srun no longer takes this from sbatch.
    if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then
        export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
        [[ " ${arguments[*]} " == *" --threads"[\ =]* ]] || arguments+=(--threads "$SLURM_CPUS_PER_TASK")
    fi
    # Waiting threads release their core soon. Waiting ranks do so only if there are more ranks than cores.
    export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-20000}
    if [ "${SLURM_TASKS_PER_NODE%%[(,]*}" -gt "$(env -u OMP_NUM_THREADS nproc)" ]; then
        export OMPI_MCA_mpi_yield_when_idle=${OMPI_MCA_mpi_yield_when_idle:-1}
    fi
}

choose_launcher() {
    local mpi=${SLURM_MPI_TYPE:-pmix} known
    case ${LAUNCHER:=srun} in
        srun)
            known=$(srun --mpi=list 2>&1 | tail -n +2 | tr -s '[:space:],' ' ')
            [[ " $known " == *" $mpi "* ]] || give_up 2 "this Slurm's srun has no --mpi=$mpi, but${known% }" \
                "LAUNCHER=mpirun sbatch ..., or SLURM_MPI_TYPE=..., one that Open MPI is built for"
            launch=(srun "--mpi=$mpi" "--ntasks=$ranks" --kill-on-bad-exit=1)
            ;;
        mpirun)
            launch=(mpirun -n "$ranks" --bind-to none)
            # scancel sends SIGTERM to the ranks and to mpirun. mpirun would kill the ranks 1 s later, during the
            # checkpoint. mpirun waits this time twice at every end that is no success. Twice the time must be less than
            # Slurm's KillWait, 30 s by default.
            export OMPI_MCA_odls_base_sigkill_timeout=${OMPI_MCA_odls_base_sigkill_timeout:-10}
            ;;
        *) give_up 2 "LAUNCHER=$LAUNCHER is not known" "use LAUNCHER=srun or LAUNCHER=mpirun" ;;
    esac
}

field() { # NAME: a field of Slurm's description of this job
    scontrol show job "$job" | sed -n "s|^ *$1=||p"
}

show_job() {
    local words settings code=0
    say "job $job ($SLURM_JOB_NAME), partition $SLURM_JOB_PARTITION, start $((${SLURM_RESTART_COUNT:-0} + 1))"
    say "nodes: $(scontrol show hostnames "$SLURM_JOB_NODELIST" | paste -sd ' '); $ranks ranks${SLURM_JOB_GPUS:+; GPUs \
$SLURM_JOB_GPUS on the first node}"
    say "$("${launch[0]}" --version | head -n 1)"
    "$@" info </dev/null || say "'$* info' does not work here, see above"
    # Errors of the config are reported here, once. (This process is no task of Slurm.)
    settings=$(env -u SLURM_NTASKS "$@" "${work[@]}" "${arguments[@]}" --print-config </dev/null) || code=$?
    [ $code -ne 2 ] || exit 2
    case $code$(sed -n '/^stop_signals *=/p' <<<"$settings") in
        0*'"USR1"'*) ;;
        0*'"USR2"'*) stop_signal=USR2 ;;
        0*) give_up 2 "run.stop_signals has no signal that srun and mpirun pass on to the ranks" "add USR1 or USR2" ;;
        *) say "reading the config alone ended with $code" ;;
    esac
    words=" $(shown "$script" "${arguments[@]}")"
    words=${words% }
    say "follow: tail -F $(field StdOut) | stop, with a checkpoint: scancel $job |" \
        "continue after that: sbatch [the same options]${words% "$resume_option"} $resume_option"
}

pass_on() {
    asked=$1
    signals_seen=$((signals_seen + 1))
    say "$(date +%T) $1: stopping after this step with a checkpoint"
    [ -z "$child" ] || kill -"$stop_signal" "$child" 2>/dev/null || true
}

leave_or_requeue() { # CODE
    local state
    state=$(squeue -h -j "$job" -o %T) || state=unknown
    [ "$state" = RUNNING ] || { say "exit code $1; Slurm ends this job itself ($state)"; exit "$1"; }
    # From here on a signal ends this shell. Slurm sends one after the requeue.
    trap - "${signals[@]}"
    say "$(date +%T) back into the queue: scontrol requeue $job"
    if scontrol requeue "$job"; then
        # Slurm ends this shell now. If the script ended first, the job would count as failed.
        sleep 600
    fi
    give_up "$1" "job $job could not be requeued, see above" "submit it again with --resume"
}

# Waits for the background process `child`, and returns its exit code. A trapped signal ends the `wait` of bash early,
# with the number of the signal in place of the code.
wait_for_child() {
    local before code
    while true; do
        before=$signals_seen code=0
        wait "$child" || code=$?
        [ "$before" -ne "$signals_seen" ] || return $code
    done
}

run_job() {
    local attempt=0 resume=() code
    [ -z "$asked" ] || leave_or_requeue 85
    [ "${SLURM_RESTART_COUNT:-0}" -eq 0 ] || resume=("$resume_option")
    while true; do
        say "$(date +%T) $(shown "$@" "${resume[@]}")"
        "$@" "${resume[@]}" </dev/null &
        child=$!
        [ -z "$asked" ] || kill -"$stop_signal" $child 2>/dev/null || true
        code=0
        wait_for_child || code=$?
        child=""
        say "$(date +%T) exit code $code"
        case $code in 0 | 2 | 3) exit $code ;; esac
        if [ $code -eq 85 ] || [ -n "$asked" ]; then
            leave_or_requeue $code
        elif [ $((attempt += 1)) -gt "$RETRIES" ]; then
            give_up $code "the run has ended with $code $attempt times" "see above and docs/cluster.md"
        fi
        say "retry $attempt of $RETRIES, from the newest checkpoint, in $(((attempt - 1) * RETRY_WAIT)) s"
        sleep $(((attempt - 1) * RETRY_WAIT)) &
        child=$!
        wait_for_child || true
        child=""
        [ -z "$asked" ] || leave_or_requeue $code
        resume=("$resume_option")
    done
}
