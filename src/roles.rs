//! The roles: what each is, how it is loaded, and how it runs. A new one is a row of [`SERVED`] or [`APART`], and its
//! crate.

use std::{future::Future, net::SocketAddr, pin::Pin};

use anyhow::Result;
use clap::{ArgMatches, Args as _, Command, FromArgMatches as _, ValueHint};
use cloudpose_bus::{Bus, nats::Role as OnNats};
use cloudpose_infer::{StoreConfig, Worker};
use cloudpose_ingest::{Books, Gateway, Ops, PHOTO_MODEL, Patience, STREAM_MODEL, StoreCheck};
use cloudpose_records::Recorder;
use cloudpose_wire::ModelId;
use tokio_util::sync::CancellationToken;

/// Those of `serve`, in the order in which they are loaded, and drained: each goes on until those before it have finished what they
/// wait for from it.
pub(crate) static SERVED: [Role; 3] = [
    Role {
        name: "ingest",
        about: "Serve clients, with the workers elsewhere on NATS",
        example: "cloudpose ingest --nats nats://127.0.0.1:4222 --listen 0.0.0.0:60000 --keys keys.json",
        has_clients: true,
        on_nats: OnNats::Gateway,
        takes_frames: false,
        options: cloudpose_ingest::Config::augment_args,
        describe: cloudpose_ingest::metrics::describe,
        load: |options, given| Box::pin(ingest(options, given)),
    },
    Role {
        name: "infer",
        about: "Find poses in frames from NATS",
        example: "cloudpose infer --nats nats://127.0.0.1:4222 --infer-threads 4",
        has_clients: false,
        on_nats: OnNats::Worker,
        takes_frames: true,
        options: infer_options,
        describe: cloudpose_infer::metrics::describe,
        load: |options, given| Box::pin(infer(options, given)),
    },
    Role {
        name: "annotate",
        about: "Draw poses on frames from NATS",
        example: "cloudpose annotate --nats nats://127.0.0.1:4222",
        has_clients: false,
        on_nats: OnNats::Worker,
        takes_frames: true,
        options: cloudpose_annotate::Config::augment_args,
        describe: cloudpose_annotate::metrics::describe,
        load: |options, given| Box::pin(annotate(options, given)),
    },
];

/// Those that run by themselves only: each needs something that not everybody has.
pub(crate) static APART: [Role; 1] = [Role {
    name: "record",
    about: "Record events from NATS in PostgreSQL or Parquet files, on a disk or in a bucket",
    example: "cloudpose record --nats nats://127.0.0.1:4222 --to postgres://user:password@host/database --keep 30d",
    has_clients: false,
    on_nats: OnNats::Recorder,
    takes_frames: false,
    options: cloudpose_records::Config::augment_args,
    describe: cloudpose_records::metrics::describe,
    load: |options, given| Box::pin(record(options, given)),
}];

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Role> {
    SERVED.iter().chain(&APART)
}

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Role {
    /// Its command, and what its process is called.
    pub(crate) name: &'static str,
    /// What its command does.
    pub(crate) about: &'static str,
    pub(crate) example: &'static str,
    /// Whether clients come to a port of its own, where monitors find the process as well.
    pub(crate) has_clients: bool,
    /// What it is to the broker.
    pub(crate) on_nats: OnNats,
    /// Whether it takes frames from lanes, and so may be told to leave them to others.
    pub(crate) takes_frames: bool,
    /// Adds its options to a command.
    pub(crate) options: fn(Command) -> Command,
    /// Tells the recorder what its metrics mean.
    pub(crate) describe: fn(),
    /// Makes it ready, by the options that it added.
    pub(crate) load: fn(ArgMatches, Given) -> Task<Ready>,
}

/// What a role gets of its process.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) bus: Bus,
    /// Frames by their end.
    pub(crate) books: Books,
    /// What monitors are answered where clients come.
    pub(crate) ops: Ops,
}

/// A role that has what it needs and does not work yet.
pub(crate) struct Ready {
    /// Where clients come, if they do.
    pub(crate) clients: Option<SocketAddr>,
    /// Says whether the store is there that it has.
    pub(crate) store: Option<StoreCheck>,
    /// Works until the token is cancelled, then finishes what is in hand. One that cannot go on cancels the token
    /// itself, and fails.
    pub(crate) run: Box<dyn FnOnce(CancellationToken, Patience) -> Task<()> + Send>,
}

pub(crate) type Task<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

async fn ingest(options: ArgMatches, Given { bus, books, ops }: Given) -> Result<Ready> {
    let mut config = cloudpose_ingest::Config::from_arg_matches(&options)?;
    config.max_image_bytes = fitting(config.max_image_bytes, &bus);
    let gateway = Gateway::bind(config, bus.clone(), books, ops).await?;
    let address = gateway.local_addr()?;
    let store = gateway.store_check();
    let scheme = if gateway.speaks_tls() { "https" } else { "http" };
    let run = async move |stop, patience| {
        tracing::info!("listening on {scheme}://{address}");
        tokio::select! {
            drained = gateway.run(stop, patience) => Ok(drained?),
            never = bus.watch_lanes() => match never {},
        }
    };
    let run = Box::new(move |stop, patience| -> Task<()> { Box::pin(run(stop, patience)) });
    Ok(Ready { clients: Some(address), store, run })
}

/// No image is taken that the bus does not carry.
fn fitting(max_image_bytes: usize, bus: &Bus) -> usize {
    match bus.max_image_bytes() {
        Some(limit) if limit < max_image_bytes => {
            tracing::info!(
                limit,
                "images are limited by the NATS server's max_payload: raise it there to take up to {max_image_bytes} bytes"
            );
            limit
        }
        _ => max_image_bytes,
    }
}

/// The model that an infer role has ready. In one process with a gateway it is the gateway's, which has an option of
/// this name.
#[derive(Debug, clap::Args)]
struct Model {
    /// The model to have ready; others load when they are first asked for [default: fast and accurate]
    #[arg(long, env = "CLOUDPOSE_MODEL", value_name = "MODEL", value_hint = ValueHint::Other)]
    model: Option<ModelId>,
}

impl Model {
    /// The models to have ready. Who brings a folder of models names one of them, or waits for the first frame.
    fn ready(self, store: &StoreConfig) -> Vec<ModelId> {
        let usual =
            || [STREAM_MODEL, PHOTO_MODEL].map(|name| name.parse().expect("the usual ones are names"));
        match (self.model, &store.model_dir) {
            (Some(model), _) => vec![model],
            (None, None) => usual().into(),
            (None, Some(_)) => Vec::new(),
        }
    }
}

fn infer_options(command: Command) -> Command {
    let is_there = command.get_arguments().any(|option| option.get_id() == "model");
    let command = if is_there { command } else { Model::augment_args(command) };
    cloudpose_infer::Config::augment_args(command)
}

async fn infer(options: ArgMatches, Given { bus, .. }: Given) -> Result<Ready> {
    let config = cloudpose_infer::Config::from_arg_matches(&options)?;
    let ready = Model::from_arg_matches(&options)?.ready(&config.store);
    let worker = tokio::task::spawn_blocking(move || Worker::load(&config, &ready)).await??;
    let run = async move |stop| Ok(worker.run(bus, stop).await?);
    Ok(Ready { clients: None, store: None, run: Box::new(move |stop, _| Box::pin(run(stop))) })
}

async fn annotate(options: ArgMatches, Given { bus, .. }: Given) -> Result<Ready> {
    let config = cloudpose_annotate::Config::from_arg_matches(&options)?;
    let run = async move |stop| Ok(cloudpose_annotate::run(config, bus, stop).await?);
    Ok(Ready { clients: None, store: None, run: Box::new(move |stop, _| Box::pin(run(stop))) })
}

async fn record(options: ArgMatches, Given { bus, .. }: Given) -> Result<Ready> {
    let config = cloudpose_records::Config::from_arg_matches(&options)?;
    let recorder = Recorder::load(config, &bus).await?;
    let run = async move |stop| Ok(recorder.run(stop).await?);
    Ok(Ready { clients: None, store: None, run: Box::new(move |stop, _| Box::pin(run(stop))) })
}
