//! The commands: runs, searches, experiments, and joining their results.

use std::{path::PathBuf, time::Duration, time::SystemTime};

use bytes::Bytes;

use crate::{
    Command, Error,
    config::{
        By, Experiment, FindMax, HttpRun, Merge, ScalerKind, SearchOptions, StreamRun, Target, WorkloadKind,
    },
    drive::{Driver, Plan, Volume},
    find_max::{Runner, find_max},
    range::Range,
    report::{self, words},
    scaler::Scaler,
    schedule::Ramp,
    screen::Screen,
    search::{Ask, Search},
    summary::{File, Results, Run, SearchRecord, Step},
    verdict::Objective,
};

/// How long all the users of a step take to join.
const JOINING: Duration = Duration::from_secs(2);
/// And at least to get out of step with one another, before it counts.
const SETTLING: Duration = Duration::from_secs(3);

/// What the caller has, and the load test needs.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Encoded pictures to send, one after another; at least one, unless the command sends none.
    pub pictures: Vec<Bytes>,
    /// The `cloudpose` program, for the local scaler.
    pub binary: PathBuf,
}

/// Does what `command` says, until it is done or the process is interrupted.
///
/// # Errors
/// What could not be done; that a run's record is incomplete or its generator was saturated; that a
/// `--fail-if` holds.
pub async fn run(command: &Command, surroundings: Surroundings) -> Result<(), Error> {
    let work = async {
        match command {
            Command::Http(run) => http(run, &surroundings).await,
            Command::Stream(run) => stream(run, &surroundings).await,
            Command::FindMax(command) => search(command, &surroundings).await,
            Command::Experiment(command) => experiment(command, surroundings).await,
            Command::Merge(command) => merge(command),
        }
    };
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err(Error::Interrupted),
    }
}

async fn http(command: &HttpRun, surroundings: &Surroundings) -> Result<(), Error> {
    let HttpRun { users, rate, run_time, http, target } = command;
    let driver = Driver::http(&target.url, target, http, &surroundings.pictures)?;
    let ramp = Ramp { users: users.users, per_second: users.spawn_rate };
    let volume = rate.map_or(Volume::Users(ramp), Volume::Rate);
    one_run(driver, volume, *run_time, target).await
}

async fn stream(command: &StreamRun, surroundings: &Surroundings) -> Result<(), Error> {
    let StreamRun { users, run_time, stream, target } = command;
    let driver = Driver::stream(&target.url, target, stream, &surroundings.pictures)?;
    let ramp = Ramp { users: users.users, per_second: users.spawn_rate };
    one_run(driver, Volume::Users(ramp), *run_time, target).await
}

/// As Locust has it, all of the run counts, ramp and all.
async fn one_run(driver: Driver, volume: Volume, time: Duration, target: &Target) -> Result<(), Error> {
    let mut screen = Screen::new();
    let mut results = results(&driver, &target.url, target, None);
    let run = driver.run(Plan { volume, from: Duration::ZERO, until: time }, &mut screen).await;
    screen.say(&words::calls(&run).markdown());
    screen.say(&words::remarks(&run).join("\n"));
    results.runs.push(run.clone());
    let page = report::write(&target.output, &[results])?;
    screen.say(&format!("report: {}", page.display()));
    believe(&run)?;
    hold(target, [(&run, None)])
}

/// Fails if the run cannot be believed.
fn believe(run: &Run) -> Result<(), Error> {
    let flaws: Vec<String> = run.flaws.iter().map(ToString::to_string).collect();
    if flaws.is_empty() { Ok(()) } else { Err(Error::Void(flaws)) }
}

/// Fails if one of the `--fail-if` holds.
fn hold<'a>(target: &Target, runs: impl IntoIterator<Item = (&'a Run, Option<u32>)>) -> Result<(), Error> {
    let checks =
        runs.into_iter().flat_map(|(run, found)| target.fail_if.iter().map(move |t| t.check(run, found)));
    let failed: Vec<String> = checks.flatten().collect();
    if failed.is_empty() { Ok(()) } else { Err(Error::Threshold(failed)) }
}

fn results(driver: &Driver, url: &str, target: &Target, objective: Option<Objective>) -> Results {
    Results {
        name: target.name.clone(),
        location: format!("{:?}", target.location).to_lowercase(),
        url: url.into(),
        workload: driver.workload(),
        began: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        objective,
        runs: Vec::new(),
        searches: Vec::new(),
    }
}

fn driver(url: &str, search: &SearchOptions, pictures: &[Bytes]) -> Result<Driver, Error> {
    match (search.workload, search.by) {
        (WorkloadKind::Http, _) => Driver::http(url, &search.target, &search.http, pictures),
        (WorkloadKind::Stream, By::Users) => Driver::stream(url, &search.target, &search.stream, pictures),
        (WorkloadKind::Stream, By::Rate) => Err(Error::RateOfStreams),
    }
}

async fn search(command: &FindMax, surroundings: &Surroundings) -> Result<(), Error> {
    let options = &command.search;
    let driver = driver(&options.target.url, options, &surroundings.pictures)?;
    let mut screen = Screen::new();
    let mut results = results(&driver, &options.target.url, &options.target, Some(options.objective()));
    driver.ready().await?;
    results.searches.push(one_search(&driver, options, None, &mut screen).await);
    conclude(&results, options, &screen)
}

async fn experiment(command: &Experiment, surroundings: Surroundings) -> Result<(), Error> {
    if command.scaler == ScalerKind::None && command.replicas.len() > 1 {
        return Err(Error::NothingScales);
    }
    let options = &command.search;
    let mut screen = Screen::new();
    let mut scaler = Scaler::start(command, surroundings.binary).await?;
    let url = scaler.url().unwrap_or_else(|| options.target.url.clone());
    let driver = driver(&url, options, &surroundings.pictures)?;
    let mut results = results(&driver, &url, &options.target, Some(options.objective()));
    for &replicas in &command.replicas {
        screen.say(&format!("replicas: {replicas}"));
        scaler.scale(replicas).await?;
        driver.ready().await?;
        results.searches.push(one_search(&driver, options, Some(replicas), &mut screen).await);
        // What is known is kept, whatever comes next.
        report::write(&options.target.output, std::slice::from_ref(&results))?;
    }
    conclude(&results, options, &screen)
}

async fn one_search(
    driver: &Driver,
    options: &SearchOptions,
    replicas: Option<u32>,
    screen: &mut Screen,
) -> SearchRecord {
    let search = Search::new(options.start, options.limit);
    let mut runner = OnScreen { driver, options, screen };
    find_max(search, &options.objective(), replicas, &mut runner).await
}

/// Makes the runs of a search and shows them.
struct OnScreen<'a> {
    driver: &'a Driver,
    options: &'a SearchOptions,
    screen: &'a mut Screen,
}

impl Runner for OnScreen<'_> {
    async fn run(&mut self, ask: Ask) -> Run {
        let time = match ask {
            Ask::Probe(_) => self.options.step_time,
            Ask::Confirm(_) => self.options.confirm_time,
        };
        self.driver.run(plan(ask.load(), time, self.options), self.screen).await
    }

    fn show(&mut self, step: &Step) {
        self.screen.say(&words::step(step));
    }
}

/// Joining, settling, then `time` that counts.
fn plan(load: u32, time: Duration, options: &SearchOptions) -> Plan {
    let per_second = (f64::from(load) / JOINING.as_secs_f64()).max(1.0);
    let (volume, joined) = match options.by {
        By::Users => {
            let ramp = Ramp { users: Range { from: 1, to: load }, per_second };
            (Volume::Users(ramp), ramp.end())
        }
        By::Rate => {
            let rate = f64::from(load);
            (Volume::Rate(Range { from: rate, to: rate }), Duration::ZERO)
        }
    };
    let from = joined + options.http.think.to.max(SETTLING);
    Plan { volume, from, until: from + time }
}

fn conclude(results: &Results, options: &SearchOptions, screen: &Screen) -> Result<(), Error> {
    let page = report::write(&options.target.output, std::slice::from_ref(results))?;
    screen.say(&words::searches(std::slice::from_ref(results)).markdown());
    screen.say(&format!("report: {}", page.display()));
    let undecided = results.searches.iter().filter(|search| search.found.is_none());
    let reasons: Vec<String> = undecided.filter_map(|s| Some(s.steps.last()?.reasons.join("; "))).collect();
    if !reasons.is_empty() {
        return Err(Error::Void(reasons));
    }
    // Where nothing holds, the last run says how bad it is.
    let runs = results.searches.iter().filter_map(|search| {
        let run = search.confirmed().or_else(|| Some(&search.steps.last()?.run))?;
        Some((run, search.found))
    });
    hold(&options.target, runs)
}

fn merge(command: &Merge) -> Result<(), Error> {
    let mut results = Vec::new();
    for path in &command.files {
        results.extend(File::read(path)?.results);
    }
    let page = report::write(&command.output, &results)?;
    let screen = Screen::new();
    if results.iter().any(|of| !of.searches.is_empty()) {
        screen.say(&words::searches(&results).markdown());
    }
    for of in &results {
        for run in &of.runs {
            screen.say(&format!(
                "{} ({}), {}\n{}",
                of.name,
                of.location,
                run.load,
                words::calls(run).markdown()
            ));
        }
    }
    screen.say(&format!("report: {}", page.display()));
    Ok(())
}
