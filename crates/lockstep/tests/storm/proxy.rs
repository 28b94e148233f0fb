//! A TCP proxy with faults: between the hub and a receiver, as networks and servers are on a bad day.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What goes wrong. The first two happen to requests, the others to answers: then the receiver has taken it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The connection is reset before the request gets through.
    ResetRequest,
    /// 500 to this request and the next ones, none of which gets through.
    Burst,
    /// The answer takes longer.
    Latency,
    /// The answer is lost, and the connection stays open.
    HalfOpen,
    /// The answer is lost by a reset.
    ResetAnswer,
    /// The answer's body comes byte by byte.
    SlowBody,
    /// The answer promises more than it has.
    WrongLength,
}

pub(crate) const FAULTS: [Fault; 7] = [
    Fault::ResetRequest,
    Fault::Burst,
    Fault::Latency,
    Fault::HalfOpen,
    Fault::ResetAnswer,
    Fault::SlowBody,
    Fault::WrongLength,
];

/// What all proxies share.
#[derive(Default)]
pub(crate) struct Weather {
    /// Whether anything goes wrong.
    pub(crate) is_bad: AtomicBool,
    /// How often each went wrong, as in [`FAULTS`].
    pub(crate) counts: [AtomicU64; FAULTS.len()],
}

impl Weather {
    /// What goes wrong with this one, if anything.
    fn draw(&self, of: &[Fault], percent: u32) -> Option<Fault> {
        if !self.is_bad.load(Ordering::Relaxed) || fastrand::u32(..100) >= percent {
            return None;
        }
        let fault = of[fastrand::usize(..of.len())];
        self.counts[fault as usize].fetch_add(1, Ordering::Relaxed);
        Some(fault)
    }
}

struct Proxy {
    upstream: SocketAddr,
    weather: Arc<Weather>,
    /// Requests that get 500 still.
    burst: AtomicU64,
}

/// Starts a proxy before a receiver.
pub(crate) async fn start(upstream: SocketAddr, weather: Arc<Weather>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = Arc::new(Proxy { upstream, weather, burst: AtomicU64::new(0) });
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let proxy = proxy.clone();
            // A connection that breaks, as many do here, ends its task.
            tokio::spawn(async move { proxy.serve(client).await });
        }
    });
    address
}

fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
}

impl Proxy {
    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        let mut server = TcpStream::connect(self.upstream).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        // Whether what comes from the client begins a request: its body may come in parts.
        let mut begins = true;
        loop {
            tokio::select! {
                read = client.read(&mut asked) => {
                    let request = &asked[..read?];
                    if request.is_empty() {
                        return Ok(());
                    }
                    if begins && self.bursts() {
                        return self.refuse(client).await;
                    }
                    if begins {
                        match self.weather.draw(&FAULTS[..2], 4) {
                            Some(Fault::Burst) => {
                                self.burst.fetch_add(fastrand::u64(3..30), Ordering::Relaxed);
                                return self.refuse(client).await;
                            }
                            Some(_) => {
                                reset(client);
                                return Ok(());
                            }
                            None => {}
                        }
                    }
                    begins = false;
                    server.write_all(request).await?;
                }
                read = server.read(&mut answered) => {
                    let answer = &answered[..read?];
                    if answer.is_empty() {
                        return Ok(());
                    }
                    begins = true;
                    if !self.answer(&mut client, answer).await? {
                        reset(client);
                        return Ok(());
                    }
                }
            }
        }
    }

    fn bursts(&self) -> bool {
        self.burst.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// 500, whatever the request is.
    async fn refuse(&self, mut client: TcpStream) -> io::Result<()> {
        client.write_all(b"HTTP/1.1 500 Out Of Order\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await?;
        client.shutdown().await?;
        let mut rest = [0; 4_096];
        while client.read(&mut rest).await? > 0 {}
        Ok(())
    }

    /// Gives an answer on; `false` where the connection is to be reset.
    async fn answer(&self, client: &mut TcpStream, answer: &[u8]) -> io::Result<bool> {
        match self.weather.draw(&FAULTS[2..], 6) {
            Some(Fault::Latency) => {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(5..80))).await;
                client.write_all(answer).await?;
            }
            Some(Fault::HalfOpen) => {
                // Nothing more, until the hub has lost its patience.
                let mut rest = [0; 4_096];
                while client.read(&mut rest).await? > 0 {}
                return Ok(false);
            }
            Some(Fault::ResetAnswer) => return Ok(false),
            Some(Fault::SlowBody) => {
                let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(0, |at| at + 4);
                client.write_all(&answer[..head]).await?;
                for byte in &answer[head..] {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    client.write_all(&[*byte]).await?;
                }
            }
            Some(Fault::WrongLength) => {
                let text = String::from_utf8_lossy(answer).replace("content-length: 1", "content-length: 99");
                client.write_all(text.as_bytes()).await?;
                client.shutdown().await?;
                return Ok(false);
            }
            Some(Fault::ResetRequest | Fault::Burst) | None => client.write_all(answer).await?,
        }
        Ok(true)
    }
}
