#!/usr/bin/env bash
# launch/docker_run.sh CONFIG [ARGUMENTS...]: runs spikefloss train CONFIG ARGUMENTS... in a container, with the GPUs of
# the machine if there are any. Paths are the same inside and outside. Files belong to the caller. Ctrl-C, TERM and USR1
# stop with a checkpoint. The exit code is that of the program (125 to 127: of the engine). docs/containers.md builds
# the image.
# Environment:
#   RANKS        MPI ranks (default 1)
#   RUNS         folder of runs (default ./runs); the container writes only here and in the folder of --run-dir
#   DATA         folder with data that CONFIG names; it is read-only
#   GPUS         all, none, or device=0,1 (default: all if there are any)
#   IMAGE        default spikefloss:cuda with GPUs, otherwise spikefloss:cpu
#   SHM_SIZE     shared memory for communication between ranks (default 1g)
#   ENGINE       docker or podman (default: the first that is installed)
#   ENGINE_ARGS  more arguments for the engine's run command, such as "--network host --memory 8g"
set -eu
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)

usage() {
    echo "usage: [RANKS=n] [DATA=folder] launch/docker_run.sh CONFIG [arguments of 'spikefloss train']"
    echo "(the head of $root/launch/docker_run.sh has the other settings)"
}
# stop CODE LINE...: ends with an error.
stop() {
    code=$1
    shift
    printf 'spikefloss: %s\n' "$@" >&2
    exit "$code"
}

case ${1:-} in
    "") usage >&2; exit 2 ;;
    -h | --help) usage; exit 0 ;;
esac
config=$1
if [ ! -f "$config" ] || [ ! -r "$config" ]; then
    stop 2 "there is no config file $config that can be read here ($PWD); see launch/docker_run.sh --help"
fi
ranks=${RANKS:-1}
[[ $ranks =~ ^[1-9][0-9]*$ ]] || stop 2 "RANKS=$ranks is not a number of MPI processes; use 1, 2, ..."

engine=${ENGINE:-}
if [ -z "$engine" ]; then
    for engine in docker podman ""; do
        [ -z "$engine" ] || ! command -v "$engine" >/dev/null || break
    done
    [ -n "$engine" ] || stop 1 "neither docker nor podman is installed." \
        "Install one of them, or train without a container: launch/train $config"
elif ! command -v "$engine" >/dev/null; then
    stop 1 "ENGINE=$engine is not installed; use docker or podman."
fi

gpus=${GPUS:-}
if [ -z "$gpus" ]; then
    gpus=none
    # nvidia-smi -L prints a line for every GPU.
    if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then
        gpus=all
    fi
fi
kind=cuda file=docker/Dockerfile
if [ "$gpus" = none ]; then
    kind=cpu file=docker/cpu.Dockerfile
fi
image=${IMAGE:-spikefloss:$kind}
if ! "$engine" image inspect "$image" >/dev/null 2>&1; then
    if ! message=$("$engine" info 2>&1 >/dev/null); then
        stop 1 "$engine is installed, but does not answer: $message" \
            "Start its service, or get the right to use it (for docker: membership in the group docker)."
    fi
    if [ -n "${IMAGE:-}" ]; then
        stop 1 "there is no image $image here. Get it with: $engine pull $image"
    fi
    stop 1 "there is no image $image here. Build it with:" \
        "  cd $root && $engine build -f $file -t $image --build-arg COMMIT=\"\$(git describe --always --dirty)\" ."
fi

arguments=(--rm --workdir "$PWD" --env "RANKS=$ranks" --shm-size "${SHM_SIZE:-1g}" --stop-timeout 120)
[ -z "${SPIKEFLOSS_TOKEN:-}" ] || arguments+=(--env SPIKEFLOSS_TOKEN) # by name: the value stays out of ps
user=$(id -u):$(id -g)
case $(basename "$engine") in
    podman*)
        # Without root the caller is the same user inside. The label option stops SELinux from hiding the folders.
        arguments+=(--security-opt label=disable)
        [ "$user" = 0:0 ] || arguments+=(--userns keep-id)
        if [ "$gpus" != none ]; then
            IFS=, read -ra names <<<"${gpus#device=}"
            arguments+=("${names[@]/#/--device=nvidia.com/gpu=}")
        fi
        ;;
    *)
        # In a rootless docker the caller is root inside.
        if "$engine" info --format '{{.SecurityOptions}}' 2>/dev/null | grep -q rootless; then
            user=0:0
        fi
        # The inner quotes are needed because docker ends the value at a comma. NCCL pins memory.
        [ "$gpus" = none ] || arguments+=(--gpus "\"$gpus\"" --ulimit memlock=-1)
        ;;
esac
arguments+=(--user "$user")
# Open MPI refuses root by default. Only a caller who is root gets here.
if [ "$user" = 0:0 ]; then
    arguments+=(--env OMPI_ALLOW_RUN_AS_ROOT=1 --env OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1)
fi

# share PATH [readonly]: mounts PATH under the same name.
share() {
    path=$(realpath --no-symlinks --canonicalize-missing "$1")
    case $path in *,*) stop 2 "$path: the engine cannot share a path with a comma in it" ;; esac
    arguments+=(--mount "type=bind,source=$path,target=$path${2:+,$2}")
}
# share_to_write FOLDER: creates it first; an engine would create it as root.
share_to_write() {
    mkdir -p "$1" || stop 1 "the folder $1 for runs cannot be made"
    share "$1"
}
inside() {
    case $(realpath --canonicalize-missing "$1")/ in "$(realpath --canonicalize-missing "$2")"/*) ;; *) return 1 ;; esac
}

runs=${RUNS:-runs}
share_to_write "$runs"
previous=
for argument in "${@:2}"; do
    folder=
    case $argument in --run-dir=*) folder=${argument#--run-dir=} ;; esac
    [ "$previous" != --run-dir ] || folder=$argument
    if [ -n "$folder" ] && ! inside "$folder" "$runs"; then
        share_to_write "$folder"
    fi
    previous=$argument
done
inside "$config" "$runs" || share "$config" readonly
if [ -n "${DATA:-}" ]; then
    [ -d "$DATA" ] || stop 2 "DATA=$DATA is not a folder"
    share "$DATA" readonly
fi
# shellcheck disable=SC2206  # words, as on a command line
arguments+=(${ENGINE_ARGS:-})

# exec: the engine gets the signals and passes them on to the container. Its exit code is that of this script.
exec "$engine" run --sig-proxy=true "${arguments[@]}" "$image" train "$@"
