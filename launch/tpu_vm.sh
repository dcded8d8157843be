#!/usr/bin/env bash
# Runs a study on a Cloud TPU: bash launch/tpu_vm.sh SUBCOMMAND FLAGS...
#
#   create   checks the bucket and the zone, then creates the machine
#   setup    copies the committed files to it and installs them
#   run      starts the study on all workers, detached from the connection
#   logs     follows the output of worker 0
#   stop     asks the study to save and end; the machine remains and is billed
#   resume   after a preemption: recreates the machine if it is gone, sets it
#            up and starts the same study, which resumes from its checkpoint
#   delete   deletes the machine
#
# Flags of the machine, best the same for every subcommand:
#   --name=NAME  --zone=ZONE
#   --type=TYPE         such as v5litepod-16; needed by create and resume
#   --project=PROJECT   default: the project of gcloud
#   --version=VERSION   software version; default: that of the type
#   --spot              cheaper, but may be preempted at any time
#   --queued            waits in a queue until capacity is available
#   --slices=N          several slices of this type (implies --queued)
# Flags of the study, for create, run and resume:
#   --config=NAME_OR_FILE  --workdir=gs://BUCKET/FOLDER  --config.FIELD=VALUE...
#   and after `--` any other flag of sleep_jax.main
# --dry-run prints every command and runs none.
#
# See docs/tpu.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/steps.sh

unpack='tar -xzf sleep_jax.tar.gz -C sleep_jax.new'
unpack+=' && bash sleep_jax.new/launch/worker.sh setup'
usage='usage: bash launch/tpu_vm.sh create|setup|run|logs|stop|resume|delete'
usage+=' --name=NAME --zone=ZONE --type=TYPE [...]; see the top of the file'
name='' zone='' type='' project='' version='' workdir='' config=''
spot='' queued='' slices=1 study=()

read_flags() {
  while [[ $# -gt 0 ]]; do
    case $1 in
      --name=*) name=${1#*=} ;;
      --zone=*) zone=${1#*=} ;;
      --type=*) type=${1#*=} ;;
      --project=*) project=${1#*=} ;;
      --version=*) version=${1#*=} ;;
      --slices=*) slices=${1#*=} ;;
      --spot) spot=yes ;;
      --queued) queued=yes ;;
      --dry-run) dry_run=yes ;;
      --config=*) config=${1#*=} study+=("$1") ;;
      --workdir=*) workdir=${1#*=} study+=("$1") ;;
      --config.*=*) study+=("$1") ;;
      --)
        shift
        study+=("$@")
        break
        ;;
      --name | --zone | --type | --project | --version | --slices | --config \
        | --workdir) fail "$1 needs a value: write $1=VALUE." ;;
      *) fail "$1 is not a flag of this script; pass flags of sleep_jax.main" \
        "after --. $usage" ;;
    esac
    shift
  done
}

need() {
  local flag variable
  for flag in "$@"; do
    variable=${flag#--}
    [[ -n ${!variable} ]] || fail "$flag=... is missing. $usage"
  done
}

# Checks the type; sets the default software version of its family.
check_type() {
  local usual
  need --type
  case $type in
    v5litepod-*) usual=v2-alpha-tpuv5-lite ;;
    v5p-*) usual=v2-alpha-tpuv5 ;;
    v6e-*) usual=v2-alpha-tpuv6e ;;
    v2-* | v3-* | v4-*) usual=tpu-ubuntu2204-base ;;
    *) usual='' ;;
  esac
  [[ -n $usual && ${type##*-} =~ ^[1-9][0-9]*$ ]] \
    || fail "--type=$type is not an accelerator type: expected FAMILY-SIZE" \
      "with family v2, v3, v4, v5litepod (v5e), v5p or v6e, such as" \
      "v5litepod-16. To list the types of a zone:" \
      "gcloud compute tpus accelerator-types list --zone=ZONE"
  version=${version:-$usual}
}

check_slices() {
  [[ $slices =~ ^[1-9][0-9]*$ ]] \
    || fail "--slices=$slices: expected a number of slices, 1 or more."
  if [[ $slices -gt 1 ]]; then
    queued=yes # Several slices are available only through the queue.
  fi
}

check_study() {
  local file=${config%%:*}
  need --config --workdir
  [[ $workdir =~ ^gs://[^/]+/. ]] \
    || fail "--workdir=$workdir: expected gs://BUCKET/FOLDER. The disk of a" \
      "TPU VM is deleted with it, so the work directory must be in a bucket."
  [[ $file == *.py ]] || file=configs/$file.py # As sleep_jax.main reads names.
  [[ $(git cat-file -t "HEAD:$file" 2>/dev/null) == blob ]] \
    || fail "--config=$config: $file is not committed in this repository, and" \
      "only committed files are copied. Commit it, or name another config."
}

# Writes and deletes an object with the caller's account. The study itself uses
# the account of the machine.
check_bucket() {
  local probe=${workdir%/}/.writable
  comment 'Checks that the bucket is writable, before any cost arises.'
  step gcloud storage cp launch/tpu_vm.sh "$probe" "${where[@]:1}" \
    || fail "$workdir cannot be written to, see above. Create the bucket if" \
      "it does not exist (gcloud storage buckets create), and grant yourself" \
      "and the service account of the machine roles/storage.objectAdmin" \
      "on it. No machine was created."
  step gcloud storage rm "$probe" "${where[@]:1}" \
    || fail "$probe cannot be deleted, see above: grant the role" \
      "roles/storage.objectAdmin on the bucket. No machine was created."
}

# Checks that the zone has this type; costs nothing.
check_zone() {
  comment 'Checks that the zone has this type.'
  step gcloud compute tpus accelerator-types describe "$type" "${where[@]}" \
    --format='value(type)' \
    || fail "$zone has no $type, or you may not list its types, see above." \
      "Its types: gcloud compute tpus accelerator-types list --zone=$zone"
}

create() {
  local tier=()
  [[ -z $spot ]] || tier=(--spot)
  echo "$name is billed from its creation until: bash launch/tpu_vm.sh" \
    "delete --name=$name --zone=$zone${queued:+ --queued}" >&2
  if [[ -z $queued ]]; then
    step gcloud compute tpus tpu-vm create "$name" "${where[@]}" \
      --accelerator-type="$type" --version="$version" \
      ${tier[@]+"${tier[@]}"} \
      || fail 'The machine was not created, see above. If there is no' \
        'capacity, --queued waits for it.'
    return
  fi
  local nodes=(--node-id="$name")
  [[ $slices -eq 1 ]] \
    || nodes=(--node-count="$slices" --node-prefix="$name")
  step gcloud compute tpus queued-resources create "$name" "${where[@]}" \
    "${nodes[@]}" --accelerator-type="$type" --runtime-version="$version" \
    ${tier[@]+"${tier[@]}"} || fail 'The machine was not queued, see above.'
}

# Prints the state of the machine; nothing if it does not exist.
state() {
  if [[ -z $queued ]]; then
    step gcloud compute tpus tpu-vm describe "$name" "${where[@]}" \
      --format='value(state)'
  else
    step gcloud compute tpus queued-resources describe "$name" \
      "${where[@]}" --format='value(state.state)'
  fi
}

delete() {
  if [[ -z $queued ]]; then
    step gcloud compute tpus tpu-vm delete "$name" "${where[@]}" --quiet
  else
    step gcloud compute tpus queued-resources delete "$name" "${where[@]}" \
      --force --quiet
  fi
}

# Waits until the machine is ready; polls once a minute.
wait_until_ready() {
  local now last=''
  comment 'Polls once a minute until it is READY (in the queue: ACTIVE).'
  while true; do
    if [[ -n $dry_run ]]; then
      state
      return
    fi
    now=$(state) || fail "There is no $name in $zone, see above."
    case $now in
      READY | ACTIVE) return ;;
      FAILED | SUSPENDED | PREEMPTED | TERMINATED | STOPPED)
        fail "$name is $now. To replace it: bash launch/tpu_vm.sh resume ..." \
          "(or delete it, then create)."
        ;;
    esac
    [[ $now == "$last" ]] || echo "$name is $now: waiting." >&2
    last=$now
    sleep 60
  done
}

# Runs a command on workers: `all`, or `0` for the first of the first slice.
on_workers() {
  local target=$1 node=() kind=tpu-vm
  if [[ $slices -gt 1 ]]; then
    kind=queued-resources node=(--node="$target")
  fi
  step gcloud compute tpus "$kind" ssh "$name" "${where[@]}" \
    ${node[@]+"${node[@]}"} --worker="$target" --command="$2"
}

setup() {
  local node=() kind=tpu-vm
  if [[ $slices -gt 1 ]]; then
    kind=queued-resources node=(--node=all)
  fi
  wait_until_ready
  git diff --quiet HEAD || echo 'Uncommitted changes are not copied.' >&2
  step git archive --format=tar.gz --output=sleep_jax.tar.gz HEAD
  step gcloud compute tpus "$kind" scp sleep_jax.tar.gz \
    "$name:sleep_jax.tar.gz" "${where[@]}" ${node[@]+"${node[@]}"} --worker=all
  step rm sleep_jax.tar.gz
  on_workers all "rm -rf sleep_jax.new && mkdir sleep_jax.new && $unpack"
}

start() {
  local flags
  flags=$(printf ' %q' "${study[@]}")
  on_workers all "bash sleep_jax/launch/worker.sh start$flags"
}

resume() {
  local now
  comment 'Only if it is lost (PREEMPTED, SUSPENDED, FAILED): delete, create.'
  if [[ -n $dry_run ]]; then
    state
    delete
    create
  else
    now=$(state 2>/dev/null) || now=gone
    case $now in
      gone) create ;;
      FAILED | SUSPENDED | PREEMPTED | TERMINATED | STOPPED)
        delete
        create
        ;;
    esac
  fi
  setup
  start
}

subcommand=${1:-}
[[ $subcommand =~ ^(create|setup|run|logs|stop|resume|delete)$ ]] \
  || fail "'$subcommand' is not a subcommand. $usage"
read_flags "${@:2}"
need --name --zone
check_slices
where=(--zone="$zone")
[[ -z $project ]] || where+=(--project="$project")
case $subcommand in
  create | resume) check_type && check_study ;;
  run) check_study ;;
esac
[[ -n $dry_run ]] || type -P gcloud >/dev/null \
  || fail 'gcloud is missing: install the Google Cloud CLI, then run gcloud' \
    'auth login. --dry-run prints the commands without it.'

case $subcommand in
  create)
    check_bucket
    check_zone
    create
    ;;
  setup) setup ;;
  run) start ;;
  logs) on_workers 0 'tail -n 100 -F sleep_jax.log' ;;
  stop) on_workers all 'bash sleep_jax/launch/worker.sh stop' ;;
  resume)
    check_bucket
    resume
    ;;
  delete) delete ;;
esac
