//! The gateway: takes images over WebSocket and HTTP, puts them on the bus, and brings the results back.
//!
//! It is the first and the last hop of every frame: it asks `cloudpose-policy` which frames go on and in which order
//! results are delivered, and answers for every frame it has accepted (`ledger`). It knows nothing of models and of
//! drawing, and decodes no pixel: it reads an image's header only.
//!
//! | module | what |
//! |---|---|
//! | `gateway` | [`Gateway`]: the socket, what handlers share, how it stops |
//! | `router` | which address leads where |
//! | `ws`, `socket` | the loop of a streaming session, and its WebSocket |
//! | `session` | a streaming session without socket, bus and clock |
//! | `ledger` | every accepted frame ends in one outcome |
//! | `dispatch` | results from the bus to the sessions |
//! | `http`, `legacy`, `body`, `still` | single images: the calls, their bodies, their way |
//! | `problem` | errors as RFC 9457 problem details |
//! | `pages`, `openapi` | the web page, API description |
//! | [`metrics`] | every metric |
//!
//! It installs no recorder, reads no signal and opens no global: the binary does.

mod body;
mod config;
mod dispatch;
mod error;
mod gateway;
mod http;
mod ledger;
mod legacy;
pub mod metrics;
mod openapi;
mod pages;
mod problem;
mod router;
mod session;
mod socket;
mod still;
mod ws;

pub use config::{Config, DEFAULT_MODEL};
pub use error::Error;
pub use gateway::{Gateway, Ops, Patience};
pub use ledger::{Books, Ledger};
