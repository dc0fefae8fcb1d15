//! Ranges of settings and the relations between them.

use sentry::types::Dsn;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::layers::Invalid;
use super::{Config, Kubernetes, Sentry, StoreUrl};

pub(super) fn check(config: &Config) -> Result<(), Invalid> {
    let Config { server, admin, store, cluster, auth, attachments, encryption, limits, log, .. } = config;
    outgoing(config)?;
    encryption.ring()?;
    range("server.shutdown_s", server.shutdown_s, 1, 3_600)?;
    range("server.workers", server.workers as u64, 0, 1_024)?;
    if server.bind == admin.bind && server.bind.port() != 0 {
        return Err(Invalid::new(
            "admin.bind",
            &admin.bind.to_string(),
            "another address or port than server.bind: the admin listener is not for clients",
        ));
    }
    edge(config)?;
    range("store.connections", store.connections as u64, 2, 1_000)?;
    if !cluster.redis_url.is_empty() && matches!(store.url, StoreUrl::Sqlite(_)) {
        let url = cluster.redis_url.urls().collect::<Vec<_>>().join(",");
        return Err(Invalid::new(
            "cluster.redis_url",
            &url,
            "empty while store.url is sqlite: a cluster needs postgres, which all of its nodes reach",
        ));
    }
    let named = (1..=64).contains(&cluster.name.len())
        && cluster.name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if !named {
        return Err(Invalid::new("cluster.name", &cluster.name, "1 to 64 of A–Z a–z 0–9 . _ -"));
    }
    range("cluster.lease_ms", cluster.lease_ms, 300, 60_000)?;
    range("cluster.rebalance_per_minute", u64::from(cluster.rebalance_per_minute), 0, 1_000_000)?;
    range("auth.session_days", u64::from(auth.session_days), 1, 3_650)?;
    range("attachments.max_bytes", attachments.max_bytes, 1, 5 * 1024 * 1024 * 1024)?;
    if attachments.per_user_bytes > 0 && attachments.per_user_bytes < attachments.max_bytes {
        return Err(Invalid::new(
            "attachments.per_user_bytes",
            &attachments.per_user_bytes.to_string(),
            &format!("0, or at least attachments.max_bytes ({})", attachments.max_bytes),
        ));
    }
    range("attachments.per_user_bytes", attachments.per_user_bytes, 0, 1 << 53)?;
    range("attachments.unreferenced_s", attachments.unreferenced_s, 1, 30 * 86_400)?;
    range("attachments.link_s", attachments.link_s, 1, 7 * 86_400)?;
    let secret = attachments.secret.expose();
    if !secret.is_empty() && secret.len() < 32 {
        return Err(Invalid::new("attachments.secret", secret, "empty, or at least 32 bytes"));
    }
    if limits.messages_per_minute > 0 {
        range("limits.messages_burst", u64::from(limits.messages_burst), 1, u64::from(u32::MAX))?;
    }
    range("limits.frame_bytes", limits.frame_bytes as u64, 1_024, 16 * 1024 * 1024)?;
    if limits.outbound_bytes < limits.frame_bytes {
        return Err(Invalid::new(
            "limits.outbound_bytes",
            &limits.outbound_bytes.to_string(),
            &format!("at least limits.frame_bytes ({})", limits.frame_bytes),
        ));
    }
    range("limits.outbound_bytes", limits.outbound_bytes as u64, 1_024, 1024 * 1024 * 1024)?;
    range("limits.stall_s", limits.stall_s, 1, 86_400)?;
    range("limits.inflight", limits.inflight as u64, 1, 65_536)?;
    range("limits.subscriptions", limits.subscriptions as u64, 1, 1_000_000)?;
    range("limits.replay", limits.replay, 0, 10_000_000)?;
    // The filter takes any word for a target, and a misspelt level would silence the log.
    let levelled =
        |part: &str| part.contains(['=', '[']) || !part.trim().is_empty() && part.trim().parse::<LevelFilter>().is_ok();
    if !log.level.split(',').all(levelled) || EnvFilter::try_new(&log.level).is_err() {
        return Err(Invalid::new(
            "log.level",
            &log.level,
            "off, error, warn, info, debug, trace, or such with targets: info,roundtable=debug",
        ));
    }
    pod(&config.kubernetes)?;
    config.traces.check()?;
    reports(&config.sentry)
}

/// What Kubernetes knows this node by.
fn pod(kubernetes: &Kubernetes) -> Result<(), Invalid> {
    let name = &kubernetes.pod_name;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    if name.len() > 253 || !name.bytes().all(plain) {
        return Err(Invalid::new(
            "kubernetes.pod_name",
            name,
            "empty, or the name of a pod: at most 253 of a–z 0–9 - .",
        ));
    }
    if kubernetes.account_folder.is_empty() {
        return Err(Invalid::new("kubernetes.account_folder", "", "a folder"));
    }
    Ok(())
}

/// Error reports.
fn reports(sentry: &Sentry) -> Result<(), Invalid> {
    let dsn = sentry.dsn.expose();
    if !dsn.is_empty() && dsn.parse::<Dsn>().is_err() {
        return Err(Invalid::new("sentry.dsn", dsn, "empty, or a DSN: https://KEY@HOST/PROJECT"));
    }
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
    if !(1..=64).contains(&sentry.environment.len()) || !sentry.environment.bytes().all(plain) {
        let allowed = "1 to 64 letters, digits and signs, without spaces and slashes";
        return Err(Invalid::new("sentry.environment", &sentry.environment, allowed));
    }
    range("sentry.events_per_minute", u64::from(sentry.events_per_minute), 1, 100_000)
}

/// Hooks and webhooks.
fn outgoing(config: &Config) -> Result<(), Invalid> {
    let (ask, tell) = (&config.hooks.before_send, &config.webhooks);
    range("hooks.before_send.deadline_ms", ask.deadline_ms, 10, 5_000)?;
    range("hooks.before_send.inflight", ask.inflight as u64, 1, 65_536)?;
    range("webhooks.attempts", u64::from(tell.attempts), 1, 1_000)?;
    range("webhooks.backoff_ms", tell.backoff_ms, 10, 3_600_000)?;
    range("webhooks.backoff_max_ms", tell.backoff_max_ms, tell.backoff_ms, 86_400_000)?;
    range("webhooks.timeout_ms", tell.timeout_ms, 100, 15_000)?;
    range("webhooks.inflight", tell.inflight as u64, 1, 4_096)
}

/// TLS, the listener that redirects to it, and login elsewhere.
fn edge(config: &Config) -> Result<(), Invalid> {
    let (server, oidc) = (&config.server, &config.auth.oidc);
    let alone =
        |key, value: &str, other| Err(Invalid::new(key, value, &format!("given together with {other}, or empty")));
    match (server.tls.cert_file.is_empty(), server.tls.key_file.is_empty()) {
        (false, true) => return alone("server.tls.cert_file", &server.tls.cert_file, "server.tls.key_file"),
        (true, false) => return alone("server.tls.key_file", &server.tls.key_file, "server.tls.cert_file"),
        _ => {}
    }
    if let Some(address) = server.redirect_bind.0 {
        let wrong = |allowed| Err(Invalid::new("server.redirect_bind", &address.to_string(), allowed));
        if !server.tls.enabled() && server.public_url.as_str().is_empty() {
            return wrong("empty without server.tls.cert_file or server.public_url: there is no https to redirect to");
        }
        if address.port() != 0 && (address == server.bind || address == config.admin.bind) {
            return wrong("another address or port than server.bind and admin.bind");
        }
    }
    if !oidc.enabled() {
        return Ok(());
    }
    for (key, value) in [("auth.oidc.issuer", &oidc.issuer), ("auth.oidc.redirect_url", &oidc.redirect_url)] {
        if !(value.is_empty() || safe_url(value)) {
            return Err(Invalid::new(key, value, "an https:// URL, or http:// on this machine to try things out"));
        }
    }
    if oidc.client_id.is_empty() {
        return Err(Invalid::new("auth.oidc.client_id", "", "given together with auth.oidc.issuer"));
    }
    if oidc.client_secret.is_empty() {
        let allowed = "given together with auth.oidc.issuer (or auth.oidc.client_secret_file is)";
        return Err(Invalid::new("auth.oidc.client_secret", "", allowed));
    }
    if oidc.redirect_url.is_empty() && server.public_url.as_str().is_empty() {
        let allowed = "given together with auth.oidc.issuer, unless server.public_url is";
        return Err(Invalid::new("auth.oidc.redirect_url", "", allowed));
    }
    Ok(())
}

/// What is said there stays between us and them.
fn safe_url(text: &str) -> bool {
    let Ok(url) = url::Url::parse(text) else { return false };
    let here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    bare && (url.scheme() == "https" && url.host().is_some() || url.scheme() == "http" && here)
}

fn range(key: &str, value: u64, least: u64, most: u64) -> Result<(), Invalid> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(Invalid::new(key, &value.to_string(), &format!("an integer from {least} to {most}")))
    }
}
