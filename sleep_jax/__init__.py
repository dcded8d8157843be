"""sleep_jax: language models that wake, sleep and remember, in JAX."""
