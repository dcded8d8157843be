#!/usr/bin/env bash
# Tests the package as a user installs it: bash launch/wheel_test.sh
#
# Builds the wheel, installs it into an empty environment and, from an empty
# folder, runs the tiny config, a chat with a night, and the Python API. Nothing
# of the repository is on the path then.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
echo "Wheel: building, and installing into an empty environment."
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps \
  --wheel-dir "$home/dist" .
rm -rf build ./*.egg-info
"$python" -m venv "$home/venv"
"$home/venv/bin/pip" install --quiet --disable-pip-version-check \
  --constraint requirements.txt "$home"/dist/*.whl
# Written by the repository's environment: the package does not include it.
"$python" launch/tiny_llama.py "$home/llama"
cp launch/wheel_test.py "$home/wheel_test.py"

mkdir "$home/empty"
cd "$home/empty"
export PATH="$home/venv/bin:$PATH"
unset PYTHONPATH

echo 'Wheel: sleep-jax run --config=tiny'
sleep-jax run --config=tiny --workdir=run --config.dream.on=False
[[ -s run/report.html && -s run/summary.json ]] || fail 'There is no report.'

echo 'Wheel: sleep-jax chat, with a night'
night=(--config=chat --config.consolidate.num_updates=20
  --config.expert_optimizer.warmup=2)
printf '%s\n' 'Ada lives in Oslo.' '/sleep' '/status' '/quit' \
  | sleep-jax chat --model="$home/llama" --workdir=chat --max_new=8 \
    "${night[@]}" > said.txt 2> progress.txt || fail "$(cat progress.txt)"
grep -q 'night 1: kept' said.txt || fail "No night: $(cat said.txt)"
grep -q 'night 1: level 1, expert 0, activated' said.txt \
  || fail "No expert: $(cat said.txt)"

echo 'Wheel: the Python API'
python "$home/wheel_test.py" run
echo 'Wheel: passed.'
