#!/usr/bin/env bash
# A study on a Cloud TPU: bash launch/tpu_vm.sh SUBCOMMAND FLAGS...
#
#   create   asks for the machine (and checks the bucket before)
#   setup    copies what is committed here to it, and installs
#   run      starts the study on all workers; it goes on when we hang up
#   logs     follows what worker 0 says
#   stop     tells the study to save and end; the machine stays, and costs
#   resume   after a preemption: a new machine where the old is gone, set up,
#            and the same study, which goes on where its checkpoint stands
#   delete   gives the machine back
#
# Of the machine, best the same for every subcommand:
#   --name=NAME  --zone=ZONE
#   --type=TYPE         such as v5litepod-16; to create and resume
#   --project=PROJECT   otherwise gcloud's own
#   --version=VERSION   of its software; otherwise the usual one of its type
#   --spot              cheaper, and may be taken away at any time
#   --queued            waits in a queue until there is room
#   --slices=N          several of this type, joined by the network (queued)
# Of the study, for create, run and resume:
#   --config=FILE  --workdir=gs://BUCKET/FOLDER  --config.FIELD=VALUE...
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
      *) fail "$1 is no flag of this script; flags of sleep_jax.main come" \
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

# The machine's software, by the family of its type.
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
    || fail "--type=$type is no accelerator type: expected FAMILY-SIZE with a" \
      "family of v2, v3, v4, v5litepod (v5e), v5p, v6e, such as v5litepod-16." \
      "What a zone has: gcloud compute tpus accelerator-types list --zone=ZONE"
  version=${version:-$usual}
}

check_slices() {
  [[ $slices =~ ^[1-9][0-9]*$ ]] \
    || fail "--slices=$slices: expected a number of slices, 1 or more."
  if [[ $slices -gt 1 ]]; then
    queued=yes # Only the queue joins slices.
  fi
}

check_study() {
  local file=${config%%:*}
  need --config --workdir
  [[ $workdir =~ ^gs://[^/]+/. ]] \
    || fail "--workdir=$workdir: expected gs://BUCKET/FOLDER. The disk of a" \
      "TPU VM is gone with it, so a study there works in a bucket."
  git cat-file -e "HEAD:$file" 2>/dev/null \
    || fail "--config=$config: $file is not committed in this repository, and" \
      "only what is committed is copied. Commit it, or name another."
}

# Writes and deletes as we; the run itself does the same as the machine.
check_bucket() {
  local probe=${workdir%/}/.writable
  comment 'Whether the bucket can be written to, before money is spent.'
  step gcloud storage cp launch/tpu_vm.sh "$probe" "${where[@]:1}" \
    || fail "$workdir cannot be written to, see above. The bucket must exist" \
      "(gcloud storage buckets create), and you and the service account of" \
      "the machine need the role roles/storage.objectAdmin on it. Nothing was" \
      "created."
  step gcloud storage rm "$probe" "${where[@]:1}" \
    || fail "$probe cannot be deleted, see above: roles/storage.objectAdmin" \
      "on the bucket is needed. Nothing was created."
}

# Whether the zone has this type: free to ask.
check_zone() {
  comment 'Whether the zone has such a machine.'
  step gcloud compute tpus accelerator-types describe "$type" "${where[@]}" \
    --format='value(type)' \
    || fail "$zone has no $type, or you may not ask, see above. What it has:" \
      "gcloud compute tpus accelerator-types list --zone=$zone"
}

create() {
  local tier=()
  [[ -z $spot ]] || tier=(--spot)
  echo "From when $name is there it costs, until: bash launch/tpu_vm.sh" \
    "delete --name=$name --zone=$zone${queued:+ --queued}" >&2
  if [[ -z $queued ]]; then
    step gcloud compute tpus tpu-vm create "$name" "${where[@]}" \
      --accelerator-type="$type" --version="$version" \
      ${tier[@]+"${tier[@]}"} \
      || fail 'No machine, see above. Where there is no room now, --queued waits' \
        'for some.'
    return
  fi
  local nodes=(--node-id="$name")
  [[ $slices -eq 1 ]] \
    || nodes=(--node-count="$slices" --node-prefix="$name")
  step gcloud compute tpus queued-resources create "$name" "${where[@]}" \
    "${nodes[@]}" --accelerator-type="$type" --runtime-version="$version" \
    ${tier[@]+"${tier[@]}"} || fail 'Not queued, see above.'
}

# Prints the state; nothing where there is no such machine.
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

# Waits until the machine is there; asks once a minute.
wait_until_ready() {
  local now last=''
  comment 'Once a minute, until it is READY (from the queue: ACTIVE).'
  while true; do
    if [[ -n $dry_run ]]; then
      state
      return
    fi
    now=$(state) || fail "There is no $name in $zone, see above."
    case $now in
      READY | ACTIVE) return ;;
      FAILED | SUSPENDED | PREEMPTED | TERMINATED | STOPPED)
        fail "$name is $now. Another in its place: bash launch/tpu_vm.sh" \
          "resume ... (or delete it, then create)."
        ;;
    esac
    [[ $now == "$last" ]] || echo "$name is $now: waiting." >&2
    last=$now
    sleep 60
  done
}

# Runs a command on workers: on all of all slices, or on the first.
on() {
  local who=$1 node=() kind=tpu-vm
  if [[ $slices -gt 1 ]]; then
    kind=queued-resources node=(--node="$who")
  fi
  step gcloud compute tpus "$kind" ssh "$name" "${where[@]}" \
    ${node[@]+"${node[@]}"} --worker="$who" --command="$2"
}

setup() {
  local node=() kind=tpu-vm
  if [[ $slices -gt 1 ]]; then
    kind=queued-resources node=(--node=all)
  fi
  wait_until_ready
  git diff --quiet HEAD || echo 'Changes that are not committed stay here.' >&2
  step git archive --format=tar.gz --output=sleep_jax.tar.gz HEAD
  step gcloud compute tpus "$kind" scp sleep_jax.tar.gz \
    "$name:sleep_jax.tar.gz" "${where[@]}" ${node[@]+"${node[@]}"} --worker=all
  step rm sleep_jax.tar.gz
  on all "rm -rf sleep_jax.new && mkdir sleep_jax.new && $unpack"
}

start() {
  on all "bash sleep_jax/launch/worker.sh start$(printf ' %q' "${study[@]}")"
}

resume() {
  local now
  comment 'Only if it is gone (PREEMPTED, SUSPENDED, FAILED): delete, create.'
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
  || fail "'$subcommand' is no subcommand. $usage"
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
  || fail 'gcloud is missing: install the Google Cloud CLI, then gcloud auth' \
    'login. --dry-run shows the commands without it.'

case $subcommand in
  create)
    check_bucket
    check_zone
    create
    ;;
  setup) setup ;;
  run) start ;;
  logs) on 0 'tail -n 100 -F sleep_jax.log' ;;
  stop) on all 'bash sleep_jax/launch/worker.sh stop' ;;
  resume)
    check_bucket
    resume
    ;;
  delete) delete ;;
esac
