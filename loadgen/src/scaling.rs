//! `cloudpose loadgen scale-sim`: which signal an autoscaler should look at, found out without a cluster.
//!
//! - [`hpa`]: the rule of Kubernetes' HorizontalPodAutoscaler
//! - [`first`]: a pool that is served before, and goes
//! - [`load`]: how many streams there are when
//! - `session`: a session at the gateway, by the gateway's own rules
//! - [`cluster`]: sessions, lane, workers, scrapes and the rule, event by event
//! - `study`: every signal against every load, as a table and plots

pub mod cluster;
pub mod first;
pub mod hpa;
pub mod load;
mod session;
mod study;

pub(crate) use study::run;
