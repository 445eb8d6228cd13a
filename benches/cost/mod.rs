//! What one process costs, as the kernel counted it.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Instant;

pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Seconds of wall time and of CPU, and the peak of resident memory in MB.
#[derive(Clone, Copy)]
pub struct Cost {
    pub wall: f64,
    pub cpu: f64,
    pub memory: f64,
}

/// Field by field.
pub fn median(costs: &[Cost]) -> Cost {
    let of = |field: fn(&Cost) -> f64| {
        let mut values: Vec<f64> = costs.iter().map(field).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Cost { wall: of(|c| c.wall), cpu: of(|c| c.cpu), memory: of(|c| c.memory) }
}

/// Runs a command to its end, whose exit status must be `code`.
pub fn measured(command: &mut Command, code: i32) -> Result<Cost, Error> {
    let began = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut said = String::new();
    child.stderr.take().ok_or("no pipe")?.read_to_string(&mut said)?;
    let (mut status, mut usage) = (0, unsafe { std::mem::zeroed::<libc::rusage>() });
    // SAFETY: both are ours and live; the child was not waited for yet. std does not tell what a child used.
    if unsafe { libc::wait4(child.id().cast_signed(), &mut status, 0, &mut usage) } < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let wall = began.elapsed().as_secs_f64();
    if !libc::WIFEXITED(status) || libc::WEXITSTATUS(status) != code {
        return Err(format!("{command:?}: wait status {status:#x}\n{said}").into());
    }
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    Ok(Cost { wall, cpu: seconds(usage.ru_utime) + seconds(usage.ru_stime), memory: usage.ru_maxrss as f64 / 1024.0 })
}
