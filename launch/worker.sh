#!/usr/bin/env bash
# On one worker of a TPU VM, called by tpu_vm.sh:
# bash worker.sh setup|start|stop [flags of sleep_jax.main...]
#
#   setup  puts the copy that this file is part of in place, and installs
#   start  starts sleep_jax.main, which goes on when we hang up
#   stop   tells it to save and end, and waits until it has
#
# In the home directory: sleep_jax/ is the copy, sleep_jax.venv/ its
# environment, sleep_jax.log what is said, sleep_jax.pid the process.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd

fail() {
  echo "error: $(hostname): $*" >&2
  exit 1
}

# A number alone may be another process's by now.
running() {
  [[ -s sleep_jax.pid ]] \
    && grep -qas sleep_jax.main "/proc/$(<sleep_jax.pid)/cmdline"
}

refuse_if_running() {
  ! running || fail "a study is running here (process $(<sleep_jax.pid)):" \
    "follow it with tpu_vm.sh logs, or end it with tpu_vm.sh stop."
}

setup() {
  refuse_if_running
  if [[ $here == "$PWD/sleep_jax.new" ]]; then
    rm -rf sleep_jax
    mv sleep_jax.new sleep_jax
  fi
  # The system's Python is older than what jax needs; uv brings one.
  python3 -m pip install --quiet --user uv \
    || fail 'uv cannot be installed, see above.'
  local uv=.local/bin/uv
  [[ -x sleep_jax.venv/bin/python ]] \
    || "$uv" venv --quiet --seed --python=3.12 sleep_jax.venv
  "$uv" pip install --quiet --python=sleep_jax.venv/bin/python \
    --requirement=sleep_jax/requirements.txt --editable='./sleep_jax[tpu,gcs]' \
    || fail 'installing failed, see above. The same command tries again.'
  echo "$(hostname): set up."
}

start() {
  local python=$PWD/sleep_jax.venv/bin/python
  [[ -x $python ]] || fail 'not set up: bash launch/tpu_vm.sh setup ...'
  refuse_if_running
  # A session and streams of its own: the end of ours is not its end.
  (
    cd sleep_jax
    # The machine's metadata says which workers there are, on all slices.
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
    echo "$(hostname): nothing is running."
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
