//! Which roles run in a process, and with what settings: the commands `serve` and that of each role.

use std::{env, ffi::OsString, iter, net::SocketAddr, slice, time::Duration};

use clap::{ArgGroup, ArgMatches, Args, Command, FromArgMatches, Subcommand, error::ErrorKind};
use cloudpose_bus::nats::{self, Turn};

use crate::{
    roles::{self, Role, SERVED},
    traces,
};

/// The command that runs every role.
const ALL: &str = "serve";
/// Where monitors ask a process that clients do not come to, unless it is told.
const OPS_LISTEN: &str = "127.0.0.1:0";
/// What `--ops-listen` was called while only workers had it.
const METRICS_LISTEN: &str = "CLOUDPOSE_METRICS_LISTEN";

/// Settings of every serving process.
#[derive(Debug, Clone, Args)]
#[group(id = "process")]
pub(crate) struct Process {
    /// How long to finish what is in flight after SIGTERM
    #[arg(long, env = "CLOUDPOSE_GRACE", default_value = "20s", value_parser = humantime::parse_duration, value_name = "TIME")]
    grace: Duration,
    /// Address and port of /health, /ready and /metrics; port 0 picks a free port
    #[arg(long, env = "CLOUDPOSE_OPS_LISTEN", value_name = "ADDR:PORT")]
    pub(crate) ops_listen: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) traces: traces::Config,
    #[command(flatten)]
    pub(crate) nats: nats::Config,
}

/// What a process has that takes frames from lanes and runs by itself.
#[derive(Debug, Args)]
struct Overflow {
    /// Take only frames for which no other worker is free: for slow workers beside fast ones
    #[arg(long, env = "CLOUDPOSE_OVERFLOW")]
    overflow: bool,
}

/// A serving process: its roles and their settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// The command, which is what the process is called.
    pub(crate) name: &'static str,
    pub(crate) roles: &'static [Role],
    pub(crate) process: Process,
    /// The options of all its roles.
    pub(crate) options: ArgMatches,
}

impl Config {
    /// Reads what follows `cloudpose` on a command line, like `["serve", "--listen", "127.0.0.1:0"]`. Environment
    /// variables count too.
    ///
    /// # Errors
    /// What clap would tell the user.
    pub fn from_arguments<A: Into<OsString>>(
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self, clap::Error> {
        let command = Self::augment_subcommands(Command::new("cloudpose")).subcommand_required(true);
        let line = iter::once(OsString::from("cloudpose")).chain(arguments.into_iter().map(Into::into));
        Self::from_arg_matches(&command.try_get_matches_from(line)?)
    }

    /// How long to finish what is in flight.
    pub fn grace(&self) -> Duration {
        self.process.grace
    }
}

impl FromArgMatches for Config {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (named, options) =
            matches.subcommand().ok_or_else(|| clap::Error::new(ErrorKind::MissingSubcommand))?;
        let alone = roles::all().find(|role| role.name == named);
        let (name, roles) = alone.map_or((ALL, &SERVED[..]), |role| (role.name, slice::from_ref(role)));
        let mut process = Process::from_arg_matches(options)?;
        process.nats.role = alone.map(|role| role.on_nats);
        if let Ok(Some(true)) = options.try_get_one("overflow") {
            process.nats.turn = Turn::Overflow;
        }
        Ok(Self { name, roles, process, options: options.clone() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Subcommand for Config {
    fn augment_subcommands(command: Command) -> Command {
        command.subcommand(all()).subcommands(roles::all().map(alone))
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        name == ALL || roles::all().any(|role| role.name == name)
    }
}

/// All that frames need, in one process.
fn all() -> Command {
    with_options(Command::new(ALL), &SERVED)
        .about("Serve everything from one process: web page, WebSocket, HTTP")
        .after_help(
            "Examples:
  cloudpose serve
  cloudpose serve --listen 0.0.0.0:60000 --keys keys.json    lets other machines in, with keys
  cloudpose serve --camera door=rtsp://user:password@192.168.1.20/stream1
  cloudpose serve --infer-threads 4
  CLOUDPOSE_MODEL=lightning cloudpose serve
  cloudpose serve --nats nats://127.0.0.1:4222    shares its work with other processes

Every option can be given as an environment variable, named in brackets.",
        )
}

/// One role by itself, which needs a broker to reach the others.
fn alone(role: &'static Role) -> Command {
    let command = with_options(Command::new(role.name), slice::from_ref(role));
    let command = if role.takes_frames { Overflow::augment_args(command) } else { command };
    command
        .about(role.about)
        .after_help(format!("Example:\n  {}", role.example))
        .group(ArgGroup::new("broker").args(["nats"]).required(true))
}

/// Adds the options of every process and of `roles`. With them come headings, which end here, and descriptions.
fn with_options(command: Command, roles: &[Role]) -> Command {
    let plain = |command: Command| command.next_help_heading(None::<&'static str>);
    let command = plain(Process::augment_args(command));
    let command = roles.iter().fold(command, |command, role| plain((role.options)(command)));
    command.mut_arg("ops_listen", |option| {
        if roles.iter().any(|role| role.has_clients) {
            return option.help(
                "Address and port of /health, /ready and /metrics, apart from where clients come: /metrics is \
                 answered there only [default: where clients come]",
            );
        }
        let option = option
            .long_help(format!(
                "Address and port of /health, /ready and /metrics; port 0 picks a free port\n\n\
                 [env: {METRICS_LISTEN}, its earlier name]"
            ))
            .default_value(OPS_LISTEN)
            .visible_alias("metrics-listen");
        // The variable that goes by the option's own name counts first.
        let own = option.get_env().is_some_and(|name| env::var_os(name).is_some());
        if !own && env::var_os(METRICS_LISTEN).is_some() { option.env(METRICS_LISTEN) } else { option }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Config, clap::Error> {
        Config::from_arguments(line.split(' '))
    }

    #[test]
    fn roles_by_themselves_need_a_broker() {
        for Role { name, .. } in roles::all() {
            let without = parse(name);
            assert!(without.is_err_and(|error| error.to_string().contains("--nats")), "{name}");
            let to = if *name == "record" { " --to postgres://user@host/poses" } else { "" };
            let with = parse(&format!("{name} --nats nats://a:4222,nats://b:4222{to}")).unwrap();
            assert_eq!(with.roles.iter().map(|role| role.name).collect::<Vec<_>>(), [*name]);
        }
        assert_eq!(parse("serve").unwrap().roles.len(), SERVED.len());
    }

    #[test]
    fn monitors_ask_where_clients_come_or_on_a_port_of_their_own() {
        let listen = |line: &str| parse(line).unwrap().process.ops_listen.map(|address| address.to_string());
        assert_eq!(listen("serve"), None);
        assert_eq!(listen("ingest --nats nats://a"), None);
        assert_eq!(listen("infer --nats nats://a").as_deref(), Some(OPS_LISTEN));
        for (role, option) in [
            ("serve", "ops"),
            ("ingest", "ops"),
            ("infer", "ops"),
            ("annotate", "metrics"),
            ("infer", "metrics"),
        ] {
            let line = format!("{role} --nats nats://a --{option}-listen 127.0.0.1:9");
            assert_eq!(listen(&line).as_deref(), Some("127.0.0.1:9"), "{line}");
        }
        assert!(parse("serve --metrics-listen 127.0.0.1:9").is_err());
    }

    #[test]
    fn only_what_takes_frames_may_leave_them_to_others() {
        let turn = |line: &str| parse(line).map(|config| config.process.nats.turn);
        assert_eq!(turn("infer --nats nats://a").unwrap(), Turn::First);
        assert_eq!(turn("infer --nats nats://a --overflow").unwrap(), Turn::Overflow);
        assert!(turn("ingest --nats nats://a --overflow").is_err());
        assert!(turn("serve --overflow").is_err());
    }
}
