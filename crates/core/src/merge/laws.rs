//! The laws of merging, for every policy.
