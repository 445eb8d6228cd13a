//! A script that stays running on the host and is called again and again: one login, one `sudo`, however much is to be done.
//!
//! Each call is framed by a number that only we know: what a login file or a stray command prints is not taken for an answer.

use super::client::Connection;
use super::printable;
use crate::model::{Fault, FaultKind};
use crate::wire::reach::{HostPort, Stream};
use russh::{Channel, ChannelMsg, client::Msg};
use std::time::Duration;

/// The longest line that is read, in bytes.
const MAX_LINE: usize = 1024 * 1024 + 4096;
/// How much of standard error is kept, in bytes.
const MAX_STDERR: usize = 4096;

/// How the script ended when it should not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Its exit status, if the host told.
    pub status: Option<u32>,
    /// The end of what it wrote to standard error, printable.
    pub stderr: String,
}

/// Why a call gave no answer.
#[derive(Debug)]
pub enum CallError {
    /// The script ended: no `sudo`, no `sh`, killed.
    Closed(Closed),
    /// No connection, no answer in time, or too much of it.
    Fault(Fault),
}

/// A running script.
pub struct Script {
    connection: Connection,
    channel: Channel<Msg>,
    target: String,
    timeout: Duration,
    buffer: Vec<u8>,
    stderr: Vec<u8>,
}

impl Script {
    pub(super) fn new(connection: Connection, channel: Channel<Msg>, target: String, timeout: Duration) -> Self {
        Self { connection, channel, target, timeout, buffer: Vec::new(), stderr: Vec::new() }
    }

    /// A connection that the host makes for us (RFC 4254, 7.2): sshd must let us (`AllowTcpForwarding`).
    ///
    /// # Errors
    /// Why there is none, a few words.
    pub async fn dial(&self, at: &HostPort) -> Result<impl Stream + use<>, String> {
        let channel =
            self.connection.handle.channel_open_direct_tcpip(at.host.as_str(), at.port.into(), "127.0.0.1", 0);
        let channel = tokio::time::timeout(self.timeout, channel).await;
        let channel = channel.map_err(|_| format!("silent for {} s", self.timeout.as_secs()))?;
        channel.map(Channel::into_stream).map_err(|error| match error {
            russh::Error::ChannelOpenFailure(russh::ChannelOpenFailure::AdministrativelyProhibited) => {
                "sshd there makes no connections for us (AllowTcpForwarding): ask with `by: here`, or by a `command`"
                    .into()
            }
            russh::Error::ChannelOpenFailure(_) => "the host gets no connection".into(),
            error => error.to_string(),
        })
    }

    /// Sends `text` framed by two `echo`s of a fresh number, and gives every line between them to `each`, without its newline.
    /// At most `most` bytes are read.
    ///
    /// # Errors
    /// See [`CallError`]. The script cannot be used any more after one.
    pub async fn call(
        &mut self,
        text: &str,
        most: usize,
        each: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<(), CallError> {
        let number = format!("{:032x}", rand::random::<u128>());
        let (begin, end) = (format!("+{number}"), format!("-{number}"));
        let framed = format!("echo '{begin}'\n{text}\necho '{end}'\n");
        let broken = |because: String| {
            CallError::Fault(
                Fault::new(FaultKind::Unreachable, format!("ssh {}: the connection broke", self.target))
                    .because(because),
            )
        };
        self.channel.data_bytes(framed.into_bytes()).await.map_err(|e| broken(e.to_string()))?;
        let mut read = 0;
        let mut begun = false;
        let mut status = None;
        loop {
            let Ok(message) = tokio::time::timeout(self.timeout, self.channel.wait()).await else {
                return Err(broken(format!("silent for {} s", self.timeout.as_secs())));
            };
            match message {
                Some(ChannelMsg::Data { data }) => {
                    read += data.len();
                    if read > most {
                        let too_much = format!("ssh {}: the host's answer is too long", self.target);
                        let fault =
                            Fault::new(FaultKind::Unexpected, too_much).because(format!("more than {most} bytes"));
                        return Err(fault.into());
                    }
                    self.buffer.extend_from_slice(&data);
                    let mut from = 0;
                    let mut finished = false;
                    while let Some(at) = self.buffer[from..].iter().position(|b| *b == b'\n') {
                        let line = &self.buffer[from..from + at];
                        if begun && line == end.as_bytes() {
                            finished = true;
                        } else if begun {
                            each(line);
                        } else if line.ends_with(begin.as_bytes()) {
                            begun = true;
                        }
                        from += at + 1;
                    }
                    self.buffer.drain(..from);
                    if finished {
                        return Ok(());
                    }
                    if self.buffer.len() > MAX_LINE {
                        let too_long = format!("ssh {}: the host's answer has a line that is too long", self.target);
                        return Err(Fault::new(FaultKind::Unexpected, too_long).into());
                    }
                }
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    self.stderr.extend_from_slice(&data);
                    let surplus = self.stderr.len().saturating_sub(MAX_STDERR);
                    self.stderr.drain(..surplus);
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => status = Some(exit_status),
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    self.stderr.extend_from_slice(format!(" killed by {signal_name:?}").as_bytes());
                }
                Some(_) => {}
                None if status.is_none() && self.connection.handle.is_closed() => {
                    return Err(broken(self.connection.end()));
                }
                None => {
                    let stderr = printable(String::from_utf8_lossy(&self.stderr).trim(), 600);
                    return Err(CallError::Closed(Closed { status, stderr }));
                }
            }
        }
    }
}
