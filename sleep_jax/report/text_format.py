"""TODO: report.text_format (from progress)."""


def duration(seconds: float) -> str:
  """Seconds in words: 0.4 s, 12 s, 3 min 05 s, 2 h 07 min."""
  if seconds < 9.95:
    return f'{seconds:.1f} s'
  seconds = round(seconds)
  if seconds < 60:
    return f'{seconds} s'
  if seconds < 3600:
    return f'{seconds // 60} min {seconds % 60:02d} s'
  minutes = round(seconds / 60)
  return f'{minutes // 60} h {minutes % 60:02d} min'
