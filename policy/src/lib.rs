//! What is decided about frames, apart from who carries it out.
//!
//! Gateway, bus and workers do the I/O and ask here what to do; `cloudpose loadgen scale-sim` asks the same
//! types, so what it simulates is what runs.
//!
//! | module | decides | asked by |
//! |---|---|---|
//! | [`admit`] | which frame of a session goes on the bus, and when | a session |
//! | [`retry`] | when a frame that the bus refused is offered again | a session |
//! | [`backoff`] | how long to wait before something that failed is tried again | retries, cameras, callbacks |
//! | [`order`] | which result is delivered next | a session |
//! | [`pace`] | whether a client sends too fast | a session |
//! | [`uplink`] | when a sender of video is asked for a key frame, and how many bits are enough | a session's door |
//! | [`deadline`] | how long a frame has, and whether it is worth beginning | session, bus |
//! | [`guests`] | whether there is room for another connection | the gateway's listener |
//! | [`progress`] | since when a client takes nothing, or leaves a message unfinished | a connection |
//! | [`requests`] | whether a client that asks for much at once takes it | a connection |
//! | [`quota`] | how much one may use, and when there is some again | the gateway |
//! | [`leaving`] | when each of those who stream is told that the gateway goes | the gateway |
//! | [`room`] | whether there is room for what clients have not finished sending | the gateway |
//! | [`tickets`] | what is good once, for a short time | the gateway |
//! | [`lanes`] | which frame of a stage is handed out next, and what gives way when a lane is full | bus |
//! | [`gate`] | which stream's frame goes on a lane next that is first come, first served | gateway |
//! | [`rota`] | whose turn it is: a tenant's, of a tenant a stream's | bus |
//! | [`turns`] | whether live or still is next | bus |
//! | [`seats`] | whose frame is worked on beside whose | bus |
//! | [`usage`] | whose work lets others' go first | bus |
//! | [`lease`] | which gateway works on a job, and how long it may fetch cameras | gateway |
//! | [`fleet`] | which gateway fetches which camera | gateway |
//! | [`capture`] | when a frame was captured, by its camera's clock | gateway |
//! | [`share`] | when an item of a job goes on the lanes | gateway |
//! | [`callbacks`] | when who waits for a job is called, and how many at once | gateway |
//! | [`hearsay`] | for how long an answer counts | the gateway |
//! | [`watch`] | which frames of a stream those who watch it take | gateway |
//! | [`batch`] | which frames go to a device together | an infer worker |
//!
//! No runtime, no sockets, no clock: `now` is an argument, and nothing here logs, counts or waits. A type that has
//! something to do though nothing happens says when with `next_deadline`.

pub mod admit;
pub mod backoff;
pub mod batch;
pub mod callbacks;
pub mod capture;
pub mod deadline;
pub mod fleet;
pub mod gate;
pub mod guests;
pub mod hearsay;
pub mod lanes;
pub mod lease;
pub mod leaving;
pub mod order;
pub mod pace;
pub mod progress;
pub mod quota;
pub mod requests;
pub mod retry;
pub mod room;
pub mod rota;
pub mod seats;
pub mod share;
pub mod tickets;
pub mod turns;
pub mod uplink;
pub mod usage;
pub mod watch;
