"""How much does an update in one domain damage the others, and what undoes it?

Facts, arithmetic and invented languages take turns, two days each. Every later
update is compared with each earlier day: what predicts the damage, and how
large it is after a short refresh on stored rows, or after conflicting
coordinates are set back (2606.02398).

    sleep-jax run --config=small/domains --workdir=runs/domains
    python -m benchmarks.interference --config=small/domains \
      --strategies=sft,refresh,rollback,sleep

Results: docs/results/domains/.
"""

from configs import base


def get_config():
  c = base.get_config()
  c.name = 'domains'
  c.seeds = (0, 1, 2)
  c.strategies = ('sft', 'refresh', 'rollback', 'sleep')
  c.data.dataset = 'domains'
  c.data.settings = dict(num_days=6)
  c.data.context = 16
  c.data.max_prompt = 12
  c.model.update(width=64, num_layers=2, head_size=16, unroll=2)
  c.levels = (
    c.levels[0] | dict(hidden=192),
    c.levels[1] | dict(hidden=192, slots=6),
  )
  c.pretrain.steps = 1200
  c.pretrain.optimizer.decay_steps = 1200
  c.wake.epochs = 20  # Equal passes: days differ in their number of rows.
  # One rate for all, so that updates differ by their strategy only.
  c.tune = dict(learning_rates=(1e-3,), experiences=1)
  old, day = c.consolidate.teachers
  # No templates: those of one domain make no sense in another.
  c.consolidate.teachers = (
    old | dict(draws=256, template_share=0.0),
    day | dict(draws=64, template_share=0.0),
  )
  c.consolidate.num_updates = 120
  c.consolidate.update(max_length=16, prompt_width=12, max_new=12)
  return c
