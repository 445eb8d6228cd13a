//! The clocks' picture: a lane a system, slowest first, on a compressed scale. Numbers only; the template draws them.

use super::clocks::{SystemClock, whole_seconds};
use super::words::Tone;
use super::{Report, text};

/// Where the scale begins and how wide it is, in the picture's own units.
const LEFT: f64 = 184.0;
const WIDTH: f64 = 508.0;
const TOP: f64 = 34.0;
const LANE: f64 = 28.0;
const EDGE: f64 = 720.0;
/// More lanes than this say no more.
const MOST: usize = 8;

/// The picture.
#[derive(Debug)]
pub struct Lanes {
    /// Its height; it is 720 wide.
    pub height: String,
    /// Where the lanes end.
    pub bottom: String,
    /// The baseline of the axis' labels.
    pub axis: String,
    /// The grid's lines.
    pub grid: Vec<Tick>,
    /// The limit's line.
    pub limit: Option<Tick>,
    /// One a system.
    pub lanes: Vec<Lane>,
    /// How many systems have no lane of their own: they are better than every one that is shown.
    pub more: usize,
    /// Everything in words, for who cannot see it.
    pub desc: String,
}

/// A line of the grid.
#[derive(Debug)]
pub struct Tick {
    /// Where.
    pub x: String,
    /// What it says.
    pub label: String,
    /// On which side of the line the label stands: `start`, `middle` or `end`.
    pub anchor: &'static str,
    /// Where the label stands.
    pub label_x: String,
}

/// One system's line.
#[derive(Debug)]
pub struct Lane {
    /// The system, cut to fit.
    pub label: String,
    /// How it is seen.
    pub tone: Tone,
    /// The middle of the lane.
    pub y: String,
    /// The label's baseline.
    pub base: String,
    /// The mark's top.
    pub mark_y: String,
    /// The value's baseline.
    pub words: String,
    /// Where the bar of what outlives its door begins.
    pub bar_x: String,
    /// Its top.
    pub bar_y: String,
    /// The end stroke's bottom.
    pub bar_end: String,
    /// Where the line begins.
    pub from: String,
    /// Where it ends.
    pub to: String,
    /// The mark's left edge.
    pub mark_x: String,
    /// Where that bar ends, and how wide it is.
    pub residual: Option<(String, String)>,
    /// What is written beside the mark.
    pub value: String,
    /// Where.
    pub value_x: String,
    /// `start` or `end`.
    pub anchor: &'static str,
}

impl Lanes {
    /// The picture of `report`; nothing if no system had a door.
    pub fn of(report: &Report) -> Option<Self> {
        let clocks = &report.clocks;
        let since = |at| whole_seconds(clocks.from, at).max(0);
        let mut systems: Vec<&SystemClock> = clocks.systems.iter().filter(|s| s.doors > 0).collect();
        if systems.is_empty() {
            return None;
        }
        // Worst first: open, then not proved, then the slowest.
        systems.sort_by_key(|s| std::cmp::Reverse((s.open > 0, s.contained.is_none(), s.contained, s.residual_until)));
        let more = systems.len().saturating_sub(MOST);
        systems.truncate(MOST);
        let limit = clocks.limits.iter().find(|l| l.clock == Some("contained"));
        let unfinished = systems.iter().any(|s| s.contained.is_none());
        let latest = (systems.iter().flat_map(|s| [s.contained, s.residual_until]).flatten())
            .chain([clocks.proved, clocks.last_possible_access].into_iter().flatten())
            .chain(unfinished.then_some(report.made_at))
            .map(since)
            .chain(limit.map(|l| l.seconds))
            .max()
            .unwrap_or(0)
            .max(30);
        let scale = Scale { end: 1.1 * latest as f64 };
        let bottom = TOP + LANE * systems.len() as f64;
        let lanes: Vec<Lane> =
            systems.iter().enumerate().map(|(i, s)| lane(report, s, &scale, TOP + LANE * (i as f64 + 0.5))).collect();
        let names =
            systems.iter().zip(&lanes).map(|(s, lane)| format!("{}: {}.", text::cut(&s.system.0, 60), lane.value));
        let desc =
            names.chain(limit.map(|l| format!("Limit: {}.", text::span(l.seconds)))).collect::<Vec<_>>().join(" ");
        Some(Self {
            height: place(bottom + 30.0),
            bottom: place(bottom),
            axis: place(bottom + 20.0),
            grid: scale.grid(),
            limit: limit.map(|l| scale.tick(l.seconds, format!("limit {}", text::span(l.seconds)))),
            lanes,
            more,
            desc,
        })
    }
}

fn lane(report: &Report, system: &SystemClock, scale: &Scale, y: f64) -> Lane {
    let since = |at| whole_seconds(report.clocks.from, at).max(0);
    let tone = match system {
        s if s.open > 0 => Tone::Open,
        s if s.contained.is_none() || s.unproven > 0 => Tone::Unproven,
        _ => Tone::Shut,
    };
    let end = scale.x(since(system.contained.unwrap_or(report.made_at)));
    let residual = system.residual_until.map(|until| scale.x(since(until))).filter(|x| *x > end + 8.0);
    let mut value = match (tone, system.contained) {
        (Tone::Open, _) => "open".to_string(),
        (Tone::Shut, Some(at)) => text::span(since(at)),
        _ => "not proved".to_string(),
    };
    if let Some(until) = system.residual_until {
        value.push_str(&format!(", may work until {}", text::time_of_day(until, report.reader_zone())));
    }
    if system.residual_endless {
        value.push_str(", may work on");
    }
    // About 6.6 units a character at this size. Above a bar there is room on both sides of its end; without one, what does
    // not fit on the right stands on the left.
    let width = 6.6 * value.chars().count() as f64;
    let right = end + 13.0;
    let (value_x, anchor) = match residual {
        _ if right + width <= EDGE => (right, "start"),
        Some(until) => (until, "end"),
        None => (end - 12.0, "end"),
    };
    // The words stand beside the mark, or above the bar.
    let (words, bar) = if residual.is_some() { (y - 2.0, y + 1.0) } else { (y + 4.5, y) };
    let name = text::clean(&system.system.0);
    let label = if name.chars().count() > 22 {
        let chars: Vec<char> = name.chars().collect();
        chars[..10].iter().collect::<String>() + "…" + &chars[chars.len() - 11..].iter().collect::<String>()
    } else {
        name
    };
    Lane {
        label,
        tone,
        y: place(y),
        base: place(y + 4.5),
        mark_y: place(y - 7.0),
        words: place(words),
        bar_y: place(bar),
        bar_end: place(bar + 8.0),
        from: place(LEFT),
        to: place(end),
        mark_x: place(end - 7.0),
        residual: residual.map(|x| (place(x), place(x - end - 7.0))),
        bar_x: place(end + 7.0),
        value,
        value_x: place(value_x),
        anchor,
    }
}

/// Seconds to the right, compressed: a second and a day are both to be seen.
struct Scale {
    end: f64,
}

impl Scale {
    fn x(&self, seconds: i64) -> f64 {
        LEFT + WIDTH * (1.0 + seconds as f64 / 10.0).ln() / (1.0 + self.end / 10.0).ln()
    }

    fn tick(&self, seconds: i64, label: String) -> Tick {
        let x = self.x(seconds);
        let (anchor, label_x) = if x > 600.0 { ("end", x + 3.0) } else { ("middle", x) };
        Tick { x: place(x), label, anchor, label_x: place(label_x) }
    }

    fn grid(&self) -> Vec<Tick> {
        let marks = [
            (0, "0"),
            (10, "10 s"),
            (60, "1 min"),
            (600, "10 min"),
            (3_600, "1 h"),
            (14_400, "4 h"),
            (86_400, "24 h"),
            (604_800, "7 d"),
        ];
        let mut last = f64::NEG_INFINITY;
        let mut ticks = Vec::new();
        for (seconds, label) in marks {
            let x = self.x(seconds);
            if (seconds as f64) <= self.end && x - last >= 36.0 {
                last = x;
                let anchor = "middle";
                ticks.push(Tick { x: place(x), label: label.to_string(), anchor, label_x: place(x) });
            }
        }
        ticks
    }
}

fn place(x: f64) -> String {
    format!("{x:.1}")
}
