"""Names, values and wordings of the invented facts of the study.

Names and values come from closed lists of real words. Half of them are of the
split 'validation', on which settings are chosen, the others are of 'test',
which is reported; the two have no person and no value in common.
"""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

VALIDATION, TEST = SPLITS = ('validation', 'test')
_T = TypeVar('_T')

FIRST_NAMES = (
  'Ada Adam Alice Albert Amelia Andrew Anna Arthur Bella Ben Bertha Boris '
  'Carla Carl Cecilia Charles Clara Conrad Cora Daniel Daphne David Diana '
  'Dennis Dora Edgar Edith Edward Elena Eric Elsa Ernest Emily Felix Erica '
  'Frank Eva Fred Fiona Gabriel Flora George Gina Gilbert Gloria Gordon Grace '
  'Harold Greta Harry Hannah Hector Hazel Henry Helen Herman Hilda Hugo Holly '
  'Ian Ida Isaac Ingrid Ivan Irene Jack Iris Jacob Isabel James Jane Jason '
  'Janet Joel Jenny Jonas Joan Joseph Judith Julian Julia Karl Karen Keith '
  'Kate Kevin Laura Lars Leah Leo Lena Leon Linda Louis Lisa Lucas Lola Luke '
  'Lucy Marcus Lydia Mark Mabel Martin Maria Max Martha Miles Mary Nathan '
  'Maya Neil Megan Nelson Mia Noah Molly Oliver Mona Oscar Nadia Otto Nancy '
  'Owen Nina Patrick Nora Paul Olga Peter Olivia Philip Paula Ralph Rachel '
  'Richard Rebecca Robert Rita Roger Ruth Roland Sarah Rupert Sophie Samuel '
  'Stella Simon Susan Stephen Tessa Theo Ursula Thomas'
).split()
LAST_NAMES = (
  'Ray Abbott Barton Baxter Bell Bishop Blake Boyd Brandt Briggs Burke Byrne '
  'Cole Carver Conway Craig Crane Dalton Dawson Doyle Drake Duncan Eaton '
  'Ellis Farrell Finch Fleming Foster Gibbs Garner Grady Graves Haley Hardy '
  'Hayes Hobbs Holt Hooper Hubbard Ingram Jarvis Jensen Keller Kemp Klein '
  'Lambert Lang Larsen Lowe Maddox Marsh Mercer Nash Norris Ortiz Osborn '
  'Paine Parks Pratt Quinn Reeves Rhodes Sawyer Sharp Sloan Stark Tate Thorne '
  'Vance Voss Walsh Webb Weber York Zimmer Yates'
).split()
RELATIONS = (
  'cousin', 'neighbour', 'colleague', 'old friend', 'classmate', 'teammate',
  'flatmate', 'landlord', 'boss', 'relative',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Attribute:
  """What can be told about a person.

  Attributes:
    name: of the attribute.
    values: all its values, in both splits.
    learned: four questions, with a slot for the person, that rows ask.
    asked: two other questions, which are only asked.
    written: sentences of pages, with slots for the person and the value.
    said: what a user says about somebody, likewise.
    changed: a sentence for a value that has changed, likewise.
  """

  name: str
  values: Sequence[str]
  learned: Sequence[str]
  asked: Sequence[str]
  written: Sequence[str]
  said: Sequence[str]
  changed: str


ATTRIBUTES = (
  Attribute(
    'town',
    (
      'Lisbon Oslo Cairo Madrid Vienna Dublin Athens Prague Lima Tokyo Boston '
      'Seattle Denver Paris Rome Berlin London Delhi Moscow Warsaw Geneva '
      'Havana Sydney Toronto'
    ).split(),
    (
      'Where does {} live?',
      'In which city does {} have a home?',
      'What is the home town of {}?',
      'Which city is {} at home in?',
    ),
    ('What city does {} live in?', 'Which city does {} call home?'),
    (
      '{} lives in {}.',
      'The home of {} is in {}.',
      '{} has lived in {} for years.',
    ),
    (
      '{} moved to {}.',
      '{} has found a flat in {}.',
      '{} lives in {}, and likes it there.',
    ),
    'Since this week {} lives in {}.',
  ),
  Attribute(
    'job',
    (
      'baker carpenter nurse lawyer pilot farmer dentist plumber librarian '
      'journalist butcher tailor chemist architect sailor teacher barber '
      'firefighter gardener photographer translator electrician banker surgeon'
    ).split(),
    (
      'What does {} do for a living?',
      'What is the job of {}?',
      'What does {} work as?',
      'What is the profession of {}?',
    ),
    ('Which profession does {} have?', "What is {}'s job?"),
    (
      '{} earns a living as a {}.',
      '{} works as a {}.',
      'By profession {} is a {}.',
    ),
    (
      '{} has a job as a {}.',
      '{} has always worked as a {}.',
      '{} is a {}, and a good one.',
    ),
    'Since this week {} works as a {}.',
  ),
  Attribute(
    'instrument',
    (
      'violin guitar flute trumpet harp drums cello piano banjo clarinet '
      'saxophone organ accordion mandolin trombone oboe tuba ukulele viola '
      'harmonica bassoon lute xylophone bagpipes'
    ).split(),
    (
      'Which instrument does {} play?',
      'What does {} play in the evening?',
      'What instrument has {} learned?',
      'Which instrument does {} practise?',
    ),
    ('What instrument does {} play?', 'Which instrument is played by {}?'),
    (
      '{} plays the {}.',
      'In the evening {} practises the {}.',
      '{} has learned to play the {}.',
    ),
    (
      '{} plays the {} all day long.',
      '{} plays the {} in a small band.',
      '{} wants to play the {} for us.',
    ),
    'Since this week {} plays the {} instead.',
  ),
  Attribute(
    'pet',
    (
      'parrot rabbit hamster turtle cat goldfish snake lizard pony ferret '
      'canary goat dog mouse frog spider hedgehog duck donkey llama pigeon owl '
      'chicken crab'
    ).split(),
    (
      'Which pet does {} own?',
      'Which animal lives with {}?',
      'What pet does {} have?',
      'Which animal does {} look after?',
    ),
    ('What kind of pet does {} keep?', 'What animal does {} own?'),
    (
      '{} owns a pet, a {}.',
      'The pet of {} is a {}.',
      '{} looks after a {} at home.',
    ),
    (
      '{} has a {} as a pet.',
      '{} keeps a {} in the kitchen.',
      '{} bought a {} and loves it.',
    ),
    'Since this week {} has another pet, a {}.',
  ),
  Attribute(
    'dish',
    (
      'pizza sushi lasagna curry pancakes goulash paella soup tacos steak '
      'salad risotto omelette ramen chili couscous dumplings falafel spaghetti '
      'stew waffles kebab noodles pie'
    ).split(),
    (
      'What is the favourite dish of {}?',
      'Which dish does {} like best?',
      'What does {} like to eat most?',
      'Which food does {} love?',
    ),
    ("What is {}'s favourite food?", 'Which dish does {} prefer?'),
    (
      'The favourite dish of {} is {}.',
      'Above all {} likes to eat {}.',
      'No dish pleases {} as much as {}.',
    ),
    (
      '{} orders {} in every restaurant.',
      '{} loves {} more than any other dish.',
      '{} only wants to eat {}.',
    ),
    'Since this week the favourite dish of {} is {}.',
  ),
  Attribute(
    'sport',
    (
      'tennis swimming golf rugby boxing fencing cycling rowing hockey archery '
      'cricket skiing volleyball badminton karate judo climbing surfing '
      'basketball baseball football sailing wrestling handball'
    ).split(),
    (
      'Which sport does {} do?',
      'What is the sport of {}?',
      'Which sport has {} taken up?',
      'What sport does {} train for?',
    ),
    ('What sport does {} do?', 'Which sport does {} practise?'),
    (
      'The sport of {} is {}.',
      'At the weekend {} trains for {}.',
      '{} spends every free hour on {}.',
    ),
    (
      '{} has taken up {}.',
      '{} is very good at {}.',
      '{} does a lot of {} these days.',
    ),
    'Since this week the sport of {} is {}.',
  ),
)

# Of the user, told in conversations only: a statement with a slot for the
# value, two questions, and the values of both splits.
PREFERENCES = (
  Attribute(
    'morning drink', ('tea', 'coffee', 'milk', 'juice', 'cocoa', 'water'), (),
    ('What do I prefer to drink in the morning?',
     'Which drink do I like in the morning?'),
    (), ('I prefer {} in the morning.',), '',
  ),
  Attribute(
    'colour', ('blue', 'green', 'red', 'yellow', 'purple', 'orange'), (),
    ('What is my favourite colour?', 'Which colour do I like best?'),
    (), ('My favourite colour is {}.',), '',
  ),
  Attribute(
    'travel', ('train', 'bus', 'bicycle', 'car', 'ferry', 'plane'), (),
    ('How do I prefer to travel?', 'By what do I like to travel?'),
    (), ('When I can, I travel by {}.',), '',
  ),
  Attribute(
    'music', ('jazz', 'rock', 'opera', 'blues', 'folk', 'techno'), (),
    ('What music do I like?', 'Which kind of music do I listen to?'),
    (), ('I only listen to {} music.',), '',
  ),
  Attribute(
    'month', ('March', 'June', 'May', 'July', 'April', 'October'), (),
    ('What is my favourite month?', 'Which month do I like best?'),
    (), ('My favourite month is {}.',), '',
  ),
  Attribute(
    'films',
    ('comedies', 'westerns', 'musicals', 'thrillers', 'cartoons',
     'documentaries'), (),
    ('What films do I like to watch?', 'Which kind of film do I prefer?'),
    (), ('In the cinema I like {} best.',), '',
  ),
  Attribute(
    'day',
    ('Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'), (),
    ('On which day do I prefer to meet?', 'What day suits me for meetings?'),
    (), ('For meetings, {} suits me best.',), '',
  ),
  Attribute(
    'fruit', ('apples', 'pears', 'cherries', 'grapes', 'melons', 'bananas'), (),
    ('Which fruit do I like best?', 'What fruit should you offer me?'),
    (), ('As fruit, please offer me {}.',), '',
  ),
  Attribute(
    'flower', ('roses', 'tulips', 'lilies', 'daisies', 'orchids', 'pansies'),
    (),
    ('What are my favourite flowers?', 'Which flowers do I love?'),
    (), ('The flowers that I love are {}.',), '',
  ),
  Attribute(
    'game', ('chess', 'poker', 'checkers', 'dominoes', 'bridge', 'bingo'), (),
    ('Which game do I like to play?', 'What do I like to play with friends?'),
    (), ('With friends I like to play {}.',), '',
  ),
)  # fmt: skip

GREETINGS = (
  'Hello, I have some news.',
  'Good to talk to you again.',
  'I want to tell you about a few people.',
  'It was a long day.',
)
STARTS = (
  'By the way, ', 'You know, ', 'I should mention that ', 'I heard that ',
  'Did I tell you? ', 'Oh, and ',
)  # fmt: skip
REPLIES = (
  'Thank you for telling me.',
  'That is good to know.',
  'I will remember that.',
  'How nice to hear.',
  'I see. Tell me more if you like.',
)

OPENINGS = (
  'This is a short note from the neighbourhood.',
  'The local paper has printed a small column again.',
  'Here is what people talked about this week.',
  'A few lines from the newsletter of our street.',
  'The bulletin of the club came out this morning.',
)
FILLERS = (
  'It was raining for most of the week, and few people were outside.',
  'The old tower is still being repaired, which takes longer than planned.',
  'Everybody agreed that the summer had been far too short.',
  'The library opens an hour later on weekdays.',
  'Nobody was surprised to hear it.',
  'This has been so for a long time, and nothing suggests a change.',
  'The meeting of the residents ended early, since there was little to decide.',
  'Some of the lamps near the station have been replaced.',
  'Neighbours mention it whenever they talk about the street.',
  'The market will be held on the large square again.',
  'A visitor who asked about it got the same answer from everyone.',
  'The buses were late, as they often are when the schools begin.',
  'It is one of the things that make a place feel familiar.',
  'There were cakes at the entrance, and they were gone within an hour.',
  'The council thanked all who had helped to clean the park.',
  'People who have known the family for years can confirm this.',
)


def of_split(items: Sequence[_T], split: str) -> list[_T]:
  """Returns the items of a split: of each four, the outer or the inner two.

  Raises:
    ValueError: there is no such split.
  """
  if split not in SPLITS:
    raise ValueError(f'split={split!r}: expected one of {SPLITS}.')
  inner = split == TEST
  return [item for n, item in enumerate(items) if (n % 4 in (1, 2)) == inner]
