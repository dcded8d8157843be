#!/usr/bin/env bash
# Manages a study on one worker of a TPU VM; tpu_vm.sh calls it there:
# bash worker.sh setup|start|stop [flags of sleep_jax.main...]
#
#   setup  installs the copy of the repository that contains this file
#   start  starts sleep_jax.main, detached from the connection
#   stop   asks it to save and end, and waits for the end
#
# Files in the home directory: sleep_jax/ (the copy), sleep_jax.venv/ (its
# environment), sleep_jax.log (output) and sleep_jax.pid (process id).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd

fail() {
  echo "error: $(hostname): $*" >&2
  exit 1
}

# The command line is checked too, because process ids are reused.
running() {
  [[ -s sleep_jax.pid ]] \
    && grep -qas sleep_jax.main "/proc/$(<sleep_jax.pid)/cmdline"
}

refuse_if_running() {
  ! running || fail "a study is already running (process $(<sleep_jax.pid)):" \
    "follow it with tpu_vm.sh logs, or end it with tpu_vm.sh stop."
}

setup() {
  refuse_if_running
  if [[ $here == "$PWD/sleep_jax.new" ]]; then
    rm -rf sleep_jax
    mv sleep_jax.new sleep_jax
  fi
  # The system's Python is too old for jax; uv installs a newer one.
  python3 -m pip install --quiet --user uv \
    || fail 'the installation of uv failed, see above.'
  local uv=.local/bin/uv
  [[ -x sleep_jax.venv/bin/python ]] \
    || "$uv" venv --quiet --seed --python=3.12 sleep_jax.venv
  "$uv" pip install --quiet --python=sleep_jax.venv/bin/python \
    --requirement=sleep_jax/requirements.txt --editable='./sleep_jax[tpu,gcs]' \
    || fail 'the installation failed, see above. Run the same command again.'
  echo "$(hostname): set up."
}

start() {
  local python=$PWD/sleep_jax.venv/bin/python
  [[ -x $python ]] \
    || fail 'not set up: run bash launch/tpu_vm.sh setup ... first'
  refuse_if_running
  # A separate session and streams: it continues when the connection ends.
  (
    cd sleep_jax
    # --coordinator=auto finds the workers of all slices in the metadata.
    exec setsid nohup "$python" -u -m sleep_jax.main --coordinator=auto "$@" \
      </dev/null >>../sleep_jax.log 2>&1
  ) &
  echo $! >sleep_jax.pid
  sleep 2
  running || {
    tail -n 20 sleep_jax.log >&2
    fail 'the study ended at once, see above.'
  }
  echo "$(hostname): started, process $(<sleep_jax.pid)."
}

stop() {
  running || {
    echo "$(hostname): no study is running."
    return
  }
  kill -TERM "$(<sleep_jax.pid)"
  while running; do
    sleep 1
  done
  echo "$(hostname): saved and ended."
}

case ${1:-} in
  setup | start | stop) "$@" ;;
  *) fail "usage: worker.sh setup|start|stop; got '${1:-}'" ;;
esac
