#!/usr/bin/env bash
# Runs commands, or prints them in a dry run. Sourced by tpu_vm.sh and gpu.sh.
#
# If `dry_run` is set, `step` and `comment` print a shell script to standard
# output. Otherwise `step` runs its command and `comment` does nothing.
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
    # Quoted only where the shell requires it.
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
