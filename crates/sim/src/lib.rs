//! The hub in a seeded virtual world.

pub mod disk;
