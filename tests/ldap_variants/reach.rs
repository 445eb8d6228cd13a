//! Getting to the server: certificates, passwords, servers that are gone or hang.

use crate::slapd::*;
use nix::sys::signal::Signal;
use offboard::connector::Cx;
use offboard::model::*;
use std::time::Duration;

async fn open_fault(server: &Slapd, change: impl FnOnce(&mut offboard::connectors::ldap::Settings)) -> Fault {
    let mut settings = server.settings();
    change(&mut settings);
    let connector = server.connector_with(settings);
    match connector.open(&connector.places()[0], &cx()).await {
        Ok(_) => panic!("it opened"),
        Err(fault) => fault,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn starttls_ldaps_and_a_host_name_all_work() {
    let server = Slapd::start(&Variant::default());
    let mut settings = server.settings();
    settings.urls = vec![
        format!("ldap://127.0.0.1:{}", server.ldap),
        format!("ldaps://localhost:{}", server.ldaps),
        format!("ldap://localhost:{}", server.ldap),
    ];
    let connector = server.connector_with(settings);
    assert_eq!(connector.places().len(), 3);
    for place in connector.places() {
        connector.open(&place, &cx()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_ca_says_which_one_and_what_was_presented() {
    let server = Slapd::start(&Variant::default());
    certificates(server.folder.path(), "other");
    for url in [format!("ldaps://127.0.0.1:{}", server.ldaps), format!("ldap://127.0.0.1:{}", server.ldap)] {
        let fault = open_fault(&server, |s| {
            s.ca = "other-ca.pem".into();
            s.urls = vec![url];
        })
        .await;
        assert_eq!(fault.kind, FaultKind::Misconfigured, "{fault:?}");
        assert!(fault.because.as_ref().unwrap().contains("issued by \"CN=server test CA\""), "{fault:?}");
        assert!(fault.hint.as_ref().unwrap().contains("other-ca.pem"), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name_is_refused() {
    let server = Slapd::start(&Variant::default());
    let fault = open_fault(&server, |s| s.urls = vec![format!("ldaps://127.0.0.2:{}", server.ldaps)]).await;
    assert_eq!(fault.kind, FaultKind::Misconfigured, "{fault:?}");
    assert!(fault.hint.as_ref().unwrap().contains("valid for 127.0.0.2"), "{fault:?}");
}

/// Without TLS no password is sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_misconfigured() {
    let server = Slapd::start(&Variant { tls: false, ..Variant::default() });
    let fault = open_fault(&server, |s| s.urls = vec![format!("ldap://127.0.0.1:{}", server.ldap)]).await;
    assert_eq!(fault.kind, FaultKind::Misconfigured, "{fault:?}");
    assert!(fault.what.contains("StartTLS"), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_wrong_password_is_misconfigured() {
    let server = Slapd::start(&Variant::default());
    let fault = open_fault(&server, |s| s.password.file = Some("wrong".into())).await;
    assert_eq!(fault.kind, FaultKind::Misconfigured, "{fault:?}");
    assert!(!format!("{fault:?}").contains("something-else"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ldaps_to_a_plain_port_is_misconfigured_or_unreachable_but_never_open() {
    let server = Slapd::start(&Variant::default());
    let fault = open_fault(&server, |s| s.urls = vec![format!("ldaps://127.0.0.1:{}", server.ldap)]).await;
    assert!(matches!(fault.kind, FaultKind::Misconfigured | FaultKind::Unreachable), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_server_is_unproven_and_comes_back() {
    let server = Slapd::start(&Variant::default());
    let connector = server.connector();
    // Every door is waited for, so not for long; but a busy machine has to answer in that time, too.
    let patient = Cx { timeout: Duration::from_secs(5), ..cx() };
    let mut link = connector.open(&connector.places()[0], &patient).await.unwrap();
    let account = janes(link.as_mut()).await;
    let steps = steps(connector.as_ref(), &account, Action::Disable);
    link.apply(&steps, &cx()).await.remove(0).unwrap();
    server.signal(Signal::SIGSTOP);
    for look in link.look(&account.doors, true, &cx()).await {
        assert_eq!(look.verdict.word(), "unproven", "{look:?}");
    }
    let short = Cx { timeout: Duration::from_millis(300), ..cx() };
    let fault = match connector.open(&connector.places()[0], &short).await {
        Ok(_) => panic!("a stopped server answered"),
        Err(fault) => fault,
    };
    assert_eq!(fault.kind, FaultKind::Unreachable, "{fault:?}");
    server.signal(Signal::SIGCONT);
    let look = link.look(&door(&account, DoorKind::Password), true, &cx()).await.remove(0);
    assert_eq!(look.verdict.word(), "shut", "{look:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_is_unreachable_and_a_bad_control_proves_nothing() {
    let server = Slapd::start(&Variant::default());
    let mut settings = server.settings();
    settings.control.as_mut().unwrap().password.file = Some("wrong".into());
    let connector = server.connector_with(settings);
    let mut link = connector.open(&connector.places()[0], &cx()).await.unwrap();
    let account = janes(link.as_mut()).await;
    let steps = steps(connector.as_ref(), &account, Action::Disable);
    link.apply(&steps, &cx()).await.remove(0).unwrap();
    let look = link.look(&door(&account, DoorKind::Password), true, &cx()).await.remove(0);
    assert_eq!(look.verdict.word(), "unproven", "{look:?}");
    server.signal(Signal::SIGKILL);
    let outcome = link.apply(&steps, &cx()).await.remove(0);
    assert_eq!(outcome.unwrap_err().kind, FaultKind::Unreachable);
    for look in link.look(&account.doors, true, &cx()).await {
        assert_eq!(look.verdict.word(), "unproven", "{look:?}");
    }
}

/// A read-only replica sends changes to its provider. That server is not asked unless it is configured.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_replica_names_its_provider() {
    let more = "syncrepl rid=1 provider=ldap://127.0.0.1:1 searchbase=dc=sunrise,dc=test type=refreshOnly bindmethod=simple retry=\"60 +\"\n\
                updateref ldap://provider.example.com";
    let server = Slapd::start(&Variant { more, ..Variant::default() });
    let mut link = server.open().await;
    let account = janes(link.as_mut()).await;
    let lock = steps(server.connector().as_ref(), &account, Action::Disable);
    let fault = link.apply(&lock, &cx()).await.remove(0).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Misconfigured, "{fault:?}");
    assert!(fault.because.unwrap().contains("ldap://provider.example.com"));
    let mut settings = server.settings();
    settings.urls.push("ldaps://provider.example.com".into());
    let connector = server.connector_with(settings);
    let mut link = connector.open(&connector.places()[0], &cx()).await.unwrap();
    let fault = link.apply(&lock, &cx()).await.remove(0).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Busy, "the change will arrive here by replication: {fault:?}");
}
