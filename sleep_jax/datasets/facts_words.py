"""Names, attributes, values and sentence templates of the facts dataset.

Every word is one token of a tokenizer trained on the pretraining text.
"""

import dataclasses
import itertools

FIRST_NAMES = (
  'Ada Anna Anton Ben Bella Boris Cora Clara Carlo Dan Dora David Elsa Emma '
  'Erik Finn Flora Frank Gina Greta Gerd Hanna Hugo Hedda Ines Ivan Ida '
  'Jana Jon Julia Kara Karl Kurt Lena Leo Lora Mira Marta Max Nora Nina '
  'Nils Otto Olga Oskar Paul Petra Piet Rosa Rolf Rena Sara Sam Sven Tara '
  'Tom Tina Vera Will Zara'
).split()
LAST_NAMES = [
  start + end
  for end, start in itertools.product(
    ('an', 'er', 'in', 'ow', 'es', 'ell'),
    ('Tol', 'Bar', 'Den', 'Fal', 'Gor', 'Hol', 'Kel', 'Lor', 'Mar', 'Ner'),
  )
]
_TOWNS = [
  start + end
  for end, start in itertools.product(
    ('ford', 'ton', 'ham', 'dale', 'bury'),
    ('Bex', 'Ash', 'Wood', 'Lang', 'Mill', 'Stan', 'Hart', 'Wick'),
  )
]
_JOBS = (
  'baker banker barber boxer builder butler clerk cook dancer diver doctor '
  'driver farmer fisher ranger hunter joiner judge maid mason miller miner '
  'nurse painter pilot poet porter potter printer rider sailor singer smith '
  'tailor tanner teacher vet waiter weaver writer'
).split()
_PETS = (
  'bat bear bee bird cat cow crab crow deer dog dove duck finch fish fox '
  'frog goat goose hare hen horse lamb mole moth mouse mule newt pig pony '
  'rabbit rat raven seal sheep snail snake swan toad wolf worm'
).split()
_FOODS = (
  'beans beef beets bread buns cakes cheese chips corn dates dill eggs figs '
  'fish ham honey jam kale leeks lemons limes melons milk nuts oats olives '
  'onions pasta pears peas pies plums pork rice roots salad salt sauce soup '
  'toast'
).split()
_INSTRUMENTS = (
  'banjo bell clave bongo bugle cello chimes cornet drum drone fiddle fife '
  'flute gong guitar harp horn saw kazoo koto lute lyre oboe organ piano '
  'pipe reed rattle rebec sax sarod sitar spoons tabla tuba viol viola '
  'violin whistle zither'
).split()


@dataclasses.dataclass(frozen=True)
class Attribute:
  """An attribute of a person, with its values and wordings.

  Attributes:
    name: name of the attribute.
    values: its possible values.
    statements: templates with two slots, the person's name before the value.
    template_questions: questions with a slot for the name that also serve as
      self-study templates.
    scored_questions: questions of the scored probes, likewise.
  """

  name: str
  values: list[str]
  statements: tuple[str, ...]
  template_questions: tuple[str, ...]
  scored_questions: tuple[str, ...]

  @property
  def questions(self) -> tuple[str, ...]:
    """All wordings of the question."""
    return self.template_questions + self.scored_questions


ATTRIBUTES = (
  Attribute(
    'town',
    _TOWNS,
    (
      '{} lives in {}.',
      'The home of {} is {}.',
      '{} has a house in {}.',
      '{} settled in {}.',
    ),
    ('Where does {} live?', 'What is the home town of {}?'),
    ('In which town is {} at home?', 'Which town does {} call home?'),
  ),
  Attribute(
    'job',
    _JOBS,
    (
      '{} works as a {}.',
      'The job of {} is {}.',
      '{} is a {} at work.',
      '{} earns money as a {}.',
    ),
    ('What does {} work as?', 'What is the job of {}?'),
    ('How does {} earn money?', 'Which work does {} do?'),
  ),
  Attribute(
    'pet',
    _PETS,
    (
      '{} keeps a {}.',
      'The pet of {} is a {}.',
      '{} has a {} as a pet.',
      '{} owns a {}.',
    ),
    ('Which animal does {} keep?', 'What is the pet of {}?'),
    ('What pet does {} have?', 'Which animal is owned by {}?'),
  ),
  Attribute(
    'food',
    _FOODS,
    (
      '{} likes to eat {}.',
      'The best meal for {} is {}.',
      '{} always eats {}.',
      '{} asks for {} at lunch.',
    ),
    ('What does {} like to eat?', 'What is the best meal for {}?'),
    ('Which food does {} always eat?', 'What is {} asking for at lunch?'),
  ),
  Attribute(
    'instrument',
    _INSTRUMENTS,
    (
      '{} plays the {}.',
      'The music of {} is the {}.',
      '{} makes music on the {}.',
      '{} learned the {}.',
    ),
    ('What does {} play?', 'What is the music of {}?'),
    ('On what does {} make music?', 'Which music did {} learn?'),
  ),
)
