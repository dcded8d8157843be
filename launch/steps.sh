#!/usr/bin/env bash
# Commands that can be shown instead of run. Sourced by tpu_vm.sh and gpu.sh.
#
# With `dry_run` set, `step` and `comment` print to standard output what a
# shell would take; without, `step` runs its command.
set -euo pipefail

dry_run=''

fail() {
  echo "error: $*" >&2
  exit 1
}

step() {
  if [[ -z $dry_run ]]; then
    "$@"
    return
  fi
  local word line=''
  for word in "$@"; do
    # Quoted as a person would: only where a shell would misread it.
    if [[ ! $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then
      word="'${word//\'/\'\\\'\'}'"
    fi
    line+="${line:+ }$word"
  done
  echo "$line"
}

comment() {
  [[ -z $dry_run ]] || echo "# $*"
}
