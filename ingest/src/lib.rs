//! The gateway: takes images over WebSocket and HTTP, puts them on the bus, and brings the results back.
//!
//! It is the first and the last hop of every frame: it asks `cloudpose-policy` which frames go on and in which order
//! results are delivered, and answers for every frame it has accepted (`ledger`). It knows nothing of models and of
//! drawing, and decodes no image but for thumbnails: it reads its header only. Video it does decode, which no worker could begin
//! in the middle.
//!
//! | module | what |
//! |---|---|
//! | `gateway` | [`Gateway`]: the socket, how it serves, and how it stops |
//! | `listener` | connections: how many, how long they may take |
//! | `router` | which address leads where |
//! | `doors` | one folder a protocol: each translates between clients and what follows |
//! | `session` | a streaming session without protocol, bus and clock |
//! | `still` | one image on its way to the workers and back |
//! | `cameras` | cameras that the gateway fetches |
//! | `jobs` | images that are worked on while nobody waits |
//! | `watch` | live streams, and those who watch them |
//! | `gate` | where they wait for their turn |
//! | `publisher` | a session's frames on their way to the bus |
//! | `leftovers` | whoever has sent much is read when others leave processor time |
//! | `quotas` | how much each tenant and each address may use |
//! | `decoders` | how many may decode video, and what memory they may take |
//! | `auth` | the ways to say who one is |
//! | `outbound` | connections to servers that somebody has named |
//! | `followed` | what files say, while they may change |
//! | `shared` | what doors share; `seats`: how many sessions there may be; `unfinished`: how much of what is not complete; `settings`: what can be asked for |
//! | `ledger` | every accepted frame ends in one outcome |
//! | `dispatch` | results from the bus to the sessions |
//! | `pages`, `openapi` | the web page, API description |
//! | [`metrics`] | every metric |
//!
//! It installs no recorder, reads no signal and opens no global: the binary does.

mod auth;
mod cameras;
mod config;
mod decoders;
mod dispatch;
mod docs;
mod doors;
mod error;
mod followed;
mod gate;
mod gateway;
mod jobs;
mod ledger;
mod leftovers;
mod listener;
mod meter;
pub mod metrics;
mod openapi;
mod outbound;
mod pages;
mod publisher;
mod quotas;
mod router;
mod seats;
mod session;
mod settings;
mod shared;
mod still;
mod unfinished;
mod watch;

pub use auth::{Config as AuthConfig, KeySet, Origin, Way as AuthWay, keys};
pub use cameras::{Config as CamerasConfig, NamedCamera};
pub use cloudpose_store::Part as StorePart;
pub use config::{Config, PHOTO_MODEL, STREAM_MODEL};
pub use error::Error;
pub use gateway::{Gateway, Ops, Patience};
pub use jobs::{CallbackSecret, Config as JobsConfig, StoreCheck};
pub use ledger::{Books, Ledger};
pub use listener::TlsConfig;
