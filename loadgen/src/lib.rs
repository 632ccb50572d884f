//! Load tests from outside: how many users does a service hold, and at what latency?
//!
//! | module | what |
//! |---|---|
//! | [`config`] | the command line |
//! | `schedule` | when users join, requests and frames are due; pure |
//! | `http`, `calls` | users who post single images; the existing CloudPose API |
//! | `stream` | users who stream over WebSocket |
//! | [`key`] | what users show to say who they are |
//! | `ledger` | the books of one stream: wrong, missing, doubled and disordered answers; pure |
//! | `record`, [`summary`] | histograms and counts under way; what comes of them |
//! | `verdict` | objective, flaws and verdict, as the results hold them |
//! | `judge`, `threshold`, `fairness` | what the numbers mean; pure |
//! | `search`, `find_max` | the largest load that holds: the policy, pure, and the loop around it |
//! | `scaler`, `ready` | replicas by kubectl or as processes; waiting for them |
//! | [`scaling`] | which signal an autoscaler should look at, simulated |
//! | `drive`, `stage`, `commands` | one run; its clock; the commands made of runs |
//! | `screen`, `report` | the terminal; JSON, CSV, HTML and plots, of which others draw the [`chart`] |
//!
//! It speaks to a service as any client does, and knows nothing of CloudPose but the contract in `cloudpose-wire`;
//! the simulation runs the rules in `cloudpose-policy`.

mod calls;
mod commands;
pub mod config;
mod drive;
mod error;
mod failure;
mod fairness;
mod find_max;
mod http;
mod judge;
pub mod key;
mod ledger;
pub mod range;
mod ready;
mod record;
mod report;
mod scaler;
pub mod scaling;
mod schedule;
mod screen;
mod search;
mod stage;
mod stream;
pub mod summary;
mod threshold;
mod verdict;

pub use commands::{Surroundings, run};
pub use config::Command;
pub use error::Error;
pub use report::chart;
pub use threshold::Threshold;
pub use verdict::{Flaw, Objective, Verdict};
