//! A node that tells Kubernetes how many sessions its pod has. The API server is the test's own, over TLS.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use roundtable::config::Kubernetes;
use roundtable::jobs::pod_deletion_cost::{ApiServer, start};
use roundtable::metrics::Metrics;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::support::certificates::Authority;
use crate::support::node::Node;
use crate::support::{provider, until, within};

const OFTEN: Duration = Duration::from_millis(5);

/// One request, as it came.
#[derive(Debug)]
struct Seen {
    line: String,
    headers: HashMap<String, String>,
    body: Value,
}

impl Seen {
    fn cost(&self) -> &str {
        self.body["metadata"]["annotations"]["controller.kubernetes.io/pod-deletion-cost"].as_str().expect("a text")
    }
}

/// What stands for the API server.
struct Server {
    port: u16,
    seen: mpsc::UnboundedReceiver<Seen>,
    status: Arc<AtomicU16>,
}

impl Server {
    async fn start(authority: &Authority) -> Self {
        provider();
        let (certificate, key, _) = authority.pair(30);
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("a pair");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (tell, seen) = mpsc::unbounded_channel();
        let status = Arc::new(AtomicU16::new(200));
        let answers = status.clone();
        tokio::spawn(async move {
            while let Ok((plain, _)) = listener.accept().await {
                // Whoever does not trust it does not go on.
                let Ok(sealed) = acceptor.accept(plain).await else { continue };
                let mut stream = BufReader::new(sealed);
                let Some(seen) = read(&mut stream).await else { continue };
                let status = answers.load(Ordering::SeqCst);
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
                let _ = tell.send(seen);
            }
        });
        Self { port, seen, status }
    }

    fn address(&self) -> Option<ApiServer> {
        Some(ApiServer { host: "127.0.0.1".to_owned(), port: self.port })
    }

    async fn hears(&mut self) -> Seen {
        within("a request comes", self.seen.recv()).await.expect("it goes on")
    }
}

async fn read(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Seen> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers = lines.get(1..)?.iter().filter_map(|line| line.split_once(": "));
    let headers: HashMap<String, String> =
        headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    Some(Seen { line: lines[0].clone(), headers, body: serde_json::from_slice(&body).ok()? })
}

/// The folder that Kubernetes would mount.
fn account(authority: &Authority) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary directory");
    for (name, text) in [("token", "first\n"), ("namespace", "chat"), ("ca.crt", authority.pem())] {
        write(folder.path(), name, text);
    }
    folder
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("written");
}

fn settings(folder: &TempDir, name: &str) -> Kubernetes {
    Kubernetes {
        pod_deletion_cost: true,
        pod_name: name.to_owned(),
        account_folder: folder.path().display().to_string(),
    }
}

fn counted(metrics: &Metrics, outcome: &str) -> u64 {
    let line = format!("roundtable_pod_deletion_cost_updates_total{{outcome=\"{outcome}\"}} ");
    let text = metrics.render();
    text.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok()).expect("it is counted")
}

#[actix_rt::test]
async fn a_node_tells_what_its_pod_costs() {
    let authority = Authority::new();
    let folder = account(&authority);
    let mut server = Server::start(&authority).await;
    let node = Node::with(&[
        ("kubernetes.pod_deletion_cost", "true"),
        ("kubernetes.pod_name", "rt-7"),
        ("kubernetes.account_folder", &folder.path().display().to_string()),
        ("KUBERNETES_SERVICE_HOST", "127.0.0.1"),
        ("KUBERNETES_SERVICE_PORT", &server.port.to_string()),
    ])
    .await;
    let seen = server.hears().await;
    assert_eq!(seen.line, "PATCH /api/v1/namespaces/chat/pods/rt-7 HTTP/1.1");
    assert_eq!(seen.headers["content-type"], "application/merge-patch+json");
    assert_eq!(seen.headers["authorization"], "Bearer first");
    let annotations = json!({"controller.kubernetes.io/pod-deletion-cost": "0"});
    assert_eq!(seen.body, json!({"metadata": {"annotations": annotations}}));
    until("it is counted", || async {
        (node.metric("roundtable_pod_deletion_cost_updates_total{outcome=\"told\"}").await == 1.0).then_some(())
    })
    .await;
}

#[actix_rt::test]
async fn much_is_told_with_the_token_of_that_moment_and_little_is_not() {
    let authority = Authority::new();
    let folder = account(&authority);
    let (mut server, mut other) = (Server::start(&authority).await, Server::start(&authority).await);
    let (quiet, busy) = (Metrics::new(), Metrics::new());
    let (_stop, stopped) = watch::channel(false);
    quiet.sessions.set(500);
    assert!(start(&settings(&folder, "rt-1"), server.address(), &quiet, OFTEN, stopped.clone()));
    assert!(start(&settings(&folder, "rt-2"), other.address(), &busy, OFTEN, stopped));
    assert_eq!(server.hears().await.cost(), "500");

    write(folder.path(), "token", "second");
    quiet.sessions.set(545);
    // The other one has the same pace and has something to say each time: so long nothing comes of this one.
    for n in 1..=20 {
        let sessions = n % 2 * 1_000;
        busy.sessions.set(sessions);
        while other.hears().await.cost() != sessions.to_string() {}
    }
    assert!(server.seen.try_recv().is_err(), "a small change is not told");
    quiet.sessions.set(i64::from(i32::MAX) + 1_000);
    let seen = server.hears().await;
    assert_eq!((seen.cost(), seen.headers["authorization"].as_str()), ("2147483647", "Bearer second"));
    quiet.sessions.set(0);
    assert_eq!(server.hears().await.cost(), "0");
    until("all are counted", || async { (counted(&quiet, "told") == 3).then_some(()) }).await;
    assert_eq!(counted(&quiet, "failed"), 0);
}

#[actix_rt::test]
async fn what_fails_is_counted_and_tried_again() {
    let (authority, wrong) = (Authority::new(), Authority::new());
    let folder = account(&authority);
    write(folder.path(), "ca.crt", wrong.pem());
    let mut server = Server::start(&authority).await;
    server.status.store(403, Ordering::SeqCst);
    let metrics = Metrics::new();
    metrics.sessions.set(70);
    let (stop, stopped) = watch::channel(false);
    assert!(start(&settings(&folder, "rt-1"), server.address(), &metrics, OFTEN, stopped));
    until("it has tried", || async { (counted(&metrics, "failed") >= 2).then_some(()) }).await;
    assert!(server.seen.try_recv().is_err(), "a server that is not known is told nothing");

    write(folder.path(), "ca.crt", authority.pem());
    assert_eq!(server.hears().await.cost(), "70");
    assert_eq!(server.hears().await.cost(), "70", "a refusal is no end");
    assert_eq!(counted(&metrics, "told"), 0);
    server.status.store(200, Ordering::SeqCst);
    until("it is told", || async { (counted(&metrics, "told") == 1).then_some(()) }).await;
    stop.send_replace(true);
}

#[actix_rt::test]
async fn nobody_is_asked_where_it_is_off_or_there_is_no_kubernetes() {
    let authority = Authority::new();
    let folder = account(&authority);
    let server = Server::start(&authority).await;
    let (_stop, stopped) = watch::channel(false);
    let off = Kubernetes { pod_deletion_cost: false, ..settings(&folder, "rt-1") };
    assert!(!start(&off, server.address(), &Metrics::new(), OFTEN, stopped.clone()));
    assert!(!start(&settings(&folder, "rt-1"), None, &Metrics::new(), OFTEN, stopped));
    assert!(!Kubernetes::default().pod_deletion_cost);
}
