//! Load generator and baselines.
