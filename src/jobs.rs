//! `cloudpose jobs`: hands images and videos in at a server, says how far it is, and fetches the results; and tells the
//! keys by which callbacks are signed.
#![expect(clippy::print_stdout, reason = "the answer of a command")]

use std::{
    fs::{self, File},
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::Bytes;
use clap::{Args, Subcommand, ValueHint};
use cloudpose_ingest::CallbackSecret;
use cloudpose_wire::{Draw, JobId, ModelId, Tenant};
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{
    Body, Method, RequestBuilder, Url,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
    multipart::{Form, Part},
};
use serde::Deserialize;
use tokio::time::sleep;

use crate::{
    detect::{self, VIDEO_SUFFIXES, has_suffix},
    outputs::create,
    plain::{plain, shown},
    remote::Server,
};

/// How often the server is asked how far a job is.
const LOOK: Duration = Duration::from_millis(500);
/// Bytes of a video that are read at once.
const PIECE: usize = 1 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Hand in images or videos, and print the job's name, of each video on a line of its own
    #[command(after_help = "Examples:
  cloudpose jobs submit album/
  cloudpose jobs submit clip.mp4 --fps 5
  cloudpose jobs submit a.jpg b.jpg --want both --model accurate --server http://10.0.0.7:60000
  cloudpose jobs submit album/ --callback https://app.example.com/done
  cloudpose jobs fetch $(cloudpose jobs submit album/ --want both) -o out")]
    Submit(Submit),
    /// Say how far a job is
    #[command(after_help = "Example:
  cloudpose jobs status job-0199a5f2c1d87e9b8f6e3a1c5d2b4f60")]
    Status(One),
    /// Wait until a job is done, and print a line of JSON for each image or frame
    #[command(after_help = "Examples:
  cloudpose jobs fetch job-0199a5f2c1d87e9b8f6e3a1c5d2b4f60 > results.jsonl
  cloudpose jobs fetch job-0199a5f2c1d87e9b8f6e3a1c5d2b4f60 -o out   writes out/results.jsonl, and the pictures if
                                                               they were wanted")]
    Fetch(Fetch),
    /// Print the key by which a tenant's callbacks are signed, for who receives them
    #[command(after_help = "Examples:
  openssl rand -base64 32 > callback-secret
  cloudpose serve --store jobs --callback-secret-file callback-secret
  cloudpose jobs callback-key --callback-secret-file callback-secret
  cloudpose jobs callback-key --callback-secret-file callback-secret --tenant acme")]
    CallbackKey(CallbackKey),
}

#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// Images (JPEG, PNG, WebP), videos (MP4), folders of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// What is wanted: pose, overlay (annotated pictures) or both
    #[arg(long, default_value = "pose", value_parser = ["pose", "overlay", "both"])]
    want: String,
    /// How pictures are drawn: overlay, skeleton or redacted [default: overlay]
    #[arg(long, value_name = "HOW")]
    draw: Option<Draw>,
    /// The model to run [default: as the server has it]
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::Other)]
    model: Option<ModelId>,
    /// Have this address called when the job is done
    #[arg(long, value_name = "URL")]
    callback: Option<Url>,
    /// Frames a second of videos that are looked at [default: all]
    #[arg(long, value_name = "N")]
    fps: Option<f64>,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// The job
    job: JobId,
    #[command(flatten)]
    server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Fetch {
    #[command(flatten)]
    one: One,
    /// Write results.jsonl and pictures into this folder
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CallbackKey {
    /// The secret that gateways have
    #[arg(long, env = "CLOUDPOSE_CALLBACK_SECRET_FILE", value_name = "FILE")]
    callback_secret_file: PathBuf,
    /// Whose jobs they are
    #[arg(long, default_value_t = Tenant::default())]
    tenant: Tenant,
}

/// What is read of how far a job is.
#[derive(Debug, Deserialize)]
struct Status {
    id: String,
    state: String,
    items: u64,
    done: u64,
    failed: u64,
    want: String,
}

/// What is read of a line of results.
#[derive(Debug, Deserialize)]
struct Line {
    item: u64,
    name: Option<String>,
    error: Option<Failure>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    detail: String,
}

/// Runs the command.
///
/// # Errors
/// If nothing is there to hand in, the server refuses or does not answer, the output cannot be written, or the secret not read.
pub(crate) async fn run(command: &Command) -> Result<()> {
    match command {
        Command::Submit(submit) => hand_in(submit).await,
        Command::Status(One { job, server }) => {
            let Status { id, state, items, done, failed, .. } = told(server, job).await?;
            println!("{id}: {state}, {done} of {items} done, {failed} failed");
            Ok(())
        }
        Command::Fetch(fetch) => fetch.run().await,
        Command::CallbackKey(CallbackKey { callback_secret_file, tenant }) => {
            let path = callback_secret_file.display();
            let secret = CallbackSecret::read(callback_secret_file);
            let secret = secret.map_err(|why| anyhow!("the secret in {path} cannot be used: {why}"))?;
            println!("{}", secret.of(tenant));
            Ok(())
        }
    }
}

/// The images become one job, and each video one of its own.
async fn hand_in(submit: &Submit) -> Result<()> {
    let files = detect::find(&submit.paths, &VIDEO_SUFFIXES)?;
    let is_video = |file: &&PathBuf| has_suffix(file, &VIDEO_SUFFIXES);
    let (videos, images): (Vec<&PathBuf>, Vec<&PathBuf>) = files.iter().partition(is_video);
    ensure!(submit.fps.is_none() || !videos.is_empty(), "--fps is for videos, and there is none");
    if !images.is_empty() {
        submit.images(&images).await?;
    }
    for video in videos {
        submit.video(video).await.with_context(|| shown(video))?;
    }
    Ok(())
}

impl Submit {
    fn path(&self, fps: Option<f64>) -> String {
        let mut query = vec![("want", self.want.clone())];
        query.extend(self.draw.map(|draw| ("draw", draw.to_string())));
        query.extend(self.model.as_ref().map(|model| ("model", model.to_string())));
        query.extend(fps.map(|fps| ("fps", fps.to_string())));
        query.extend(self.callback.as_ref().map(|url| ("callback", url.to_string())));
        let url = Url::parse_with_params("http://server/v1/jobs", query).expect("it is an address");
        format!("/v1/jobs?{}", url.query().unwrap_or_default())
    }

    async fn images(&self, files: &[&PathBuf]) -> Result<()> {
        let mut images = Vec::new();
        for file in files {
            let image = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
            images.push((name.unwrap_or_default(), Bytes::from(image)));
        }
        self.send(None, |request| {
            let form = images.iter().fold(Form::new(), |form, (name, image)| {
                let part = Part::stream_with_length(image.clone(), image.len() as u64);
                form.part("file", part.file_name(name.clone()))
            });
            request.multipart(form)
        })
        .await
    }

    /// Of a video a piece is in memory.
    async fn video(&self, path: &Path) -> Result<()> {
        let bytes =
            fs::metadata(path).and_then(|of| File::open(path).map(|_| of.len())).context("cannot read it")?;
        self.send(self.fps, |request| {
            // What a video is shows when it is looked at.
            request
                .header(CONTENT_TYPE, "video/mp4")
                .header(CONTENT_LENGTH, bytes)
                .body(pieces(path.to_owned()))
        })
        .await
    }

    /// Sends a job, and prints its name.
    async fn send(&self, fps: Option<f64>, with: impl Fn(RequestBuilder) -> RequestBuilder) -> Result<()> {
        // So that a request whose answer is lost can be sent again.
        let key = new_key();
        let with_key = |request: RequestBuilder| with(request).header("idempotency-key", &key);
        let response = self.server.send(Method::POST, &self.path(fps), with_key).await?;
        let job: Status = response.json().await.context("the server's answer is none")?;
        println!("{}", job.id);
        Ok(())
    }
}

/// A file, read as it is sent.
fn pieces(path: PathBuf) -> Body {
    enum At {
        Begin(PathBuf),
        Open(File),
    }
    let pieces = stream::try_unfold(At::Begin(path), async |at| {
        let mut file = match at {
            At::Begin(path) => File::open(path)?,
            At::Open(file) => file,
        };
        let mut piece = vec![0; PIECE];
        let read = file.read(&mut piece)?;
        piece.truncate(read);
        Ok::<_, io::Error>((read > 0).then(|| (Frame::data(Bytes::from(piece)), At::Open(file))))
    });
    Body::wrap(StreamBody::new(pieces))
}

/// A value that no other request has.
fn new_key() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    format!("{}-{}", std::process::id(), since.unwrap_or_default().as_nanos())
}

/// What the server says of a job.
async fn told(server: &Server, job: &JobId) -> Result<Status> {
    let response = server.get(&format!("/v1/jobs/{job}")).await?;
    response.json().await.context("the server's answer is none")
}

impl Fetch {
    async fn run(&self) -> Result<()> {
        let One { job, server } = &self.one;
        let status = self.wait().await?;
        let mut lines: Box<dyn std::io::Write> = match &self.output {
            None => Box::new(std::io::stdout().lock()),
            Some(folder) => {
                fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
                Box::new(create(&folder.join("results.jsonl"))?)
            }
        };
        let mut told = 0;
        while told < status.items {
            let text = server.get(&format!("/v1/jobs/{job}/results?after={told}")).await?.text().await?;
            ensure!(!text.is_empty(), "the server tells of {told} of {} images only", status.items);
            lines.write_all(text.as_bytes()).context("cannot write the results")?;
            for line in text.lines() {
                let line: Line = serde_json::from_str(line).context("the server's results are none")?;
                told = line.item;
                self.take(&line, &status).await?;
            }
        }
        lines.flush().context("cannot write the results")?;
        if status.failed > 0 {
            bail!("{} of {} images could not be done", status.failed, status.items);
        }
        Ok(())
    }

    /// Says what is wrong with an image, or fetches its picture.
    async fn take(&self, line: &Line, status: &Status) -> Result<()> {
        let name = line.name.as_deref().unwrap_or("image");
        if let Some(failure) = &line.error {
            eprintln!("{}. {}: {}", line.item, plain(name), plain(&failure.detail));
            return Ok(());
        }
        let Some(folder) = self.output.as_ref().filter(|_| status.want != "pose") else { return Ok(()) };
        let One { job, server } = &self.one;
        let picture =
            server.get(&format!("/v1/jobs/{job}/items/{}/overlay", line.item)).await?.bytes().await?;
        let target = folder.join(picture_name(line.item, name));
        create(&target)?.write_all(&picture).with_context(|| format!("cannot write {}", target.display()))
    }

    /// Waits until the job is done.
    async fn wait(&self) -> Result<Status> {
        let One { job, server } = &self.one;
        let bar = ProgressBar::hidden();
        loop {
            let status = told(server, job).await?;
            if bar.length().is_none() && std::io::stderr().is_terminal() {
                let style = ProgressStyle::with_template("{bar:30.cyan} {pos}/{len} {eta} left  {msg}");
                bar.set_style(style.expect("the template is a constant"));
                bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            }
            bar.set_length(status.items);
            bar.set_position(status.done);
            if status.failed > 0 {
                bar.set_message(format!("{} failed", status.failed));
            }
            if status.state == "done" {
                bar.finish_and_clear();
                return Ok(status);
            }
            sleep(LOOK).await;
        }
    }
}

/// What a picture is called: its number first, so that two of one name stay two; the rest comes from whoever handed it
/// in.
fn picture_name(item: u64, name: &str) -> String {
    let stem = Path::new(name).file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    let stem: String =
        stem.chars().map(|c| if c.is_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' }).collect();
    format!("{item:05}-{stem}.jpg")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_stay_in_their_folder_whatever_they_are_called() {
        for (name, file) in [
            ("a.jpg", "00007-a.jpg"),
            ("Tür 1.png", "00007-Tür_1.jpg"),
            ("../../etc/passwd", "00007-passwd.jpg"),
            ("..", "00007-.jpg"),
            ("a\nb\u{1b}[2J.jpg", "00007-a_b__2J.jpg"),
        ] {
            assert_eq!(picture_name(7, name), file, "{name:?}");
        }
    }
}
