//! The hub in a seeded virtual world.

pub mod audit;
pub mod auditor;
pub mod counts;
pub mod disk;
pub mod files;
pub mod generate;
pub mod ledger;
pub mod network;
pub mod op;
pub mod rules;
pub mod run;
pub mod settle;
pub mod shrink;
pub mod violation;
pub mod world;
