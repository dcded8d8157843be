"""The Python API on a finished run, for wheel_test.sh: wheel_test.py RUN."""

import pathlib
import sys

import sleep_jax

assert 'site-packages' in sleep_jax.__file__, sleep_jax.__file__
learner = sleep_jax.load(sys.argv[1])
learner.wake(['Ada Ray lives in Oslo.', 'Ada Ray plays the harp.'])
print('awake:', learner.generate('Ada Ray lives in', max_new=8))
nights = learner.sleep()
print('asleep:', learner.generate('Ada Ray lives in', max_new=8))
print(learner.evaluate([{'prompt': 'Ada Ray lives in', 'answer': ' Oslo.'}]))
learner.save('learner')
assert nights[-1]['accepted'] and len(learner.session.days) == 1
assert sleep_jax.load('learner').generate('Ada') == learner.generate('Ada')
assert pathlib.Path('learner/days/day_0001.jsonl').is_file()
