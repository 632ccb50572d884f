//! The application: the roles of one process on their bus, loaded, run, and drained in order.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use cloudpose_bus::{Bus, Capacity};
use cloudpose_ingest::Books;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, Process},
    ops::{self, Ops},
    roles::{Given, Ready},
    shutdown::{self, Grace},
    telemetry, vitals,
};

/// A process that has its bus and its roles, and does not work yet.
pub struct App {
    name: &'static str,
    roles: Vec<(&'static str, Ready)>,
    bus: Bus,
    /// Where monitors ask, if that is a port of its own.
    ops: Option<SocketAddr>,
    /// Answers there, from before the roles are loaded.
    monitors: JoinSet<Result<()>>,
    ready: watch::Sender<bool>,
    metrics: PrometheusHandle,
}

impl App {
    /// Starts metrics, opens the bus (on NATS if a server is named, in this process otherwise), and loads the roles.
    /// Who asks meanwhile on `--ops-listen` is told that the process is not ready.
    ///
    /// # Errors
    /// If one of these fails, or this process has an app already: metrics belong to the process.
    pub async fn load(config: Config) -> Result<Self> {
        let metrics = telemetry::start_metrics()?;
        vitals::describe(config.name, config.roles);
        let Process { ops_listen, nats, .. } = &config.process;
        let capacity = Capacity::default();
        let bus = if nats.login.servers.is_empty() {
            Bus::local(capacity)
        } else {
            Bus::nats(nats, capacity).await?
        };
        let (ready, is_ready) = watch::channel(false);
        let books = Books::default();
        let store = Arc::new(OnceLock::new());
        let answers = Ops {
            ready: is_ready,
            store: Arc::clone(&store),
            metrics: vitals::page(metrics.clone(), books.clone()),
        };
        let mut monitors = JoinSet::new();
        let ops = match *ops_listen {
            None => None,
            Some(address) => {
                let listener = ops::bind(address).await?;
                let address = listener.local_addr()?;
                tracing::info!("metrics on http://{address}/metrics");
                monitors.spawn(ops::serve(listener, answers.clone()));
                Some(address)
            }
        };
        let given = Given { bus: bus.clone(), books, ops: answers.beside_clients(ops.is_none()) };
        let mut roles = Vec::new();
        for role in config.roles {
            let loaded = (role.load)(config.options.clone(), given.clone()).await?;
            if let Some(check) = loaded.store.clone() {
                store.get_or_init(|| check);
            }
            roles.push((role.name, loaded));
        }
        Ok(Self { name: config.name, roles, bus, ops, monitors, ready, metrics })
    }

    /// Where clients come, if they come to this process.
    pub fn clients(&self) -> Option<SocketAddr> {
        self.roles.iter().find_map(|(_, role)| role.clients)
    }

    /// Where monitors ask, if not where clients come.
    pub fn ops(&self) -> Option<SocketAddr> {
        self.ops
    }

    /// Works until `stop`, then is not ready, finishes within `grace` what is in flight, and closes the bus.
    ///
    /// # Errors
    /// If a role fails or ends by itself, or not everything is finished in time.
    pub async fn run(self, stop: CancellationToken, grace: Duration) -> Result<()> {
        let Self { name, roles, bus, mut monitors, ready, metrics, .. } = self;
        let grace = Grace::from(grace);
        let running = Running::start(roles, grace);
        let stops = running.stops();
        let tell = |yes: bool| {
            // One that is leaving does not come back with its broker.
            let yes = yes && !stops.iter().any(CancellationToken::is_cancelled);
            ready.send_replace(yes);
            vitals::ready(name, yes);
        };
        let work = async {
            let worked = tokio::select! {
                worked = running.until(&stop, || tell(false)) => worked,
                Some(ended) = monitors.join_next() => ended.context("answering monitors panicked").flatten(),
                never = watch(&bus, &stops, tell) => match never {},
                never = telemetry::upkeep(metrics) => match never {},
            };
            bus.close(grace.closing).await;
            worked
        };
        shutdown::within_grace(stop.clone(), grace.whole, work).await
    }
}

/// Says whenever it changes whether the bus is there and no role has stopped.
async fn watch(bus: &Bus, stops: &[CancellationToken], tell: impl Fn(bool)) -> Infallible {
    let mut stopped: JoinSet<()> = stops.iter().map(|stop| stop.clone().cancelled_owned()).collect();
    loop {
        bus.wait_until(true).await;
        tell(true);
        tokio::select! {
            () = bus.wait_until(false) => tell(false),
            Some(_) = stopped.join_next() => break,
        }
    }
    tell(false);
    std::future::pending().await
}

/// Roles at work.
struct Running {
    /// Each ends with its place in `stops`.
    tasks: JoinSet<(usize, Result<()>)>,
    /// In the order of draining, with their names.
    stops: Vec<(&'static str, CancellationToken)>,
}

impl Running {
    fn start(roles: Vec<(&'static str, Ready)>, grace: Grace) -> Self {
        let (mut tasks, mut stops) = (JoinSet::new(), Vec::new());
        for (place, (name, role)) in roles.into_iter().enumerate() {
            let stop = CancellationToken::new();
            let run = (role.run)(stop.clone(), grace.sessions);
            tasks.spawn(async move { (place, run.await) });
            stops.push((name, stop));
        }
        Self { tasks, stops }
    }

    fn stops(&self) -> Vec<CancellationToken> {
        self.stops.iter().map(|(_, stop)| stop.clone()).collect()
    }

    /// Lets all work until `stop`, calls `leaving`, and stops one after the other: what one has in flight is in the
    /// hands of those after it.
    async fn until(mut self, stop: &CancellationToken, leaving: impl FnOnce()) -> Result<()> {
        tokio::select! {
            () = stop.cancelled() => leaving(),
            ended = self.next_end() => bail!("{} ended by itself", self.stops[ended?].0),
        }
        for place in 0..self.stops.len() {
            self.stops[place].1.cancel();
            let ended = self.next_end().await?;
            ensure!(ended == place, "{} ended by itself", self.stops[ended].0);
        }
        Ok(())
    }

    /// Which is the next to end.
    async fn next_end(&mut self) -> Result<usize> {
        let ended = self.tasks.join_next().await.context("every role has ended")?;
        let (place, ended) = ended.context("a role panicked")?;
        ended.map(|()| place)
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio::sync::mpsc;

    use super::*;

    /// A role in the test's hands: its token, when it was stopped, and how it ends.
    struct Held {
        stop: CancellationToken,
        stopped: mpsc::Receiver<()>,
        end: mpsc::Sender<Result<()>>,
    }

    /// A role that says when it is stopped, and ends when it is told.
    fn role() -> (Ready, mpsc::Receiver<Held>) {
        let (start, started) = mpsc::channel(1);
        let run = async |stop: CancellationToken, start: mpsc::Sender<Held>| {
            let ((tell, stopped), (end, mut ended)) = (mpsc::channel(1), mpsc::channel(1));
            start.send(Held { stop: stop.clone(), stopped, end }).await?;
            tokio::select! {
                () = stop.cancelled() => tell.send(()).await?,
                ended = ended.recv() => return ended.unwrap(),
            }
            ended.recv().await.unwrap()
        };
        (
            Ready { clients: None, store: None, run: Box::new(move |stop, _| Box::pin(run(stop, start))) },
            started,
        )
    }

    /// A process of two roles, the first of which drains first.
    struct Two {
        first: Held,
        second: Held,
        ready: watch::Receiver<bool>,
        stop: CancellationToken,
        running: JoinSet<Result<()>>,
    }

    impl Two {
        async fn start() -> Self {
            let ((first, mut first_started), (second, mut second_started)) = (role(), role());
            let (tell, mut ready) = watch::channel(false);
            let app = App {
                name: "test",
                roles: vec![("first", first), ("second", second)],
                bus: Bus::local(Capacity::default()),
                ops: None,
                monitors: JoinSet::new(),
                ready: tell,
                metrics: PrometheusBuilder::new().build_recorder().handle(),
            };
            let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
            running.spawn(app.run(stop.clone(), Duration::from_secs(3600)));
            let (first, second) = (first_started.recv().await.unwrap(), second_started.recv().await.unwrap());
            ready.wait_for(|ready| *ready).await.unwrap();
            Self { first, second, ready, stop, running }
        }

        async fn ended(mut self) -> Result<()> {
            self.running.join_next().await.unwrap().unwrap()
        }
    }

    #[tokio::test]
    async fn what_drains_later_goes_on_until_those_before_it_are_done() {
        let mut two = Two::start().await;
        two.stop.cancel();
        two.first.stopped.recv().await.unwrap();
        assert!(!*two.ready.borrow(), "it says that it is not ready before it stops anything");
        assert!(
            two.second.stopped.try_recv().is_err(),
            "what the first has in flight is in the second's hands"
        );
        two.first.end.send(Ok(())).await.unwrap();
        two.second.stopped.recv().await.unwrap();
        two.second.end.send(Ok(())).await.unwrap();
        two.ended().await.unwrap();
    }

    #[tokio::test]
    async fn a_role_that_ends_by_itself_ends_the_process() {
        for draining in [false, true] {
            let mut two = Two::start().await;
            if draining {
                two.stop.cancel();
                two.first.stopped.recv().await.unwrap();
            }
            two.second.end.send(Ok(())).await.unwrap();
            assert_eq!(two.ended().await.unwrap_err().to_string(), "second ended by itself");
        }
    }

    #[tokio::test]
    async fn a_role_that_gives_up_is_not_ready_and_its_reason_is_the_processs() {
        let mut two = Two::start().await;
        two.second.stop.cancel();
        two.ready.wait_for(|ready| !ready).await.unwrap();
        two.second.end.send(Err(anyhow::anyhow!("the device failed"))).await.unwrap();
        assert_eq!(two.ended().await.unwrap_err().to_string(), "the device failed");
    }
}
