//! A mistake in what people wrote, rendered the way compilers do: what is wrong, where, what is valid, what to do.

use super::Spot;
use crate::model::Fault;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use std::fmt::Write;

/// Whether the input can be used at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, but somebody should look at it.
    Warning,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Whether the input can be used in spite of it.
    pub severity: Severity,
    /// Which room says so: `config`, `playbook`, `roster`.
    pub room: String,
    /// What is wrong, half a sentence.
    pub title: String,
    /// Where: the first is the place itself, others explain it.
    pub spots: Vec<Spot>,
    /// More about it: the other side's words, candidates.
    pub notes: Vec<String>,
    /// What is valid, what to do next.
    pub help: Vec<String>,
}

impl Mistake {
    /// The input cannot be used.
    pub fn error(room: impl Into<String>, title: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            room: room.into(),
            title: title.into(),
            spots: Vec::new(),
            notes: Vec::new(),
            help: Vec::new(),
        }
    }

    /// The input can be used, but somebody should look at it.
    pub fn warning(room: impl Into<String>, title: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(room, title) }
    }

    /// Adds a place.
    #[must_use]
    pub fn spot(mut self, spot: Spot) -> Self {
        self.spots.push(spot);
        self
    }

    /// Adds something to know.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// The whole message, of several lines, the last one without a line feed. In colour (ANSI) if the reader is a terminal.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut title = shown(&self.title);
        // The column of a line that is shown in part is not the column of what is shown.
        let whole = self.spots.iter().all(|spot| spot.cut == 0);
        if let Some(first) = self.spots.first().filter(|_| !whole) {
            title = format!("{title} ({}:{}:{})", first.file, first.line, first.column);
        }
        let head = level.primary_title(title).id(&self.room);
        if self.spots.is_empty() {
            let mut message = renderer.render(&[Group::with_title(head)]);
            let hints = self.help.iter().map(|help| format!("hint: {help}"));
            for line in self.notes.iter().cloned().chain(hints) {
                let _ = write!(message, "\n  {}", shown(&line));
            }
            return message;
        }
        let mut group = Group::with_title(head);
        for (at, spot) in self.spots.iter().enumerate() {
            let kind = if at == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            let label = Some(shown(&spot.label)).filter(|label| !label.is_empty());
            let mark: Annotation = kind.span(spot.span.clone()).label(label);
            let path = whole.then_some(spot.file.as_str());
            group = group.element(Snippet::source(&spot.shown).line_start(spot.line).path(path).annotation(mark));
        }
        let notes = self.notes.iter().map(|note| Level::NOTE.message(shown(note)));
        let help = self.help.iter().map(|help| Level::HELP.message(shown(help)));
        renderer.render(&[group.elements(notes).elements(help)])
    }
}

/// What is wrong with an input: never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(Vec<Mistake>);

/// How many mistakes are shown; a file of the wrong kind has one a line.
const SHOWN: usize = 20;

impl Mistakes {
    /// All of `found` as an error if one of them is an error; otherwise the warnings are handed back.
    ///
    /// # Errors
    /// `found` itself.
    pub fn unless_usable(found: Vec<Mistake>) -> Result<Vec<Mistake>, Self> {
        if found.iter().any(|mistake| mistake.severity == Severity::Error) { Err(Self(found)) } else { Ok(found) }
    }

    /// Every mistake, in the order of the file.
    pub fn all(&self) -> &[Mistake] {
        &self.0
    }

    /// The whole message; see [`Mistake::render`].
    pub fn render(&self, color: bool) -> String {
        let mut shown: Vec<String> = self.0.iter().take(SHOWN).map(|mistake| mistake.render(color)).collect();
        if self.0.len() > SHOWN {
            shown.push(format!("and {} more", self.0.len() - SHOWN));
        }
        shown.join("\n\n")
    }
}

impl std::fmt::Display for Mistakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Mistakes {}

impl From<Mistake> for Mistakes {
    fn from(mistake: Mistake) -> Self {
        Self(vec![mistake])
    }
}

impl From<Fault> for Mistakes {
    fn from(fault: Fault) -> Self {
        let mut mistake = Mistake::error(fault.kind.to_string(), fault.what);
        mistake.notes.extend(fault.because.map(|because| format!("because: {because}")));
        mistake.help.extend(fault.hint);
        mistake.into()
    }
}

/// `text` as it may stand in a message: printable, and not endless.
fn shown(text: &str) -> String {
    const LONGEST: usize = 600;
    let mut shown: String = super::printable(text).chars().take(LONGEST).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
