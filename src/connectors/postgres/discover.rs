//! The inventory, page by page in the order of object identifiers, so that a cluster of any size needs the memory of one page.
//!
//! Names are compared exactly: to PostgreSQL `Jane` and `jane` are two roles. A role that was renamed since the run first looked is
//! still found, since its object identifier is the same.

use super::comment::Said;
use super::findings;
use super::link::{BOOTSTRAP, PgLink};
use super::planted::{self, LISTED, Listed};
use super::role::{self, Role};
use crate::connector::Scope;
use crate::model::{Account, Fault};
use crate::wire::sql::Value;
use futures::stream::{self, BoxStream, StreamExt};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Every role at the first discovery of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// Object identifier and name.
    pub names: BTreeMap<i64, String>,
    /// Which of them could make roles.
    pub makers: BTreeSet<i64>,
}

/// Roles in one page.
const PAGE: i64 = 500;

/// Objects below this belong to the server itself: all but the bootstrap superuser are built-in roles, which nobody logs in as
/// (`FirstNormalObjectId`).
const FIRST_NORMAL: i64 = 16384;

/// By what roles are recognised.
#[derive(Debug, Default)]
pub struct Sought {
    /// Exact role names (user names, mail addresses, names that the configuration maps), and the employee numbers and mail addresses
    /// of whom they belong to.
    names: BTreeMap<String, BTreeSet<String>>,
    /// Employee numbers and mail addresses that a comment may carry.
    pub tokens: BTreeSet<String>,
    /// Employee numbers among them.
    ids: BTreeSet<String>,
}

impl Sought {
    fn of(link: &PgLink, scope: &Scope) -> Option<Self> {
        let Scope::People(people) = scope else { return None };
        let mut sought = Self::default();
        for wanted in people {
            let person = &wanted.person;
            let tokens: BTreeSet<String> = person.email.iter().chain([&person.id.0]).cloned().collect();
            let mapped = wanted.accounts.iter().filter(|(system, _)| *system == link.system).map(|(_, name)| name);
            for name in person.user_name.iter().chain(&person.email).chain(mapped) {
                sought.names.entry(name.clone()).or_default().extend(tokens.iter().cloned());
            }
            sought.tokens.extend(tokens);
            sought.ids.insert(person.id.0.clone());
        }
        Some(sought)
    }

    /// Whether a role is a sought person's, by its name or by what counts of its comment.
    fn has(&self, name: &str, said: &Said) -> bool {
        self.names.contains_key(name)
            || said.employee_number.iter().chain(&said.mails).any(|word| self.tokens.iter().any(|t| t.eq_ignore_ascii_case(word)))
    }
}

/// One walk through the roles.
struct Walk<'a> {
    link: &'a mut PgLink,
    sought: Option<Sought>,
    /// The last object identifier seen.
    after: i64,
    ready: VecDeque<Account>,
    /// Roles that may be in scope, for the findings at the end.
    seen: Vec<Role>,
    /// Those of them that are a sought person's.
    theirs: BTreeSet<i64>,
    /// What all roles were at the first look and what they are now, at a later look.
    since: Option<(Baseline, Vec<Listed>)>,
    /// What the roles were called when the run first looked, where it differs.
    renamed: BTreeMap<i64, String>,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Begins,
    Pages,
    Ended,
}

/// See [`crate::connector::Link::discover`].
pub fn discover<'a>(link: &'a mut PgLink, scope: &'a Scope) -> BoxStream<'a, Result<Account, Fault>> {
    let sought = Sought::of(link, scope);
    let walk = Walk {
        link,
        sought,
        after: 0,
        ready: VecDeque::new(),
        seen: Vec::new(),
        theirs: BTreeSet::new(),
        since: None,
        renamed: BTreeMap::new(),
        state: State::Begins,
    };
    stream::unfold(walk, |mut walk| async move { walk.next().await.map(|account| (account, walk)) }).boxed()
}

impl Walk<'_> {
    async fn next(&mut self) -> Option<Result<Account, Fault>> {
        loop {
            if let Some(account) = self.ready.pop_front() {
                return Some(Ok(account));
            }
            if self.state == State::Ended {
                return None;
            }
            if let Err(fault) = self.advance().await {
                self.state = State::Ended;
                return Some(Err(fault));
            }
        }
    }

    async fn advance(&mut self) -> Result<(), Fault> {
        if self.state == State::Begins {
            self.link.findings.clear();
            self.compare_with_baseline().await?;
            self.state = State::Pages;
        }
        let mut values = role::values(None);
        values.extend([Value::Int(self.after), Value::Int(FIRST_NORMAL), Value::Int(BOOTSTRAP), Value::Int(PAGE)]);
        let mut condition =
            String::from("r.oid > $3::bigint::oid AND (r.oid >= $4::bigint::oid OR r.oid = $5::bigint::oid)");
        if let Some(sought) = &self.sought {
            condition.push_str(
                " AND (r.rolname::text = ANY ($7::text[]) OR r.oid = ANY ($8::bigint[]::oid[]) OR EXISTS (
                    SELECT FROM unnest($9::text[]) t
                    WHERE position(lower(t) IN lower(shobj_description(r.oid, 'pg_authid'))) > 0))",
            );
            let renamed = self.renamed.iter().filter(|(_, name)| sought.names.contains_key(*name)).map(|(oid, _)| *oid);
            values.push(Value::Texts(sought.names.keys().cloned().collect()));
            values.push(Value::Ints(renamed.collect()));
            values.push(Value::Texts(sought.tokens.iter().cloned().collect()));
        }
        condition.push_str(" ORDER BY r.oid LIMIT $6::bigint");
        let sql = role::query(self.link.us.sees_passwords, &condition);
        let page: Vec<Role> =
            self.link.session.rows(sql, &values).await.map_err(|f| self.cannot(f, "list the roles"))?;
        match page.last() {
            Some(last) => self.after = last.oid,
            None => {
                self.state = State::Ended;
                if let Some(sought) = &self.sought {
                    findings::about(self.link, &self.seen, sought).await;
                    planted::given(self.link, &self.theirs).await;
                    if let Some((first, now)) = &self.since {
                        // The leaver's role may be gone by now.
                        let gone = first.names.iter().filter(|(_, name)| sought.names.contains_key(*name)).map(|(oid, _)| *oid);
                        let leavers = self.theirs.iter().copied().chain(gone).collect();
                        planted::appeared(self.link, first, now, &leavers, &self.theirs);
                    }
                }
                let seen = self.sought.as_ref().map(|_| self.seen.as_slice());
                findings::about_the_server(self.link, seen).await;
            }
        }
        for role in page {
            let account = self.account(&role);
            self.ready.push_back(account);
            if self.sought.is_some() {
                self.seen.push(role);
            }
        }
        Ok(())
    }

    /// The account that a role is. Where its name is a sought one, its comment may not make it somebody else's.
    fn account(&mut self, role: &Role) -> Account {
        let ids: Vec<&str> = self.sought.iter().flat_map(|s| s.ids.iter().map(String::as_str)).collect();
        let before = self.renamed.get(&role.oid).map(String::as_str);
        let mut said = role.said(&ids);
        if let Some(sought) = &self.sought {
            let name = before.unwrap_or(&role.name);
            let others = sought.names.get(name).map(|tokens| said.of_others(tokens)).unwrap_or_default();
            if !others.is_empty() {
                findings::comment_of_another(self.link, role, &others.join(", "));
                said = Said::default();
            }
            if sought.has(name, &said) {
                self.theirs.insert(role.oid);
            }
        }
        role.account(self.link, before, said)
    }

    /// What has been renamed, and what is new, since the run first looked. The first look becomes the baseline.
    async fn compare_with_baseline(&mut self) -> Result<(), Fault> {
        if self.sought.is_none() {
            return Ok(());
        }
        let now: Vec<Listed> = self
            .link
            .session
            .rows(LISTED, &[Value::Int(FIRST_NORMAL)])
            .await
            .map_err(|f| self.cannot(f, "list the roles"))?;
        let Some(first) = self.link.baseline.clone() else {
            let makers = now.iter().filter(|role| role.makes_roles).map(|role| role.oid).collect();
            let names = now.into_iter().map(|role| (role.oid, role.name)).collect();
            self.link.baseline = Some(Baseline { names, makers });
            return Ok(());
        };
        for role in &now {
            if let Some(before) = first.names.get(&role.oid).filter(|before| **before != role.name) {
                findings::renamed(self.link, before, &role.name);
                self.renamed.insert(role.oid, before.clone());
            }
        }
        self.since = Some((first, now));
        Ok(())
    }

    fn cannot(&self, failure: crate::wire::sql::Failure, what: &str) -> Fault {
        failure.into_fault(self.link.what(format!("{what} at {}", self.link.place.address)))
    }
}
