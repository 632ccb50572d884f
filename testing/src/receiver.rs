//! A receiver of callbacks: an HTTP server that keeps what it is sent, and answers as it is told.

use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// A status. One that redirects leads to `/elsewhere`.
    Status(u16),
    /// Nothing.
    Silence,
    /// 200, and a body that does not end.
    Flood,
}

/// What was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// As it stands in the request.
    pub path: String,
    /// By their names, in small letters.
    pub headers: BTreeMap<String, String>,
    /// Whole.
    pub body: Vec<u8>,
    /// What was answered.
    pub reply: Reply,
}

/// A receiver, as long as the test's process is there.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    calls: Mutex<Vec<Call>>,
    /// By path; 200 where there is none.
    replies: Mutex<HashMap<String, Reply>>,
}

impl Receiver {
    /// Starts one on a free port of this machine.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, shared) = (listener.local_addr().unwrap(), Arc::<Shared>::default());
        let heard = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let heard = Arc::clone(&heard);
                // Who breaks a connection off hears no answer.
                thread::spawn(move || heard.hear(stream).ok());
            }
        });
        Self { address, shared }
    }

    /// Where one of its paths is.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What is answered at a path from now on.
    pub fn answer(&self, path: &str, reply: Reply) {
        self.shared.replies.lock().unwrap().insert(path.to_owned(), reply);
    }

    /// What was sent to a path, in order.
    pub fn calls(&self, path: &str) -> Vec<Call> {
        self.shared.calls.lock().unwrap().iter().filter(|call| call.path == path).cloned().collect()
    }
}

impl Shared {
    fn hear(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let reply = self.replies.lock().unwrap().get(&path).copied().unwrap_or(Reply::Status(200));
        self.calls.lock().unwrap().push(Call { path, headers, body, reply });
        let mut writer = stream;
        match reply {
            Reply::Status(status) => write!(
                writer,
                "HTTP/1.1 {status} \r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            ),
            Reply::Silence => reader.read_to_end(&mut Vec::new()).map(drop),
            Reply::Flood => {
                write!(writer, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
                loop {
                    writer.write_all(&[b'x'; 4096])?;
                }
            }
        }
    }
}
