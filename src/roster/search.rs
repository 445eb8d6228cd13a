//! Finds the one person that an operator means.

use super::{Roster, folded, lookalike};
use crate::model::Person;
use crate::source::{Mistake, Mistakes, printable};

/// How many candidates are listed.
const SHOWN: usize = 10;

impl Roster {
    /// The person whose identifier, mail address or user name is `query`, exactly but for the case of ASCII letters. A name is not
    /// enough: two people may have it, and the wrong one of them would be locked out.
    ///
    /// # Errors
    /// Nobody, or several people; with the candidates.
    pub fn find(&self, query: &str) -> Result<&Person, Mistakes> {
        let query = query.trim();
        let mut found: Vec<&Person> = Vec::new();
        for person in [self.get(query), self.by_mail(query), self.by_user_name(query)].into_iter().flatten() {
            if !found.iter().any(|known| known.id == person.id) {
                found.push(person);
            }
        }
        match found.as_slice() {
            [one] => return Ok(one),
            [] => {}
            several => {
                return Err(listed(Mistake::error("roster", format!("`{query}` means several people")), several)
                    .help("give the identifier of the one you mean, or their mail address")
                    .into());
            }
        }
        let candidates = self.candidates(query);
        let mistake = if candidates.iter().any(|person| folded(&person.name) == folded(query)) {
            Mistake::error("roster", format!("a name is not enough: `{query}`"))
        } else {
            Mistake::error("roster", format!("nobody in the roster is `{query}`"))
        };
        let help = match candidates.as_slice() {
            [] => format!(
                "give an identifier, a mail address or a user name from {}, in full",
                printable(&self.input().file)
            ),
            [one] => format!("if you mean {}, say: {}", one.name, one.id),
            _ => "give the identifier of the one you mean, or their mail address".to_string(),
        };
        Err(listed(mistake, &candidates).help(help).into())
    }

    /// People whom `query` may mean: a part of the name, or something that looks like what was written.
    fn candidates(&self, query: &str) -> Vec<&Person> {
        let wanted = lookalike::appearance(query);
        if wanted.chars().count() < 2 || wanted.chars().count() > 200 {
            return Vec::new();
        }
        let like = |text: Option<&str>| text.is_some_and(|text| lookalike::appearance(text).contains(&wanted));
        self.people()
            .iter()
            .filter(|person| {
                like(Some(&person.name))
                    || like(Some(&person.id.0))
                    || like(person.email.as_deref())
                    || like(person.user_name.as_deref())
            })
            .collect()
    }
}

fn listed(mistake: Mistake, people: &[&Person]) -> Mistake {
    let mut mistake = people.iter().take(SHOWN).fold(mistake, |mistake, person| {
        let details = [&person.email, &person.user_name, &person.department];
        let details: Vec<&str> = details.into_iter().flatten().map(String::as_str).collect();
        mistake.note(format!("{}  {}  {}", person.id, person.name, details.join(", ")).trim_end())
    });
    if people.len() > SHOWN {
        mistake = mistake.note(format!("and {} more", people.len() - SHOWN));
    }
    mistake
}
