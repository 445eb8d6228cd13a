//! Leavers who have prepared another way in: a login of their own making, or a comment that names a colleague.

use super::*;
use offboard::model::FindingKind;

async fn again(connector: &Arc<dyn Connector>, link: &dyn Link) -> Box<dyn Link> {
    let cx = Cx { baseline: link.baseline(), ..cx() };
    connector.open(&connector.places()[0], &cx).await.unwrap()
}

fn about<'a>(findings: &'a [Finding], words: &str) -> Vec<&'a Finding> {
    findings.iter().filter(|f| f.what.contains(words)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_the_leaver_let_in_before_the_run_is_one_finding() {
    let cluster = shared();
    cluster.admin("CREATE ROLE let_rw; CREATE ROLE let_ro; CREATE ROLE let_jane LOGIN CREATEROLE PASSWORD 'p'; CREATE ROLE let_other LOGIN IN ROLE let_rw");
    let mut online = cluster.online("let_jane", "p");
    online.ask("CREATE ROLE let_helper LOGIN PASSWORD 'h' IN ROLE let_rw, let_ro; SELECT 1");
    let connector = operator(&cluster, "let_operator", "SUPERUSER");
    online.ask("GRANT let_rw TO let_operator; SELECT 1");
    let mut link = open(&connector).await.unwrap();
    assert_eq!(find(&mut *link, "let_jane").await.len(), 1, "a role that may be the leaver's is not acted on");
    let findings = link.findings();
    let may = about(&findings, "may be the leaver's");
    assert_eq!(may.len(), 1, "{findings:?}");
    assert_eq!(may[0].kind, FindingKind::Suspicious);
    let granted = "role \"let_helper\" was granted let_ro by let_jane and was granted let_rw by let_jane";
    assert!(may[0].what.starts_with("1 role(s)") && may[0].what.contains(granted), "{may:?}");
    assert!(may[0].hint.contains("map it under accounts: in offboard.yaml, then resume"), "{may:?}");
    for n in 0..11 {
        online.ask(&format!("CREATE ROLE let_more{n} LOGIN IN ROLE let_rw; SELECT 1"));
    }
    find(&mut *link, "let_jane").await;
    let findings = link.findings();
    let may = about(&findings, "may be the leaver's");
    assert!(may[0].what.starts_with("12 role(s)") && may[0].what.ends_with("and 2 more"), "{may:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_appear_are_unknown_only_where_the_leaver_could_make_them() {
    let cluster = shared();
    cluster.admin("CREATE ROLE new_makers CREATEROLE; CREATE ROLE new_plain LOGIN PASSWORD 'p'; CREATE ROLE new_had LOGIN CREATEROLE PASSWORD 'p';
        CREATE ROLE new_by_way LOGIN PASSWORD 'p' IN ROLE new_makers");
    let connector = operator(&cluster, "new_operator", "SUPERUSER");
    for (leaver, kind) in [
        ("new_plain", FindingKind::Suspicious),
        ("new_had", FindingKind::Unknown),
        ("new_by_way", FindingKind::Unknown),
    ] {
        let mut link = open(&connector).await.unwrap();
        find(&mut *link, leaver).await;
        let first = link.findings();
        assert!(about(&first, "created during the run").is_empty(), "{first:?}");
        for n in 0..12 {
            cluster.admin(&format!("CREATE ROLE {leaver}_y{n} LOGIN"));
        }
        // The right to make roles is gone by now; it was there when the run began.
        cluster.admin(&format!("ALTER ROLE {leaver} NOCREATEROLE NOLOGIN"));
        let mut link = again(&connector, &*link).await;
        find(&mut *link, leaver).await;
        let findings = link.findings();
        let new: Vec<_> = about(&findings, "created during the run").into_iter().filter(|f| f.kind == kind).collect();
        assert_eq!(new.len(), 1, "{leaver}: {findings:?}");
        assert!(
            new[0].what.contains(" roles were created during the run: \"") && new[0].what.contains(" more"),
            "{new:?}"
        );
        if kind == FindingKind::Suspicious {
            assert!(findings.iter().all(|f| f.kind != FindingKind::Unknown), "{findings:?}");
        }
    }
}

/// A leaver with CREATEROLE whose new logins have been disabled is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_appeared_and_is_disabled_is_no_longer_unknown() {
    let cluster = Cluster::start(&[]);
    cluster.admin("CREATE ROLE off_jane LOGIN CREATEROLE PASSWORD 'p'");
    let connector = operator(&cluster, "off_operator", "SUPERUSER");
    let mut link = open(&connector).await.unwrap();
    find(&mut *link, "off_jane").await;
    cluster.admin("CREATE ROLE off_new LOGIN");
    for (kind, disable) in [(FindingKind::Unknown, true), (FindingKind::Suspicious, false)] {
        let mut link = again(&connector, &*link).await;
        find(&mut *link, "off_jane").await;
        let findings = link.findings();
        let new = about(&findings, "1 role was created during the run: \"off_new\"");
        assert!(new.len() == 1 && new[0].kind == kind, "{findings:?}");
        if disable {
            cluster.admin("ALTER ROLE off_new NOLOGIN");
        }
    }
}

/// Whoever owns a role may write its comment (before PostgreSQL 16: anybody with CREATEROLE).
#[tokio::test(flavor = "multi_thread")]
async fn a_comment_does_not_outweigh_the_name() {
    // These comments would count in every other test.
    let cluster = Cluster::start(&[]);
    cluster.admin("CREATE ROLE cmt_jane LOGIN CREATEROLE PASSWORD 'p'; CREATE ROLE cmt_dba LOGIN; CREATE ROLE cmt_own LOGIN;
        COMMENT ON ROLE cmt_dba IS 'employee: E1042'; COMMENT ON ROLE cmt_own IS 'employee: E1042; mail: Jane.Roe@example.com'");
    let connector = operator(&cluster, "cmt_operator", "SUPERUSER");
    let mut online = cluster.online("cmt_jane", "p");
    let mut link = open(&connector).await.unwrap();
    for comment in ["employee: E1043", "john.doe@example.com", "employee: E1042; mail: john.doe@example.com"] {
        online.ask(&format!("COMMENT ON ROLE cmt_jane IS '{comment}'; SELECT 1"));
        let found = find(&mut *link, "cmt_jane").await;
        let jane = found.iter().find(|a| a.name == "cmt_jane").unwrap();
        assert_eq!(jane.identity.user_name.as_deref(), Some("cmt_jane"));
        assert_eq!((&jane.identity.employee_number, jane.identity.mails.len()), (&None, 0), "{comment}");
        let findings = link.findings();
        let other = about(&findings, "the comment on role \"cmt_jane\" names somebody else");
        assert!(other.len() == 1 && other[0].kind == FindingKind::Suspicious, "{comment}: {findings:?}");
        // Where no name speaks against it the comment counts.
        let dba = found.iter().find(|a| a.name == "cmt_dba").unwrap();
        assert_eq!(dba.identity.employee_number.as_deref(), Some("E1042"));
    }
    let found = find(&mut *link, "cmt_own").await;
    let own = found.iter().find(|a| a.name == "cmt_own").unwrap();
    assert_eq!(own.identity.employee_number.as_deref(), Some("E1042"));
    assert!(about(&link.findings(), "names somebody else").is_empty());
}
